"""Conversion of graphs that were made for the older Kolors packs; plain Python without torch and without ComfyUI.

    python -m kolors_core.migrate old.json new.json

`table` says what becomes what, `graph` and `canvas` read and write the two file formats, `shapes` knows the new nodes.
"""

from __future__ import annotations

from typing import Any

from . import canvas
from .graph import Graph, Link, Unmapped, is_prompt, read_prompt, skip_reroutes, write_prompt
from .report import Report
from .table import REMOVABLE, RETYPED, TABLE


class NotAGraph(ValueError):
    """The data are not a graph of ComfyUI; the text says what was expected."""


def convert(data: Any) -> tuple[Any, Report]:
    """A graph in canvas or in API format with the nodes of this pack, and what there is to say about it.

    `data`, as read from JSON, stays as it is. Raises NotAGraph.
    """
    report = Report()
    if canvas.is_workflow(data):
        graphs = canvas.read(data, report)
        for graph in graphs:
            _convert(graph)
        result = canvas.write(data, graphs)
    elif is_prompt(data) or (isinstance(data, dict) and is_prompt(data.get("prompt"))):  # as it is posted
        graph = read_prompt(data if is_prompt(data) else data["prompt"], report)
        _convert(graph)
        graphs, prompt = [graph], write_prompt(graph)
        result = prompt if is_prompt(data) else {**data, "prompt": prompt}
    else:
        raise NotAGraph(
            "this is JSON, but not a graph of ComfyUI: expected 'nodes' and 'links' (File > Save), or numbered nodes "
            "with 'class_type' (File > Export (API))."
        )
    untouched = [node for graph in graphs for node in graph.nodes if node.old is None and not canvas.is_edge(node)]
    report.kept = sorted(node.type for node in untouched if node.type not in TABLE)
    return result, report


def _convert(graph: Graph) -> None:
    for node in graph.nodes:
        for name in RETYPED if node.type in TABLE else ():
            if isinstance(node.values.get(name), Link):
                node.values[name] = skip_reroutes(node.values[name])
    file_nodes = list(graph.nodes)
    for kind, old in TABLE.items():
        for node in [node for node in graph.nodes if node.type == kind and node.old is None]:
            try:
                old.convert(node, graph)
            except Unmapped as reason:
                graph.report.leave(node, str(reason))
    graph.settle(REMOVABLE)
    gone = [node for node in file_nodes if node not in graph.nodes]
    for node in dict.fromkeys([*graph.outputs, *gone, *(new.old for new in graph.nodes if new.old)]):
        graph.report.map(node, [new.type for new in graph.nodes if new.old is node])
