"""Room on the canvas for added nodes."""

from __future__ import annotations

from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, box
from old_graphs import kijai


def test_a_group_still_holds_its_nodes():
    old = as_canvas(kijai("a|b|c"))
    old["groups"] = [{"title": "Sampling", "bounding": [-40, -80, 1500, 560]}]
    new, _ = convert_graph(old)
    x, y, width, height = new["groups"][0]["bounding"]
    kept = {node["id"] for node in old["nodes"]}
    for left, top, wide, high in (box(node) for node in new["nodes"] if node["id"] in kept):
        assert x <= left and y <= top and left + wide <= x + width and top + high <= y + height
