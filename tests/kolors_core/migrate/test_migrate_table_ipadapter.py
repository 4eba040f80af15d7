"""What becomes of the nodes of ComfyUI_IPAdapter_plus, and of the copy of it in ComfyUI-Kolors-MZ."""

from __future__ import annotations

import old_graphs
import pytest
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import inputs_of, kinds_of, nodes_of
from old_graphs import OldGraph


def test_picture_prompts():
    prompt, report = convert_graph(old_graphs.picture())
    assert inputs_of(prompt, "KolorsIPAdapterApply") == [
        {
            "model": ("KolorsUNETLoader", 0),
            "ipadapter": ("KolorsIPAdapterLoader", 0),
            "clip_vision": ("CLIPVisionLoader", 0),
            "image": ("EmptyImage", 0),
            "weight": 0.7,
            "start_at": 0.0,
            "end_at": 0.9,
            "weight_type": "linear",
        }
    ]
    assert any("black image" in line for line in report.notes)


@pytest.mark.parametrize(
    "kind, adapter",
    [("MZ_IPAdapterFaceID", "MZ_IPAdapterModelLoaderKolors"), ("IPAdapterFaceIDKolors", "IPAdapterModelLoader")],
)
def test_faces(kind, adapter, form):
    result, report = convert_graph(form(old_graphs.face(kind, adapter)))
    assert not [name for name in kinds_of(result) if "InsightFace" in name or name.startswith("IPAdapter")]
    assert any("antelopev2" in line for line in report.notes)
    if "nodes" not in result:
        (face,) = inputs_of(result, "KolorsFaceIDApply")
        assert "face_analysis" not in face and face["ipadapter"] == ("KolorsIPAdapterLoader", 0)
        assert inputs_of(result, "PreviewImage") == [{"images": ("KolorsFaceIDApply", 2)}]


def test_what_an_apply_node_cannot_do_here_is_said():
    changes = {"weight_type": "style transfer precise", "combine_embeds": "average", "embeds_scaling": "K+V"}
    graph = old_graphs.face("IPAdapterFaceIDKolors", "IPAdapterModelLoader", **changes, weight_kolors=0.85, weight=5)
    prompt, report = convert_graph(graph)
    (face,) = inputs_of(prompt, "KolorsFaceIDApply")
    assert (face["weight_type"], face["weight"]) == ("style", 3)
    notes = "\n".join(report.notes)
    for words in ("style transfer precise", "average", "K+V", "weight_kolors", "5"):
        assert words in notes


def test_adapter_nodes_of_ipadapter_plus_stay_where_they_work(form):
    """They take our MODEL; only the loader that MZ copied becomes theirs again."""
    result, report = convert_graph(form(old_graphs.picture("IPAdapterAdvanced")))
    assert nodes_of(result, "IPAdapterAdvanced") and nodes_of(result, "IPAdapterModelLoader")
    assert not nodes_of(result, "KolorsIPAdapterLoader")
    assert any("ComfyUI_IPAdapter_plus" in line for line in report.notes)


def test_an_adapter_from_a_unified_loader_stays_and_is_named(form):
    graph = OldGraph()
    unified = graph.node("IPAdapterUnifiedLoader", model=graph.unet(), preset="FACEID PLUS KOLORS")
    inputs = old_graphs.APPLIED | {"model": unified, "ipadapter": [unified[0], 1], "image": graph.image()}
    graph.sample(
        graph.node("IPAdapterFaceIDKolors", weight_faceidv2=1.0, weight_kolors=1.0, **inputs), *graph.prompts()
    )
    result, report = convert_graph(form(graph))
    assert nodes_of(result, "IPAdapterFaceIDKolors")
    assert "IPAdapterUnifiedLoader" in report.left[0] and "Load Kolors IP-Adapter" in report.left[0]
