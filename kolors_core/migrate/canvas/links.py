"""The numbered links of a canvas: their numbers, and where nodes and boundaries list them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..graph import Graph, Link, Node, new_type
from ..shapes import SHAPES
from .fields import dict_at, list_at


def number_links(graph: Graph, written: dict[Node, dict], before: dict[int, dict]) -> dict[int, dict]:
    """All links by number. One keeps its number, and its other fields, while its source or its target stays."""
    links = {}
    last = max([0, *before])
    for node in graph.nodes:
        for slot, link in _linked_slots(node, written):
            number = link.id
            if number is None or number in links:
                last += 1
                number = last
            kind = before.get(number, {}).get("type", "*")
            if link.node.old is not None:
                kind = SHAPES[link.node.type].outputs[link.slot][1]
            links[number] = {
                **before.get(number, {}),
                "id": number,
                "origin_id": link.node.id,
                "origin_slot": link.slot,
                "target_id": node.id,
                "target_slot": slot,
                "type": new_type(kind),
            }
    return dict(sorted(links.items()))


def _linked_slots(node: Node, written: dict[Node, dict]) -> Iterator[tuple[int, Link]]:
    """The links into a node, with the number of the slot of each."""
    for key, value in node.values.items():
        if not isinstance(value, Link):
            continue
        if isinstance(key, tuple):  # the output boundary of a subgraph
            yield key[0], value
        elif isinstance(key, int):
            yield key, value
        else:
            yield next(i for i, slot in enumerate(written[node]["inputs"]) if slot["name"] == key), value


def list_in_nodes(written: dict[Node, dict], links: dict[int, dict]) -> None:
    """Write the numbers of the links into the slots of the nodes."""
    targets, origins = _numbers(links, "target"), _numbers(links, "origin")
    for node, raw in written.items():
        for index, slot in enumerate(list_at(raw, "inputs")):
            slot["link"] = next(iter(targets.get((node.id, index), ())), None)
        for index, slot in enumerate(list_at(raw, "outputs")):
            had_list = slot.get("links") is not None
            slot["links"] = origins.get((node.id, index)) or ([] if had_list else None)


def list_at_boundary(scope: dict, links: dict[int, dict]) -> None:
    """Write the numbers of the links into the inputs and outputs of a subgraph."""
    for name, boundary, end in (("inputs", "inputNode", "origin"), ("outputs", "outputNode", "target")):
        node = dict_at(scope, boundary).get("id")
        if node is None:
            continue
        numbers = _numbers(links, end)
        for index, slot in enumerate(list_at(scope, name)):
            slot["linkIds"] = numbers.get((node, index), [])


def _numbers(links: dict[int, dict], end: str) -> dict[tuple[Any, Any], list[int]]:
    """The numbers of the links by node and slot at their "origin" or "target"."""
    found: dict[tuple[Any, Any], list[int]] = {}
    for number, link in links.items():
        found.setdefault((link[f"{end}_id"], link[f"{end}_slot"]), []).append(number)
    return found
