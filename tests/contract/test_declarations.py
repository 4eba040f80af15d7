"""What every node declares."""

from __future__ import annotations

import ast
import re

import pytest
from comfyui_kolors.devtools.texts import options_of
from house import CHINESE, node_classes, our_classes

PEER_IDS = re.compile(
    r"(MZ_.*|easy .*|DownloadAndLoadKolorsModel|DownloadAndLoadChatGLM3|LoadChatGLM3|KolorsTextEncode|KolorsSampler"
    r"|IPAdapterFaceIDKolors)$"
)


def node_faults(name: str, node: type) -> list[str]:
    """What a node's declaration lacks."""
    faults = [f"{field} is missing" for field in ("TITLE", "DESCRIPTION") if not getattr(node, field, "").strip()]
    if not getattr(node, "CATEGORY", "").startswith("Kolors/"):
        faults.append("CATEGORY does not begin with Kolors/")
    if not any(CHINESE.search(alias) for alias in getattr(node, "SEARCH_ALIASES", [])):
        faults.append("SEARCH_ALIASES has no Chinese alias")
    for field in ("RETURN_NAMES", "OUTPUT_TOOLTIPS"):
        texts = getattr(node, field, ())
        if len(texts) != len(node.RETURN_TYPES) or not all(texts):
            faults.append(f"{field} does not have a text for each of {len(node.RETURN_TYPES)} outputs")
    faults += [f"{key} has no tooltip" for key, options in options_of(node).items() if not options.get("tooltip")]
    declared = node.INPUT_TYPES()
    for key, (kind, *options) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        if kind in ("INT", "FLOAT") and not {"default", "min", "max"} <= set(*options):
            faults.append(f"{key} has no default or no range")
    if PEER_IDS.match(name):
        faults.append("the ID belongs to another pack")
    return faults


@pytest.mark.host
def test_node_declarations(mappings):
    faults = {name: node_faults(name, node) for name, node in mappings.classes.items()}
    assert not {name: found for name, found in faults.items() if found}
    assert mappings.titles == {name: node.TITLE for name, node in mappings.classes.items()}
    assert len(set(mappings.titles.values())) == len(mappings.titles), "two nodes have the same title"


@pytest.mark.host
def test_every_node_is_registered(mappings):
    assert sorted(our_classes()) == sorted(mappings.classes)


def test_node_ids_are_unique_and_ours():
    names = our_classes()
    assert len(set(names)) == len(names)
    assert not [name for name in names if PEER_IDS.match(name)]


class GoodNode:
    TITLE = "Good"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = "A node."
    SEARCH_ALIASES = ["good", "好"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"tooltip": "A text."})}}


@pytest.mark.parametrize(
    "fault",
    [
        {"TITLE": ""},
        {"DESCRIPTION": " "},
        {"CATEGORY": "loaders"},
        {"SEARCH_ALIASES": ["good"]},
        {"RETURN_NAMES": ()},
        {"OUTPUT_TOOLTIPS": ("",)},
        {"INPUT_TYPES": lambda: {"required": {"text": ("STRING",)}}},
        {"INPUT_TYPES": lambda: {"optional": {"text": ("STRING", {"default": ""})}}},
        {"INPUT_TYPES": lambda: {"required": {"steps": ("INT", {"default": 1, "min": 1, "tooltip": "Steps."})}}},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_node_rule_finds_faults(fault):
    assert not node_faults("GoodNode", GoodNode)
    assert len(node_faults("GoodNode", type("Bad", (GoodNode,), fault))) == 1


@pytest.mark.parametrize("name", ["KolorsSampler", "KolorsTextEncode", "LoadChatGLM3", "MZ_Anything"])
def test_node_rule_knows_the_ids_of_other_packs(name):
    assert node_faults(name, GoodNode) == ["the ID belongs to another pack"]


def test_node_classes_are_found_by_their_inputs():
    assert node_classes(ast.parse("class A:\n  def INPUT_TYPES(cls): pass\nclass B: pass")) == ["A"]
