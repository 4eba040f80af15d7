"""Nodes of other packs that take or give the older packs' own types."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas, subgraph_of
from old_graphs import OldGraph, kijai

TAKES = {"MultiEncode": ([("chatglm3_model", "CHATGLM3MODEL")], ["text"], ["CONDITIONING"])}
GIVES = {"OtherEncoder": ([], ["name"], ["CHATGLM3MODEL"])}


def test_a_node_that_takes_the_old_encoder_is_not_reported_as_fine(form):
    graph = OldGraph(TAKES)
    encoder = graph.node("MZ_ChatGLM3Loader", chatglm3_checkpoint="x")
    positive = graph.node("MultiEncode", chatglm3_model=encoder, text="a")
    graph.sample(graph.unet(), positive, graph.node("MZ_ChatGLM3_V2", chatglm3_model=encoder, text=""))
    _, report = convert_graph(form(graph))
    (line,) = report.left
    assert line.startswith(f"{positive[0]}: MultiEncode: it takes CHATGLM3MODEL") and "Kolors Prompt Encode" in line
    assert "NOT converted" in report.text()


def test_a_node_that_gives_the_old_encoder_is_named(form):
    graph = OldGraph(GIVES)
    encoder = graph.node("OtherEncoder", name="x")
    graph.sample(graph.unet(), *(graph.node("MZ_ChatGLM3_V2", chatglm3_model=encoder, text=text) for text in "ab"))
    _, report = convert_graph(form(graph))
    (line,) = report.left
    assert line.startswith("1: OtherEncoder: it gives CHATGLM3MODEL") and "Load Kolors ChatGLM3 Text Encoder" in line


def test_a_node_that_nothing_is_connected_to_is_named_on_the_canvas():
    graph = OldGraph(TAKES)
    graph.node("MultiEncode", text="a")
    graph.unet()
    _, report = convert_graph(as_canvas(graph))
    assert len(report.left) == 1


@pytest.mark.parametrize("build", [lambda: as_canvas(kijai()), lambda: subgraph_of(old_graphs.text_to_image())])
def test_what_only_passes_on_is_not_named(build):
    _, report = convert_graph(build())
    assert not report.left


@pytest.mark.parametrize("kind", ["SaveKolors", "SaveWeightAsKolorsUnet", "Save Weight As Kolors Unet"])
def test_nodes_that_save_get_a_sentence(kind, form):
    graph = OldGraph({kind: ([("model", "MODEL")], ["filename"], [])})
    graph.node(kind, model=graph.unet(), filename="x")
    _, report = convert_graph(form(graph))
    (line,) = report.notes
    assert line.startswith(f"2: {kind}:") and ("ModelSave" in line or "Save Checkpoint" in line)
    assert not report.left
