"""What Kolors needs of cubiq/ComfyUI_IPAdapter_plus, and its copies: MinusZoneAI/ComfyUI-Kolors-MZ, and the V2 nodes.

Source: the node declarations of both, and of chflame163/ComfyUI_IPAdapter_plus_V2.
"""

from __future__ import annotations

from ..graph import Graph, Link, Node, Unmapped
from .mapping import OldNode, only_widget

WEIGHT_TYPES = {
    "linear": "linear",
    "ease in": "ease in",
    "ease out": "ease out",
    "ease in-out": "ease in-out",
    "style transfer": "style",
    "composition": "composition",
    "style and composition": "style and composition",
}
#: For weight types that have no equal here; any other becomes linear.
NEAREST_WEIGHT_TYPES = {
    "strong style transfer": "style",
    "style transfer precise": "style",
    "composition precise": "composition",
}
LOADERS = ("IPAdapterModelLoader", "IPAdapterModelLoaderV2", "MZ_IPAdapterModelLoaderKolors")
KEPT_INPUTS = ("model", "clip_vision", "image", "weight", "start_at", "end_at", "image_negative", "attn_mask")


def replace_adapter_loader(old: Node, graph: Graph) -> None:
    """For IPAdapter_plus' own Apply nodes; those of this pack get a loader from `_adapter_of`."""
    link = graph.add(old, "IPAdapterModelLoader", ipadapter_file=old.get("ipadapter_file"))
    graph.replace(old, {0: link})
    if graph.consumers(old):
        graph.report.note(old, "it still feeds nodes of ComfyUI_IPAdapter_plus, which must stay installed.")


def replace_insightface_loader(old: Node, graph: Graph) -> None:
    """For IPAdapter_plus' own nodes; the face node of this pack loads insightface by itself."""
    settings = {"provider": old.get("provider"), "model_name": "antelopev2"}
    graph.replace(old, {0: graph.add(old, "IPAdapterInsightFaceLoader", **settings)})


def replace_apply(old: Node, graph: Graph) -> None:
    link = _add_apply(old, graph, "KolorsIPAdapterApply")
    graph.replace(old, {0: link})
    _note_differences(old, graph, without_negative="an even grey, as Kolors' own code does")


def replace_face_apply(old: Node, graph: Graph) -> None:
    link = _add_apply(old, graph, "KolorsFaceIDApply")
    graph.replace(old, {0: link, 1: link.output(2)})
    _note_differences(old, graph, without_negative="zeros, as Kolors' own code does")


def _add_apply(old: Node, graph: Graph, kind: str) -> Link:
    adapter = _adapter_of(old, graph)
    kept = {name: old.get(name) for name in KEPT_INPUTS}
    return graph.add(old, kind, ipadapter=adapter, **kept, weight_type=_weight_type(old, graph))


def _adapter_of(old: Node, graph: Graph) -> Link:
    """The new loader for the adapter that an Apply node is given; one for all that are given the same."""
    loader = graph.source(old, "ipadapter")
    if loader is not None and loader.type == "KolorsIPAdapterLoader":
        return Link(loader, 0)
    if loader is None or loader.type not in LOADERS:
        raise Unmapped(
            f"its adapter comes from {loader or 'nowhere'}, which also provides other things. Load the Kolors adapter "
            "with 'Load Kolors IP-Adapter', and replace this node with 'Apply Kolors IP-Adapter' or 'Apply Kolors "
            "FaceID'."
        )
    owner = loader if loader in graph.nodes else old
    added = [node for node in graph.added.get(owner, ()) if node.type == "KolorsIPAdapterLoader"]
    if added:
        return Link(added[0], 0)
    link = graph.add_beside(owner, "KolorsIPAdapterLoader", ipadapter_name=only_widget(loader, "ipadapter_file"))
    link.node.stands_in = owner is loader
    graph.rename(loader, "ipadapter_file", link.node, "ipadapter_name")
    return link


def _weight_type(old: Node, graph: Graph) -> str:
    wanted = graph.typed(old, "weight_type", "linear")
    return WEIGHT_TYPES.get(wanted) or NEAREST_WEIGHT_TYPES.get(wanted, "linear")


def _note_differences(old: Node, graph: Graph, without_negative: str) -> None:
    """Note what of the old node's inputs has another effect, or none, in the new one."""

    def note(text: str) -> None:
        graph.report.note(old, text)

    wanted = graph.typed(old, "weight_type", "linear")
    if wanted not in WEIGHT_TYPES:
        note(
            f"weight_type {wanted!r} does not exist here; {_weight_type(old, graph)!r} is the closest. For the same "
            "image use the nodes of ComfyUI_IPAdapter_plus, which accept the MODEL of this pack."
        )
    combine, scaling = old.get("combine_embeds", "concat"), old.get("embeds_scaling", "V only")
    if combine != "concat":
        note(f"combine_embeds {combine!r} matters only for several images; here the model sees all of them.")
    if scaling != "V only":
        note(f"embeds_scaling {scaling!r} is dropped: here the weight scales V only.")
    for name in ("weight_faceidv2", "weight_kolors"):
        if old.get(name, 1) != 1:
            note(f"{name} {old.get(name)!r} has no counterpart; adjust weight instead.")
    if not isinstance(old.get("image_negative"), Link):
        note(f"without image_negative the old node used a black image; the new one uses {without_negative}.")
    if isinstance(old.get("insightface"), Link):
        note("the new node loads the face models itself: antelopev2 in models/insightface/models.")


APPLY = ("weight_type", "combine_embeds", "start_at", "end_at", "embeds_scaling")
NODES = {
    "MZ_IPAdapterAdvancedKolors": OldNode(("weight", *APPLY), replace_apply),
    "MZ_IPAdapterFaceID": OldNode(("weight", "weight_faceidv2", *APPLY), replace_face_apply),
    "IPAdapterFaceIDKolors": OldNode(("weight", "weight_faceidv2", "weight_kolors", *APPLY), replace_face_apply),
    "IPAdapterFaceIDKolorsV2": OldNode(("weight", "weight_faceidv2", "weight_kolors", *APPLY), replace_face_apply),
    "MZ_IPAdapterModelLoaderKolors": OldNode(("ipadapter_file",), replace_adapter_loader),
    "MZ_IPAdapterInsightFaceLoader": OldNode(("provider",), replace_insightface_loader),
}
