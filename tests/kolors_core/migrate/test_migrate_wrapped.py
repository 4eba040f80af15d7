"""Graphs inside of other JSON."""

from __future__ import annotations

import json

import pytest
from comfyui_kolors.kolors_core.migrate import NotAGraph, convert_graph
from graph_files import as_canvas, kinds_of
from old_graphs import kijai, text_to_image

PROMPT, CANVAS = dict(text_to_image()), as_canvas(text_to_image())


def entry(prompt: dict, canvas: dict | None) -> dict:
    """One entry of the server's history."""
    extra = {"client_id": "x"} | ({"extra_pnginfo": {"workflow": canvas}} if canvas else {})
    return {"prompt": [3, "id", prompt, extra, ["9"]], "outputs": {"9": {"images": []}}, "status": {"completed": True}}


WRAPPED = {
    "history": {"id": entry(PROMPT, CANVAS)},
    "one entry of the history": entry(PROMPT, CANVAS),
    "queue": {"queue_running": [entry(PROMPT, CANVAS)["prompt"]], "queue_pending": []},
    "workflow": {"workflow": CANVAS},
    "workflow as text": {"workflow": json.dumps(CANVAS), "prompt": json.dumps(PROMPT)},
    "both": {"output": PROMPT, "workflow": CANVAS},
    "text": json.dumps(CANVAS),
    "metadata of a picture": {"meta": {"comfy": json.dumps({"prompt": PROMPT, "workflow": CANVAS})}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_canvas_comes_out_alone(name):
    before = json.dumps(WRAPPED[name])
    result, report = convert_graph(WRAPPED[name])
    assert result == convert_graph(CANVAS)[0]
    assert report.mapped and not any("graphs" in line for line in report.notes)
    assert json.dumps(WRAPPED[name]) == before


def test_a_history_without_canvas_gives_its_prompt():
    result, _ = convert_graph({"id": entry(PROMPT, None)})
    assert result == convert_graph(PROMPT)[0]


def test_the_newest_of_several_is_taken_and_said():
    result, report = convert_graph({"a": entry(dict(kijai()), as_canvas(kijai())), "b": entry(PROMPT, CANVAS)})
    assert result == convert_graph(CANVAS)[0]
    assert any("holds 2 graphs" in line and "last" in line for line in report.notes)


def test_a_request_stays_one_with_its_canvas():
    request = {"client_id": "x", "prompt": PROMPT, "extra_data": {"extra_pnginfo": {"workflow": CANVAS}}}
    before = json.dumps(request)
    result, report = convert_graph(request)
    assert json.dumps(request) == before
    assert result["client_id"] == "x" and result["prompt"] == convert_graph(PROMPT)[0]
    assert kinds_of(result["extra_data"]["extra_pnginfo"]["workflow"]) == kinds_of(convert_graph(CANVAS)[0])
    assert len(report.mapped) == 4


@pytest.mark.parametrize("data", [{"workflow": {}}, {"prompt": [1, "id", {}, {}, []]}, [[[[]]]], "[", "{}", {"a": "x"}])
def test_what_holds_no_graph_is_named(data):
    with pytest.raises(NotAGraph, match="not a graph of ComfyUI"):
        convert_graph(data)


def test_a_graph_too_deep_inside_is_named():
    data = CANVAS
    for _ in range(5000):
        data = [data]
    with pytest.raises(NotAGraph):
        convert_graph(data)
