"""The parts of a canvas file: its scopes, and the fields of nodes and links, any of which may be missing or damaged."""

from __future__ import annotations

from typing import Any

from ..graph import Node

LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
BOUNDARY = "(boundary of a subgraph)"  # the type that graphs give the two ends of a subgraph


def is_workflow(data: Any) -> bool:
    """Whether this is a canvas, or a subgraph."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list)


def is_boundary(node: Node) -> bool:
    return node.type == BOUNDARY


def is_id(value: Any) -> bool:
    """Whether this can be the id of a node."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def list_at(raw: dict, name: str) -> list:
    """A list of a node or graph; empty where it is missing or null."""
    return raw[name] if isinstance(raw.get(name), list) else []


def dict_at(raw: dict, name: str) -> dict:
    """A dictionary of a node or graph; empty where it is missing or null."""
    return raw[name] if isinstance(raw.get(name), dict) else {}


def link_fields(link: list | dict) -> dict[str, Any]:
    """A link by field names; files have it as a list or, in subgraphs and newer files, as a dictionary."""
    return link if isinstance(link, dict) else dict(zip(LINK_FIELDS, link))


def links_by_id(scope: dict) -> dict[int, dict[str, Any]]:
    return {link["id"]: link for link in map(link_fields, scope["links"])}


def scopes(workflow: dict) -> list[dict]:
    """The canvas and its subgraphs."""
    subgraphs = list_at(dict_at(workflow, "definitions"), "subgraphs")
    return [workflow, *(scope for scope in subgraphs if is_workflow(scope))]


def list_nodes(workflow: dict) -> list[tuple[Any, str]]:
    """The id and type of each node of the canvas and its subgraphs."""
    return [(raw["id"], raw["type"]) for scope in scopes(workflow) for raw in scope["nodes"]]
