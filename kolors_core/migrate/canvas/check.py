"""Whether a canvas file can be read at all."""

from __future__ import annotations

from typing import Any

from .fields import is_id, link_fields, list_at, scopes

EXCERPT = 200  # characters of a damaged part that a message quotes


def find_fault(workflow: dict) -> str | None:
    """What is damaged in a canvas or its subgraphs; None if both can be read."""
    for scope in scopes(workflow):
        faults = [*map(_node_fault, scope["nodes"]), *map(_link_fault, scope["links"])]
        if fault := next(filter(None, faults), None):
            return fault
        for name in ("inputs", "outputs"):
            if not all(isinstance(slot, dict) for slot in list_at(scope, name)):
                return f"the {name} of the subgraph {scope.get('name')} are damaged"
        if len({raw["id"] for raw in scope["nodes"]}) < len(scope["nodes"]):
            return "two nodes have the same id"
    return None


def _node_fault(raw: Any) -> str | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str) or not is_id(raw.get("id")):
        return f"a node has no type or no id: {str(raw)[:EXCERPT]}"
    for name in ("inputs", "outputs"):
        if not all(isinstance(slot, dict) for slot in list_at(raw, name)):
            return f"the {name} of node {raw['id']} ({raw['type']}) are damaged"
    return None


def _link_fault(link: Any) -> str | None:
    fields = link_fields(link) if isinstance(link, (list, dict)) else {}
    numbers = (fields.get(name) for name in ("id", "origin_slot", "target_slot"))
    ids = (fields.get(name) for name in ("origin_id", "target_id"))
    if all(type(number) is int for number in numbers) and all(map(is_id, ids)):
        return None
    return f"a link is damaged: {str(link)[:EXCERPT]}"
