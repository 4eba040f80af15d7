"""Graphs in API format."""

from __future__ import annotations

from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import nodes_of
from old_graphs import text_to_image


def test_a_posted_prompt_keeps_its_envelope():
    new, _ = convert_graph({"prompt": text_to_image(), "client_id": "x"})
    assert new["client_id"] == "x" and nodes_of(new["prompt"], "KolorsUNETLoader")
