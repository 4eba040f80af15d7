"""Converted graphs on a real server: those of tests/old_graphs.py, and the examples of the older packs.

The examples are other projects' files under other licences: they run where KOLORS_WRAPPER, KOLORS_MZ and
KOLORS_IPADAPTER_PLUS name checkouts, and are never part of this repository. With the last one that pack is loaded too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import client
import old_graphs
import pytest
import torch
from client import Client, Graph, PromptError
from comfyui_kolors.kolors_core.migrate import convert_graph, embedded
from comfyui_kolors.kolors_core.migrate.shapes import CONTROL, SHAPES
from comfyui_kolors.kolors_core.migrate.table import TABLE, Swap
from graph_files import as_canvas, canvas_faults, overlaps, to_prompt, unfolded
from migrated import CHECKOUTS, latents_of, run, with_tiny_files
from old_graphs import GRAPHS, kijai, text_to_image

pytestmark = pytest.mark.host

#: What makes a run small; the number of steps and the sizes of the examples change nothing about their nodes.
SMALL = {"width": 128, "height": 128, "steps": 2}


@pytest.fixture(scope="module")
def server(migrating) -> Client:
    return migrating


@pytest.fixture(scope="module")
def info(server) -> dict:
    """What the server says of every node."""
    return server.request("/object_info")


# ---- the table of shapes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if not kind.startswith(("easy", "IPAdapter"))])
def test_shapes_are_what_the_server_says(info, kind):
    assert not shape_faults(SHAPES[kind], info[kind])


def shape_faults(shape, said: dict) -> list[str]:
    """In what a shape differs from what the server says of the node."""
    declared = [
        (n, d, part == "optional") for part in ("required", "optional") for n, d in said["input"].get(part, {}).items()
    ]
    faults = []
    if [one.name for one in shape.inputs] != [name for name, *_ in declared]:
        faults.append(f"the inputs are {[name for name, *_ in declared]}")
    for one, (name, (kind, *options), optional) in zip(shape.inputs, declared):
        options = options[0] if options else {}
        choices = kind if isinstance(kind, list) else options.get("options", [])
        kind = "COMBO" if isinstance(kind, list) else kind
        if (one.type, one.optional) != (kind, optional):
            faults.append(f"{name} is {kind}, {optional=}")
        if one.choices and list(one.choices) != choices:
            faults.append(f"{name} is one of {choices}")
        if one.limits and (one.limits[0] < options["min"] or one.limits[1] > options["max"]):
            faults.append(f"{name} is from {options['min']} to {options['max']}")
        if one.limits and one.default != options["default"]:
            faults.append(f"{name} is {options['default']}")
        if one.control != bool(options.get(CONTROL)):
            faults.append(f"{name} has {CONTROL}: {not one.control}")
        if one.is_widget != (kind in ("COMBO", "INT", "FLOAT", "STRING")):
            faults.append(f"{name} is a widget: {not one.is_widget}")
    outputs = list(zip(said["output_name"], said["output"]))
    return faults + ([f"the outputs are {outputs}"] if [tuple(o) for o in outputs] != list(shape.outputs) else [])


def test_shape_rules_find_faults(info):
    said = info["KolorsKSampler"]
    for name, part, index, change in (
        ("seed", "required", 1, {CONTROL: False}),
        ("steps", "required", 1, {"max": 10}),
        ("cfg", "required", 1, {"default": 7.0}),
        ("sampler", "required", 0, ["euler"]),
        ("model", "required", 0, "CLIP"),
    ):
        bad = json.loads(json.dumps(said))
        declared = bad["input"][part][name]
        declared[index] = declared[index] | change if isinstance(change, dict) else change
        assert len(shape_faults(SHAPES["KolorsKSampler"], bad)) == 1, name
    assert shape_faults(SHAPES["KolorsKSampler"], said | {"output": ["MODEL"]})


# ---- graphs of the tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_a_converted_graph_runs(server, info, name):
    """In canvas format, turned into a prompt as the front end does; the API format computes the same."""
    canvas, _ = convert_graph(as_canvas(GRAPHS[name]()))
    prompt, _ = convert_graph(GRAPHS[name]())
    from_canvas = with_tiny_files(to_prompt(canvas, info))
    assert unfolded(with_tiny_files(prompt), info) == unfolded(from_canvas, info)
    entry = run(server, from_canvas)
    assert any({"latents", "images"} & saved.keys() for saved in entry["outputs"].values())


def test_prompts_of_one_batch_are_what_they_are_alone(server):
    together, alone = (
        latents_of(server, with_tiny_files(convert_graph(kijai(text, images=2))[0]))[0]
        for text in ("a red apple|a blue bird|girl", "a red apple")
    )
    assert len(together) == 6 and torch.equal(together[:2], alone)
    assert not torch.equal(together[0], together[1]) and not torch.equal(together[0], together[2])


def test_what_is_not_converted_is_refused_by_name(server):
    graph = kijai()
    graph["3"]["class_type"] = "UnknownEncoder"
    prompt, report = convert_graph(graph)
    assert "UnknownEncoder" in report.text()
    with pytest.raises(PromptError, match=r"UnknownEncoder|KolorsSampler"):
        server.run(Graph(with_tiny_files(prompt)))


# ---- hosts that replace nodes by themselves -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replacements(server) -> dict:
    try:
        return server.request("/node_replacements") or pytest.skip("this ComfyUI replaces no nodes by itself")
    except ValueError:  # the answer of older hosts is no JSON
        pytest.skip("this ComfyUI replaces no nodes by itself")


SWAPS = [kind for kind, old in TABLE.items() if isinstance(old.mapping, Swap)]


@pytest.mark.parametrize("kind", SWAPS)
def test_a_replacement_fits_the_new_node(replacements, info, kind):
    (said,) = replacements[kind]
    slots, widgets, outputs = old_graphs.DECLARED[kind]
    declared = info[said["new_node_id"]]
    mapped = {one["new_id"]: one for one in said["input_mapping"]}
    required = declared["input"]["required"]
    assert said["old_widget_ids"] == widgets
    assert set(required) <= set(mapped) <= {*required, *declared["input"].get("optional", {})}
    assert {one["old_id"] for one in mapped.values() if "old_id" in one} <= {name for name, _ in slots} | set(widgets)
    for one in said["output_mapping"]:
        old = {"CHATGLM3MODEL": "CLIP"}.get(outputs[one["old_idx"]], outputs[one["old_idx"]])
        assert declared["output"][one["new_idx"]] == old


def test_no_other_node_is_replaced(replacements):
    ours = {kind for kind, found in replacements.items() if any(one["new_node_id"] in SHAPES for one in found)}
    assert ours & set(TABLE) == set(SWAPS)


def sdxl_schedule() -> old_graphs.OldGraph:
    graph = old_graphs.OldGraph()
    graph.sample(graph.node("MZ_ApplySDXLSamplingSettings", model=graph.unet()), *graph.prompts())
    return graph


@pytest.mark.parametrize(
    "build",
    [text_to_image, old_graphs.checkpoint, old_graphs.sizes, sdxl_schedule],
    ids=lambda f: f.__name__,
)
def test_an_old_prompt_runs_as_it_is(server, replacements, build):
    old = with_tiny_files(build())
    (expected,) = latents_of(server, with_tiny_files(convert_graph(build())[0]))
    (found,) = latents_of(server, old)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("number", range(12))
def test_the_order_of_replacements_does_not_matter(server, replacements, number):
    """The host takes the nodes in the order of a set of their ids, and looks at inputs that it has renamed."""
    old = with_tiny_files(old_graphs.checkpoint())
    names = {key: f"{number}{key}" for key in old}
    for node in old.values():
        inputs = node["inputs"]
        node["inputs"] = {n: [names[v[0]], v[1]] if isinstance(v, list) else v for n, v in inputs.items()}
    assert len(latents_of(server, {names[key]: node for key, node in old.items()})) == 1


def test_an_old_prompt_is_refused_where_nothing_is_replaced(server):
    """And the pack has loaded: nothing of this fails on older hosts."""
    if not isinstance(server.request("/object_info/KolorsUNETLoader"), dict):
        pytest.fail("the pack did not load")
    graph = text_to_image()
    graph["1"]["class_type"] = "MZ_NoSuchNode"
    with pytest.raises(PromptError, match="MZ_NoSuchNode"):
        server.run(Graph(with_tiny_files(graph)))


# ---- examples of the older packs ------------------------------------------------------------------------------------


def examples() -> list[tuple[str, Path]]:
    """The graphs of the checkouts: JSON files with nodes, and PNGs that hold a graph."""
    found = []
    for name, checkout in CHECKOUTS.items():
        folder = Path(checkout) / "examples" if checkout else None
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".png")) if folder else []
        found += [(name, path) for path in files]
    return found


def read_graph(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(embedded.read_graph(content) or content)


EXAMPLES = examples()


@pytest.mark.parametrize("name", CHECKOUTS)
def test_the_checkouts_hold_examples(name):
    if not CHECKOUTS[name]:
        pytest.skip(f"no examples: set {name} to a checkout")
    assert any(found == name for found, _ in EXAMPLES)


@pytest.mark.skipif(not EXAMPLES, reason=f"no examples: set {', '.join(CHECKOUTS)} to checkouts")
@pytest.mark.parametrize(
    "path", [path for _, path in EXAMPLES] or [None], ids=[f"{name}-{path.stem}" for name, path in EXAMPLES] or ["none"]
)
def test_an_example_converts_and_runs(server, info, path, monkeypatch):
    """Runs where the server knows every node; the nodes that it does not know are named in the report."""
    old = read_graph(path)
    new, report = convert_graph(old)
    old_kinds = {node["type"] for node in old["nodes"]} & set(TABLE)
    assert not {node["type"] for node in new["nodes"]} & set(TABLE) and not report.left
    assert not new_overlaps(old, new) and not canvas_faults(new, overlapping=True)
    if not old_kinds:
        assert new == old
        pytest.skip("no node of the older Kolors packs in it")
    prompt = with_tiny_files(to_prompt(new, info))
    for node in prompt.values():
        node["inputs"] |= {
            n: v for n, v in SMALL.items() if n in node["inputs"] and not isinstance(node["inputs"][n], list)
        }
    unknown = sorted({node["class_type"] for node in prompt.values()} - set(info))
    if unknown:
        assert all(re.search(rf"^  (\d+ x )?{re.escape(kind)}$", report.text(), re.MULTILINE) for kind in unknown)
        pytest.skip(f"converted; not run, this server does not know {', '.join(unknown)}")
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 600)  # the vision tower and IPAdapter_plus have their full size
    entry = run(server, prompt)
    assert any("images" in saved for saved in entry["outputs"].values())


def new_overlaps(old: dict, new: dict) -> list[str]:
    """Nodes that lie on each other now and did not before."""
    return sorted(overlaps(new) - overlaps(old))
