"""Room on the canvas for added nodes, and the frames of groups."""

from __future__ import annotations

import json

import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, box, members
from old_graphs import GRAPHS, kijai, text_to_image


def test_a_group_still_holds_its_nodes():
    old = as_canvas(kijai("a|b|c"))
    old["groups"] = [{"title": "Sampling", "bounding": [-40, -80, 1500, 560]}]
    new, _ = convert_graph(old)
    x, y, width, height = new["groups"][0]["bounding"]
    kept = {node["id"] for node in old["nodes"]}
    for left, top, wide, high in (box(node) for node in new["nodes"] if node["id"] in kept):
        assert x <= left and y <= top and left + wide <= x + width and top + high <= y + height


def test_a_frame_away_from_converted_nodes_stays():
    old = as_canvas(text_to_image())
    stock = {"type": "LoadImage", "inputs": [], "outputs": [], "mode": 0, "properties": {}}
    old["nodes"] += [
        stock | {"id": 90, "pos": [-980, 60], "size": [300, 300]},
        stock | {"id": 91, "pos": [-980, 445], "size": [300, 600]},
    ]
    old["groups"] = [{"title": "only the upper one", "bounding": [-1000, 0, 400, 400]}]
    new, _ = convert_graph(old)
    assert new["groups"] == old["groups"]
    assert members(new, new["groups"][0]) == {90}


@pytest.mark.parametrize("name", GRAPHS)
def test_frames_keep_their_members(name):
    """One frame over everything, one around each node, and one over the left half with a node that overhangs."""
    old = as_canvas(GRAPHS[name]())
    frames = [[-200, -200, 9000, 9000], [-60, -60, 700, 9000]]
    frames += [[left - 5, top - 5, wide + 10, high + 10] for left, top, wide, high in map(box, old["nodes"])]
    old["groups"] = [{"title": str(index), "bounding": frame} for index, frame in enumerate(frames)]
    new, _ = convert_graph(json.loads(json.dumps(old)))
    there = {node["id"] for node in old["nodes"]} & {node["id"] for node in new["nodes"]}
    for before, after in zip(old["groups"], new["groups"]):
        assert members(old, before) & there == members(new, after) & there, before["title"]


def test_a_frame_moves_down_with_all_of_its_nodes():
    old = as_canvas(kijai("a|b|c"))
    (left, top, wide, high) = max((box(node) for node in old["nodes"]), key=lambda one: (one[0] == 0, one[1]))
    old["groups"] = [{"title": "low", "bounding": [left - 5, top - 5, wide + 10, high + 10]}]
    (id,) = members(old, old["groups"][0])
    new, _ = convert_graph(old)
    frame, node = new["groups"][0]["bounding"], next(node for node in new["nodes"] if node["id"] == id)
    assert frame[1] == box(node)[1] - 5 and frame[1] >= top - 5


def test_a_frame_in_a_frame_stays_in_it():
    old = as_canvas(kijai("a|b|c|d|e"))
    inner, outer = [-20, -20, 310, 700], [-40, -40, 350, 740]
    old["groups"] = [{"title": "outer", "bounding": outer}, {"title": "inner", "bounding": inner}]
    new, _ = convert_graph(old)
    (x, y, width, height), (u, v, wide, high) = (group["bounding"] for group in new["groups"])
    assert x <= u and y <= v and u + wide <= x + width and v + high <= y + height
