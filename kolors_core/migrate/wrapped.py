"""Graphs inside of other JSON: as they are posted, in the server's history, or beside other data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from . import canvas
from .prompt import is_prompt

DEPTH = 10  # of lists and dictionaries around a graph


def parse(text: str | bytes) -> Any:
    """JSON in any of its encodings, with null for NaN and Infinity, which no browser reads. Raises ValueError."""
    return json.loads(text, parse_constant=lambda name: None)


def is_request(data: Any) -> bool:
    """Whether this is a prompt as it is posted to a server, perhaps with its canvas among the extra data."""
    return isinstance(data, dict) and is_prompt(data.get("prompt")) and not _is_graph(_parsed(data.get("workflow")))


def find_graphs(data: Any) -> list[dict]:
    """The graphs inside of `data`, in its order: all canvases or, where there is none, all prompts."""
    graphs = list(_walk(data, DEPTH))
    return [graph for graph in graphs if canvas.is_workflow(graph)] or graphs


def _walk(data: Any, depth: int) -> Iterator[dict]:
    data = _parsed(data)
    if _is_graph(data):
        yield data
    elif depth:
        inside = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
        for value in inside:
            yield from _walk(value, depth - 1)


def _is_graph(data: Any) -> bool:
    return canvas.is_workflow(data) or is_prompt(data)


def _parsed(data: Any) -> Any:
    """JSON that stands in a text, as images and databases hold it."""
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            return parse(data)
        except (ValueError, RecursionError):
            pass
    return data
