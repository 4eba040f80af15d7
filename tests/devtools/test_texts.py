"""What is written from the declarations of the nodes says what they say: `python3 dev.py texts` was run."""

from __future__ import annotations

import json

import pytest
from comfyui_kolors.devtools import texts
from house import ROOT, flatten


def differences(found: object, expected: object) -> list[str]:
    """The keys in which two files differ, with what both have there."""
    ours, theirs = flatten(found), flatten(expected)
    keys = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    return [f"{key}\n    file:         {ours.get(key)}\n    declarations: {theirs.get(key)}" for key in keys]


@pytest.fixture(scope="module")
def derived(mappings) -> dict[str, str]:
    return texts.derived()


@pytest.mark.host
@pytest.mark.parametrize("place", [texts.LOCALE, texts.SHAPES])
def test_a_file_is_what_the_nodes_declare(derived, place):
    text = (ROOT / place).read_text(encoding="utf-8")
    found = differences(json.loads(text), json.loads(derived[place]))
    assert not found, f"{place} differs; run {texts.COMMAND}\n" + "\n".join(found)
    assert text == derived[place], f"{place} is laid out in another way; run {texts.COMMAND}"


def test_differences_are_found():
    found = {"N": {"display_name": "Other", "inputs": [{"name": "a"}]}}
    assert not differences(found, found)
    assert "Load" in differences(found, {"N": {"display_name": "Load", "inputs": [{"name": "a"}]}})[0]
    assert differences(found, {"N": {"display_name": "Other", "inputs": [{"name": "b"}]}})
    assert differences(found, {}) and differences({}, found)


class Node:
    TITLE, DESCRIPTION = "Good", "A node."
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MODEL",), ("model",), ("The model.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (["mine.safetensors"], {"tooltip": "A file."}),
                "kind": (["a", "b"], {"default": "b"}),
                "seed": ("INT", {"default": 1, "min": 0, "max": 9, "control_after_generate": True}),
            },
            "optional": {"text": ("STRING", {"multiline": True}), "clip": ("CLIP",)},
        }


def test_a_shape_has_what_a_canvas_needs_and_no_name_of_a_file():
    assert texts.shape(Node, "pack") == {
        "pack": "pack",
        "inputs": [
            {"name": "file", "type": "COMBO", "default": ""},
            {"name": "kind", "type": "COMBO", "default": "b", "choices": ["a", "b"]},
            {"name": "seed", "type": "INT", "default": 1, "limits": [0, 9], "control": True},
            {"name": "text", "type": "STRING", "optional": True, "default": ""},
            {"name": "clip", "type": "CLIP", "optional": True},
        ],
        "outputs": [["model", "MODEL"]],
    }
    del (unnamed := type("Unnamed", (), dict(vars(Node)))).RETURN_NAMES
    assert texts.shape(unnamed, "pack")["outputs"] == [["MODEL", "MODEL"]]


def test_a_combination_is_read_in_both_ways_of_declaring_it():
    new = type(
        "New", (Node,), {"INPUT_TYPES": lambda: {"required": {"k": ("COMBO", {"options": ["a"], "default": "a"})}}}
    )
    old = type("Old", (Node,), {"INPUT_TYPES": lambda: {"required": {"k": (["a"], {"default": "a"})}}})
    assert texts.shape(new, "p") == texts.shape(old, "p")


def test_a_stock_node_keeps_the_narrower_limits():
    wide, kept = ({"inputs": [{"name": "n", "limits": limits}, {"name": "slot"}]} for limits in ([-9, 50], [0, 63]))
    assert texts.narrow(wide, kept)["inputs"][0]["limits"] == [0, 50]
    assert texts.narrow(kept, {})["inputs"][0]["limits"] == [0, 63]


def test_only_files_that_differ_are_written(tmp_path):
    (tmp_path / "same.json").write_text("{}\n", encoding="utf-8")
    wanted = {"same.json": "{}\n", "other.json": "[]\n"}
    assert texts.write(tmp_path, wanted) == ["other.json"] and texts.write(tmp_path, wanted) == []
    assert (tmp_path / "other.json").read_bytes() == b"[]\n"
