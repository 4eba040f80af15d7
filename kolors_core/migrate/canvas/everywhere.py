"""Links that Use Everywhere makes while the graph is queued, for the old nodes of a scope.

Its nodes send what they get to every free input of the same type, so that a file shows no link. Newer versions note in
the file whom they reached, which counts; else their rules are followed as far as a file tells.
Source: chrisgoringe/cg-use-everywhere, ``use_everywhere_graph_analysis.js``, ``use_everywhere_classes.js`` and
``ue_properties.js`` (7.8), and ``use_everywhere_nodes.js`` of 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..graph import BYPASSED, EVERYWHERE, MUTED, Graph, Link, Node, skip_passing
from ..table import TABLE
from .fields import dict_at, links_by_id, list_at

#: What these send only where the name of the input fits, by the number of their own input; the others by type alone.
NAMED_SENDERS = {
    "Prompts Everywhere": (r"(_|\b)(positive|pos_|pos\b)|^prompt|正面", r"(_|\b)(negative|neg_|neg\b)|负面"),
}
SEED_SENDER, SEED_INPUTS = "Seed Everywhere", "seed|随机种"  # the only one that sends its own output


class Sent(NamedTuple):
    """An output that a node sends to the free inputs of a type whose title and name match."""

    source: Link
    type: str
    title: str
    name: str
    sender: Node

    def reaches(self, node: Node, slot: dict) -> bool:
        if "widget" in slot and self.sender.type not in (*NAMED_SENDERS, SEED_SENDER):
            return False
        title = str(node.raw.get("title") or node.type)
        name = str(slot.get("label") or slot.get("name"))
        return slot.get("type") == self.type and _matches(self.title, title) and _matches(self.name, name)


def connect(scope: dict, graph: Graph) -> None:
    """Give the old nodes the links that Use Everywhere would; where its rules leave a choice, none."""
    sent = [one for node in graph.nodes for one in _sent_by(node)]
    graph.sent = {one.type: str(one.sender) for one in sent}
    told = _told(scope, graph)
    for node in graph.nodes:
        if node.type not in TABLE or node.raw.get("mode") in (MUTED, BYPASSED):
            continue
        for index, slot in enumerate(node.slots("inputs")):
            name = str(slot.get("name"))
            if isinstance(node.values.get(name), Link):
                continue
            link = told.get((node.id, index)) or _choose([one for one in sent if one.reaches(node, slot)])
            if link:
                node.values[name] = link


def _sent_by(node: Node) -> Iterator[Sent]:
    if node.raw.get("mode") in (MUTED, BYPASSED):
        return
    if node.type == SEED_SENDER:
        yield Sent(Link(node, 0), "INT", "", SEED_INPUTS, node)
    for index, link in node.values.items():
        if not isinstance(link, Link) or not isinstance(index, int) or not (source := skip_passing(link)):
            continue
        kind = _type_of(source)
        if node.type in NAMED_SENDERS:
            for pattern in NAMED_SENDERS[node.type][index : index + 1]:
                yield Sent(link, kind, "", pattern, node)
        elif node.type in EVERYWHERE and not _is_restricted(node):
            title, name = _patterns(node)
            yield Sent(link, kind, title, name, node)


def _type_of(link: Link) -> str:
    slots = link.node.slots("outputs")
    return str(slots[link.slot].get("type")) if link.slot < len(slots) else ""


def _patterns(node: Node) -> tuple[str, str]:
    """The expressions for titles and for names of inputs."""
    rules = dict_at(dict_at(node.raw, "properties"), "ue_properties")
    if rules:
        return str(rules.get("title_regex") or ""), str(rules.get("input_regex") or "")
    typed = list_at(node.raw, "widgets_values") if node.type == "Anything Everywhere?" else []
    title, name, *_ = [*map(str, typed), "", ""]
    return title, name


def _is_restricted(node: Node) -> bool:
    """Whether it reaches only some groups or colours, or all but what it names."""
    properties = dict_at(node.raw, "properties")
    rules = dict_at(properties, "ue_properties") or properties
    typed = list_at(node.raw, "widgets_values") if node.type == "Anything Everywhere?" else []
    return (
        any(rules.get(name) for name in ("group_restricted", "color_restricted", "group_regex"))
        or any(value is True for name, value in rules.items() if name.endswith("_invert"))
        or any(value not in (".*", "") for value in typed[2:3])
    )


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # an expression that only a browser understands
        return False


def _choose(found: list[Sent]) -> Link | None:
    """The one that reaches an input; expressions go before those without."""
    found = [one for one in found if one.title or one.name] or found
    return found[0].source if len({one.source[:2] for one in found}) == 1 else None


def _told(scope: dict, graph: Graph) -> dict[tuple[Any, int], Link]:
    """The links that the file notes, by node and number of the input.

    They are listed apart or, in images of 2024, among the links, of which their targets then know nothing.
    """
    by_id = {str(node.id): node for node in graph.nodes}
    noted = [_noted_link(one) for one in list_at(dict_at(scope, "extra"), "ue_links") if isinstance(one, dict)]
    if any(node.type in EVERYWHERE for node in graph.nodes):
        noted += links_by_id(scope).values()
    told = {}
    for link in noted:
        source, target = (by_id.get(str(link[f"{end}_id"])) for end in ("origin", "target"))
        slot, into = link["origin_slot"], link["target_slot"]
        if source is None or target is None or type(slot) is not int or type(into) is not int:
            continue
        slots = target.slots("inputs")
        if 0 <= into < len(slots) and slots[into].get("type") == link.get("type"):
            told[target.id, into] = Link(source, slot)
    return told


def _noted_link(entry: dict) -> dict[str, Any]:
    """An entry of "ue_links" in the terms of a link."""
    ends = {"origin": "upstream", "target": "downstream"}
    link = {f"{end}_id": entry.get(name) for end, name in ends.items()}
    return link | {f"{end}_slot": entry.get(f"{name}_slot") for end, name in ends.items()} | {"type": entry.get("type")}
