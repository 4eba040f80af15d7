"""A canvas file as graphs, one for the canvas and one for each subgraph."""

from __future__ import annotations

from typing import Any

from ..graph import Graph, Link, Node
from ..report import Report
from ..table import TABLE
from .everywhere import connect
from .fields import BOUNDARY, dict_at, is_boundary, is_id, links_by_id, list_at, scopes

SET_NODES = ("SetNode", "easy setNode")
GET_NODES = ("GetNode", "easy getNode")


def read_graphs(workflow: dict, report: Report) -> list[Graph]:
    """A Graph for each of `scopes`, in their order."""
    groups = dict_at(dict_at(workflow, "extra"), "groupNodes")
    for name in groups:
        inside = [node.get("type") for node in list_at(dict_at(groups, name), "nodes") if isinstance(node, dict)]
        kinds = [kind for kind in sorted(TABLE) if kind in inside]
        if kinds:
            todo = "Convert the group node to nodes on the canvas (right click), save, and convert again."
            report.leave(f"group node '{name}'", f"it holds {', '.join(kinds)}. {todo}")
    parts = scopes(workflow)
    boxes = {BOUNDARY, *(str(scope.get("id")) for scope in parts[1:])}
    graphs = [_read_scope(scope, report, boxes) for scope in parts]
    for scope, graph in zip(parts, graphs):
        _join_set_and_get(graph, graphs[0])
        connect(scope, graph)
        graph.note_used()
    return graphs


def _read_scope(scope: dict, report: Report, boxes: set[str]) -> Graph:
    nodes = {raw["id"]: Node(raw["type"], {}, raw["id"], raw) for raw in scope["nodes"]}
    nodes |= {id: Node(BOUNDARY, {}, id) for id in _boundary_ids(scope)}
    stored = links_by_id(scope)
    links = {
        number: Link(nodes[link["origin_id"]], link["origin_slot"], number)
        for number, link in stored.items()
        if link["origin_id"] in nodes
    }
    for node in nodes.values():
        node.values |= _widget_values(node)
        for name, link in _linked_inputs(node, links).items():
            node.values[name] = link._replace(typed=node.values.get(name))
    for number, link in links.items():
        target = nodes.get(stored[number]["target_id"])
        if target and is_boundary(target):
            target.values[stored[number]["target_slot"], number] = link
    return Graph(nodes.values(), report, boxes=boxes)


def _join_set_and_get(graph: Graph, outermost: Graph) -> None:
    """Tell each Get node its Set node: the one with the same name in its first widget, here or on the canvas."""
    setters = {node.first_widget: node for part in (outermost, graph) for node in part.nodes if node.type in SET_NODES}
    for node in graph.nodes:
        if node.type in GET_NODES:
            node.setter = setters.get(node.first_widget)


def _boundary_ids(scope: dict) -> list[Any]:
    """The ids that links have for the two ends of a subgraph."""
    return [scope[name]["id"] for name in ("inputNode", "outputNode") if is_id(dict_at(scope, name).get("id"))]


def _widget_values(node: Node) -> dict[str, Any]:
    """The values of the widgets by name, of a node in the table."""
    widgets = TABLE[node.type].widgets if node.type in TABLE else ()
    stored, named = node.raw.get("widgets_values"), dict_at(node.raw, "widgets_values_named")
    if isinstance(stored, dict):
        named = stored
    values = dict(zip(widgets, stored)) if isinstance(stored, list) else {}
    return values | {name: named[name] for name in widgets if name in named}


def _linked_inputs(node: Node, links: dict[int, Link]) -> dict[Any, Link]:
    """The links into a node: by name for a node in the table, else by the number of the slot."""
    found = {}
    for index, slot in enumerate(node.slots("inputs")):
        number = slot.get("link")
        if isinstance(number, int) and number in links:
            found[str(slot.get("name")) if node.type in TABLE else index] = links[number]
    return found
