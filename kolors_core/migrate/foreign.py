"""Nodes of other packs that take or give what only the older packs had; no conversion can reach into them."""

from __future__ import annotations

from collections.abc import Iterator

from .graph import EVERYWHERE, PASSING, Graph, Link, Node, skip_passing
from .table import TABLE
from .table.wrapper import is_namesake

#: The older packs' own types, what comes in their place, and which node of this pack takes or gives that.
TYPES = {
    "KOLORSMODEL": ("MODEL", "'Kolors KSampler' or another sampler", "'Load Kolors UNet'"),
    "CHATGLM3MODEL": ("CLIP", "'Kolors Prompt Encode'", "'Load Kolors ChatGLM3 Text Encoder'"),
    "KOLORS_EMBEDS": ("CONDITIONING", "'Kolors KSampler' or another sampler", "'Kolors Prompt Encode'"),
}
#: Nodes that stay, and what to know of them.
ADVICE = {
    "SaveKolors": "it saves the UNet and the VAE. ComfyUI's own 'Save Checkpoint' saves the text encoder as well.",
    "SaveWeightAsKolorsUnet": "it puts the text projection of the published model into the file, not that of this one. "
    "ComfyUI's own ModelSave saves the UNet as it is.",
}
INPUTS = {"kolors_model": "KOLORSMODEL", "chatglm3_model": "CHATGLM3MODEL", "kolors_embeds": "KOLORS_EMBEDS"}


def report_foreign(graph: Graph) -> None:
    """Name every node that stays although it takes or gives such a type, which the server would refuse."""
    known = TABLE.keys() | PASSING | EVERYWHERE | graph.boxes
    given: dict[Node, list[str]] = {}
    for source, kind in (one for node in graph.nodes if node.type in TABLE for one in _given_to(node)):
        given.setdefault(source, []).append(kind)
    for node in (node for node in graph.nodes if node.type not in known):
        if node.type.replace(" ", "") in ADVICE:
            graph.report.note(node, ADVICE[node.type.replace(" ", "")])
        for kind in dict.fromkeys([*_slot_types(node, "inputs"), *_taken_by(node)]):
            new, taker, _ = TYPES[kind]
            _leave(graph, node, f"it takes {kind}, in whose place there is {new} now", taker)
        for kind in dict.fromkeys([*_slot_types(node, "outputs"), *given.get(node, ())]):
            new, _, giver = TYPES[kind]
            _leave(graph, node, f"it gives {kind}, where {new} is needed now", giver)


def _leave(graph: Graph, node: Node, what: str, instead: str) -> None:
    graph.report.leave(node, f"{what}. Unless it accepts any type, replace it with {instead}.")


def _slot_types(node: Node, part: str) -> Iterator[str]:
    """The older packs' types of a node's slots on the canvas."""
    kinds = (slot.get("type") for slot in node.slots(part))
    return (kind for kind in kinds if isinstance(kind, str) and kind in TYPES)


def _taken_by(node: Node) -> Iterator[str]:
    """The older packs' types that come from their nodes."""
    for link in filter(None, map(skip_passing, node.links)):
        kind = TABLE[link.node.type].gives if link.node.type in TABLE and link.slot == 0 else ""
        if kind and not (kind == "KOLORS_EMBEDS" and is_namesake(link.node)):
            yield kind


def _given_to(old: Node) -> Iterator[tuple[Node, str]]:
    """The nodes behind the inputs of a node of the older packs, with the type of each."""
    for name, kind in INPUTS.items():
        link = old.get(name)
        if isinstance(link, Link) and (source := skip_passing(link)):
            yield source.node, kind
