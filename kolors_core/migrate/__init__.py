"""Conversion of graphs that were made for the older Kolors packs; plain Python without torch and without ComfyUI.

    python -m kolors_core.migrate old.json new.json

`table` says which node becomes what. `canvas` and `prompt` read and write the two file formats as a `graph`, `layout`
makes room for added nodes, and `shapes` describes the nodes that a converted graph is made of. `embedded` and `wrapped`
find a graph in other files and in other JSON, `foreign` names what no mapping can reach, and `report` says it all.
"""

from __future__ import annotations

import copy
from typing import Any

from . import canvas
from .foreign import report_foreign
from .graph import Graph, Link, Node, Unmapped, skip_passing
from .prompt import read_prompt, write_prompt
from .report import Report
from .shapes import SHAPES
from .table import REMOVABLE, REPLACED, TABLE
from .table.bizyair import as_local
from .table.mz import replace_bare_control_nets
from .wrapped import find_graphs, is_request


class NotAGraph(ValueError):
    """The data are not a graph of ComfyUI; the text says what was expected."""


def convert_graph(data: Any) -> tuple[Any, Report]:
    """A graph in canvas or in API format with the nodes of this pack, and a report on what was done.

    `data`, as read from JSON, stays as it is. A graph inside of other data comes out alone, but that of a request to a
    server together with the rest. Raises NotAGraph.
    """
    report = Report()
    if is_request(data):
        result = copy.deepcopy(data)
        graphs, result["prompt"] = _convert(result["prompt"], report)
        extra = result.get("extra_data")
        about = extra.get("extra_pnginfo") if isinstance(extra, dict) else None
        if isinstance(about, dict) and canvas.is_workflow(about.get("workflow")):
            _, about["workflow"] = _convert(about["workflow"], Report())
    else:
        graphs, result = _convert(_choose(find_graphs(data), report), report)
    untouched = [node for graph in graphs for node in graph.nodes if node.old is None and not canvas.is_boundary(node)]
    report.kept = sorted(node.type for node in untouched if node.type not in TABLE)
    return result, report


def _choose(found: list[dict], report: Report) -> dict:
    """The last graph, which is the newest in a server's history."""
    if not found:
        raise NotAGraph(
            "this is JSON, but not a graph of ComfyUI: expected 'nodes' and 'links' (File > Save), or numbered nodes "
            "with 'class_type' (File > Export (API))."
        )
    if len(found) > 1:
        report.note("The file", f"it holds {len(found)} graphs; the last one is converted. For another give it alone.")
    return found[-1]


def _convert(graph: dict, report: Report) -> tuple[list[Graph], dict]:
    return _convert_workflow(graph, report) if canvas.is_workflow(graph) else _convert_prompt(graph, report)


def _convert_workflow(workflow: dict, report: Report) -> tuple[list[Graph], dict]:
    """The graphs of a canvas and its subgraphs, and the new canvas."""
    if fault := canvas.find_fault(workflow):
        raise NotAGraph(f"this graph is damaged: {fault}. Open it in ComfyUI, save it again, and convert that file.")
    workflow = as_local(workflow, canvas.list_nodes(workflow), report)
    graphs = canvas.read_graphs(workflow, report)
    for graph in graphs:
        _replace_old_nodes(graph)
    return graphs, canvas.write_workflow(workflow, graphs)


def _convert_prompt(prompt: dict, report: Report) -> tuple[list[Graph], dict]:
    """The one graph of a prompt in API format, and the new prompt."""
    prompt = as_local(prompt, [(id, node["class_type"]) for id, node in prompt.items()], report)
    graph = read_prompt(prompt, report)
    _replace_old_nodes(graph)
    return [graph], write_prompt(graph)


def _replace_old_nodes(graph: Graph) -> None:
    report_foreign(graph)
    _clean_inputs(graph)
    in_file = list(graph.nodes)
    _apply_mappings(graph)
    graph.settle(REMOVABLE)
    _rename_widgets(graph)
    _report_replaced(graph, in_file)


def _clean_inputs(graph: Graph) -> None:
    """Leave only what mappings can read: direct links to what goes, and values that are no list or dictionary."""
    for node in (node for node in graph.nodes if node.type in TABLE):
        node.values = {name: value for name, value in node.values.items() if not isinstance(value, (list, dict))}
        for name in REPLACED:
            link = node.values.get(name)
            source = skip_passing(link) if isinstance(link, Link) else None
            if source and source.node in graph.nodes:  # not beyond a Get node in a subgraph
                node.values[name] = source


def _apply_mappings(graph: Graph) -> None:
    for kind, old in TABLE.items():
        for node in [node for node in graph.nodes if node.type == kind and node.old is None]:
            try:
                old.mapping(node, graph)
            except Unmapped as reason:
                graph.report.leave(node, str(reason))
    replace_bare_control_nets(graph)


def _rename_widgets(graph: Graph) -> None:
    """Widgets that kept their name; the mappings tell of the others."""
    for node, old in [(node, node.old) for node in graph.nodes if node.old]:
        names = {one.name for one in SHAPES[node.type].inputs if one.is_widget} & old.values.keys()
        for name in names:
            if (str(old.id), name) not in graph.renamed:
                graph.rename(old, name, node, name)


def _report_replaced(graph: Graph, in_file: list[Node]) -> None:
    gone = [node for node in in_file if node not in graph.nodes]
    extended = [node.old for node in graph.nodes if node.old]
    for old in dict.fromkeys([*graph.outputs, *gone, *extended]):
        graph.report.map(old, [node.type for node in graph.added.get(old, ()) if node in graph.nodes])
