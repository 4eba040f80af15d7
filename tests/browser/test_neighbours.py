"""Nodes of other packs that the page alone knows: what the page sends for a graph that a script changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from client import KolorsGraph
from comfyui_kolors.devtools.neighbours.command import ask_page

pytestmark = [pytest.mark.host, pytest.mark.browser]

REROUTED = """
  const reroute = make("Reroute");
  target.disconnectInput(slot);
  source.connect(0, reroute, 0);
  reroute.connect(0, target, slot);
"""


def test_the_page_sends_the_graph_that_a_script_has_changed(server, launch):
    graph = KolorsGraph()
    graph.save = graph.add("SaveLatent", samples=graph.sample(), filename_prefix="x")
    scripts = [REROUTED, "target.disconnectInput(slot);", "make('NoSuchNode');"]
    asked = [{"prompt": graph, "script": script, "loader": "KolorsUNETLoader"} for script in scripts]
    rerouted, cut, failed = ask_page(Path(sys.executable), server, asked)
    kinds = {key: node["class_type"] for key, node in rerouted["prompt"].items()}
    assert "Reroute" not in kinds.values()
    (sampler,) = (node for node in rerouted["prompt"].values() if node["class_type"] == "KSampler")
    assert kinds[sampler["inputs"]["model"][0]] == "KolorsUNETLoader"
    assert not [node for node in cut["prompt"].values() if "model" in node["inputs"]]
    assert "there is no node NoSuchNode here" in failed["error"]
