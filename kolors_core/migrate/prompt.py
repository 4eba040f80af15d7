"""The API format: nodes by id, each with its inputs by name."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Link, Node, number_added
from .report import Report
from .shapes import CONTROL


def is_prompt(data: Any) -> bool:
    """Whether these are the nodes of a graph in API format."""
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in data.values())
    )


def read_prompt(prompt: dict, report: Report) -> Graph:
    nodes = {id: Node(raw["class_type"], {}, id, raw) for id, raw in prompt.items()}
    for node in nodes.values():
        for name, value in _inputs(node.raw).items():
            node.values[name] = _read_link(value, nodes) or value
    return Graph(nodes.values(), report, on_canvas=False)


def _inputs(raw: dict) -> dict[str, Any]:
    return raw["inputs"] if isinstance(raw.get("inputs"), dict) else {}


def _read_link(value: Any, nodes: dict[str, Node]) -> Link | None:
    """The Link that an input holds as [id, slot]; None where it holds a value."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    id, slot = str(value[0]), value[1]
    return Link(nodes[id], slot) if isinstance(slot, int) and id in nodes else None


def write_prompt(graph: Graph) -> dict:
    """The graph in API format; nodes of the file and those in their place come first, added ones after them."""
    _number_nodes(graph)
    return {node.id: _write_node(node) for node in sorted(graph.nodes, key=_is_beside)}


def _number_nodes(graph: Graph) -> None:
    numbers = [int(node.id) for node in [*graph.nodes, *graph.outputs] if str(node.id).isdecimal()]
    number_added(graph.nodes, max(numbers, default=0), str)


def _is_beside(node: Node) -> bool:
    """Whether a node was added without taking the place of its predecessor."""
    return node.old is not None and not node.stands_in


def _write_node(node: Node) -> dict:
    if node.old is None:
        kept = node.raw
    else:
        kept = {"_meta": node.old.raw["_meta"]} if node.stands_in and "_meta" in node.old.raw else {}
    inputs = {
        name: [value.node.id, value.slot] if isinstance(value, Link) else value
        for name, value in node.values.items()
        if name != CONTROL
    }
    return {**kept, "inputs": inputs, "class_type": node.type}
