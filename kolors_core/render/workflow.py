"""The graph that is rendered: in API format, from a file of its own or out of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import KolorsError
from ..migrate.embedded import read_graph
from ..migrate.prompt import is_prompt
from ..migrate.wrapped import find_graphs, is_request, parse

Graph = dict[str, dict[str, Any]]  # {"class_type": ..., "inputs": {...}, "_meta": {"title": ...}} by the node's id

EXPORT = "In ComfyUI choose File > Export (API), and give that file, or give an image that ComfyUI saved."


def read_workflow(path: Path) -> Graph:
    """The API graph in a .json, or in an image that ComfyUI saved.

    Raises KolorsError that says what the file is instead.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KolorsError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        found = read_graph(content, ("prompt", "workflow"))
    except ValueError as error:
        raise KolorsError(f"{path} {error}. Expected a workflow. {EXPORT}") from error
    try:
        data = parse(content if found is None else found)
    except (ValueError, RecursionError) as error:
        raise KolorsError(f"{path} is neither JSON ({error}) nor an image with a workflow in it. {EXPORT}") from error
    if is_request(data):
        data = data["prompt"]
    graphs = [data] if is_prompt(data) else find_graphs(data)
    if not graphs:
        raise KolorsError(f"{path} is JSON, but not a workflow. {EXPORT}")
    if not is_prompt(graphs[-1]):
        raise KolorsError(
            f"{path} holds a canvas (nodes with positions), which only ComfyUI's page can make a graph of. {EXPORT}"
        )
    return {str(id): _plain(node) for id, node in graphs[-1].items()}


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    """A node without what ComfyUI adds while it runs."""
    inputs = node.get("inputs")
    kept = {"class_type": node["class_type"], "inputs": dict(inputs) if isinstance(inputs, dict) else {}}
    return kept | ({"_meta": node["_meta"]} if isinstance(node.get("_meta"), dict) else {})


def link(value: Any, graph: Graph) -> str | None:
    """The node that an input is connected to; None where it holds a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in graph:
        return str(value[0])
    return None


def links(node: dict[str, Any], graph: Graph) -> dict[str, str]:
    """The connected inputs of a node, and the nodes that they come from."""
    found = {name: link(value, graph) for name, value in node["inputs"].items()}
    return {name: source for name, source in found.items() if source is not None}


def title(id: str, graph: Graph) -> str:
    """What a user calls a node."""
    meta = graph[id].get("_meta", {}).get("title")
    return meta if isinstance(meta, str) and meta else graph[id]["class_type"]


def ancestors(ids: list[str], graph: Graph) -> set[str]:
    """These nodes and all that they depend on."""
    found, waiting = set[str](), list(ids)
    while waiting:
        id = waiting.pop()
        if id not in found:
            found.add(id)
            waiting += links(graph[id], graph).values()
    return found
