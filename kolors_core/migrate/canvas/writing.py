"""Converted graphs in place of those of their canvas file.

Nodes that no mapping touches keep everything but their link numbers and types.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

from ..graph import PASSING, Graph, Link, Node, new_type, number_added
from ..layout import arrange, box_of, fit_groups
from ..shapes import CONTROL, SHAPES, Input
from ..table import TABLE
from .fields import LINK_FIELDS, dict_at, is_boundary, link_fields, links_by_id, list_at, scopes
from .links import list_at_boundary, list_in_nodes, number_links

#: What an added node takes over from the old node that it stands in for, or that it lies beside.
KEPT_IN_PLACE = ("flags", "order", "mode", "title", "color", "bgcolor", "shape")
KEPT_BESIDE = ("order", "mode", "color", "bgcolor")
EVERYWHERE_PROPERTIES = ("ue_properties", "rejects_ue_links")
OPTIONAL = 7  # the front end's mark for optional inputs


def write_workflow(workflow: dict, graphs: list[Graph]) -> dict:
    """A copy of the workflow with what became of its graphs."""
    workflow = copy.deepcopy(workflow)
    parts = scopes(workflow)
    last_node = _number_nodes(parts, graphs)
    for scope, graph in zip(parts, graphs):
        if any(node.old for node in graph.nodes) or graph.outputs:
            _write_scope(scope, graph)
    for raw in (raw for scope in parts for raw in scope["nodes"]):
        _retype_slots(raw)
        _rename_promoted(dict_at(raw, "properties"), graphs)
    for widget in (widget for scope in parts for widget in list_at(scope, "widgets")):
        if isinstance(widget, dict) and (found := _renamed(widget.get("id"), widget.get("name"), graphs)):
            widget["id"], widget["name"] = found
    for scope in parts:
        _retype_edges(scope)
        _update_counters(scope, last_node)
    return workflow


def _number_nodes(parts: list[dict], graphs: list[Graph]) -> int:
    """Give every added node an id. Returns the highest in use."""
    last = max([0, *(raw["id"] for scope in parts for raw in scope["nodes"] if isinstance(raw["id"], int))])
    return number_added((node for graph in graphs for node in graph.nodes), last, int)


def _write_scope(scope: dict, graph: Graph) -> None:
    raws = {raw["id"]: raw for raw in scope["nodes"]}
    written = {
        node: raws[node.id] if node.old is None else _build_node(node, node.old)
        for node in graph.nodes
        if not is_boundary(node)
    }
    links = number_links(graph, written, links_by_id(scope))
    list_in_nodes(written, links)
    list_at_boundary(scope, links)
    _arrange(scope, written)
    scope["nodes"] = list(written.values())
    scope["links"] = _in_format_of(scope["links"], links)
    _clean_reroutes(scope, links)
    _clean_everywhere(scope, written)


# ---- nodes


def _build_node(node: Node, old: Node) -> dict:
    """An added node as the front end stores it, without links."""
    shape = SHAPES[node.type]
    kept = KEPT_IN_PLACE if node.stands_in else KEPT_BESIDE
    return {
        "id": node.id,
        "type": node.type,
        "pos": copy.copy(old.raw.get("pos", [0, 0])),
        "size": copy.copy(old.raw.get("size", shape.size)) if node.stands_in else list(shape.size),
        "flags": {},
        "order": 0,
        "mode": 0,
        **{name: old.raw[name] for name in kept if name in old.raw},
        "inputs": [_build_input(one) for one in sorted(shape.inputs, key=lambda one: one.is_widget)],  # slots first
        "outputs": [
            {"name": name, "type": kind, "links": [], "slot_index": i} for i, (name, kind) in enumerate(shape.outputs)
        ],
        "properties": {"Node name for S&R": node.type, "cnr_id": shape.pack} | _kept_properties(node, old),
        "widgets_values": [value for one in shape.inputs for _, value in _stored_values(one, node)],
        **_named_values(node, old),
    }


def _build_input(one: Input) -> dict:
    raw = {"name": one.name, "type": one.type, "link": None}
    if one.is_widget:
        raw["widget"] = {"name": one.name}
    if one.optional:
        raw["shape"] = OPTIONAL
    return raw


def _retype_edges(scope: dict) -> None:
    """The links of a scope, and the two ends of a subgraph."""
    for link in scope["links"]:
        if "type" in link_fields(link):
            link["type" if isinstance(link, dict) else LINK_FIELDS.index("type")] = new_type(link_fields(link)["type"])
    for slot in [*list_at(scope, "inputs"), *list_at(scope, "outputs")]:
        if isinstance(slot, dict) and "type" in slot:
            slot["type"] = new_type(slot["type"])


def _kept_properties(node: Node, old: Node) -> dict[str, Any]:
    """What Use Everywhere keeps in the node whose place this one takes."""
    properties = dict_at(old.raw, "properties")
    return {name: properties[name] for name in EVERYWHERE_PROPERTIES if node.stands_in and name in properties}


def _named_values(node: Node, old: Node) -> dict[str, Any]:
    """The values by name, where the front end wrote them so too."""
    if not dict_at(old.raw, "widgets_values_named"):
        return {}
    return {
        "widgets_values_named": dict(pair for one in SHAPES[node.type].inputs for pair in _stored_values(one, node))
    }


def _stored_values(one: Input, node: Node) -> list[tuple[str, Any]]:
    """What a file holds for one input, by name: nothing for a slot, a value for a widget, two if it has a control."""
    if not one.is_widget:
        return []
    value = node.values.get(one.name)
    if isinstance(value, Link):
        value = None if value.typed is None else one.fit(value.typed)
    stored = one.default if value is None else value
    control = [(CONTROL, node.values.get(CONTROL, "fixed"))] if one.control else []
    return [(one.name, stored), *control]


def _retype_slots(raw: dict) -> None:
    """The slots of nodes that pass a value on, such as the box of a subgraph."""
    if raw["type"] not in TABLE:
        for slot in [*list_at(raw, "inputs"), *list_at(raw, "outputs")]:
            if "type" in slot:
                slot["type"] = new_type(slot["type"])
            if raw["type"] in PASSING and "name" in slot:  # some call it after its type
                slot["name"] = new_type(slot["name"])


def _rename_promoted(properties: dict, graphs: list[Graph]) -> None:
    """The widgets that the box of a subgraph shows, by id and name of the node inside; once they were kept as JSON."""
    if isinstance(properties.get("proxyWidgets"), str):
        with suppress(ValueError, RecursionError):
            properties["proxyWidgets"] = json.loads(properties["proxyWidgets"])
    for entry in list_at(properties, "proxyWidgets"):
        if isinstance(entry, list) and len(entry) >= 2 and (found := _renamed(entry[0], entry[1], graphs)):
            entry[:2] = found


def _renamed(id: Any, name: Any, graphs: list[Graph]) -> list[str] | None:
    """The id and name that a widget has now; None where they stay."""
    for graph in graphs:
        if (str(id), str(name)) in graph.renamed:
            node, new = graph.renamed[str(id), str(name)]
            return [str(node.id), new]
    return None


def _arrange(scope: dict, written: dict[Node, dict]) -> None:
    """Make room for the added nodes, in the groups too."""
    before = {raw["id"]: box_of(raw) for raw in scope["nodes"]}
    arrange([(raw, _predecessor(node, written)) for node, raw in written.items()])
    after = [(raw, node.old.id if node.old else node.id) for node, raw in written.items()]
    fit_groups(list_at(scope, "groups"), before, after)


def _predecessor(node: Node, written: dict[Node, dict]) -> dict | None:
    """The old node that a node was added for, as it stands in the new file or, if it went, in the old one."""
    return written.get(node.old, node.old.raw) if node.old else None


# ---- links and counters


def _in_format_of(stored: list, links: dict[int, dict]) -> list:
    """The links as lists or as dictionaries, whichever the file had; lists if it had none."""
    if stored and not isinstance(stored[0], list):
        return list(links.values())
    return [[link[field] for field in LINK_FIELDS] for link in links.values()]


def _clean_reroutes(scope: dict, links: dict[int, dict]) -> None:
    """Remove bends of links that are gone."""

    def remains(id: Any) -> bool:
        return isinstance(id, int) and id in links

    extra = dict_at(scope, "extra")
    if isinstance(extra.get("linkExtensions"), list):
        extra["linkExtensions"] = [
            one for one in extra["linkExtensions"] if isinstance(one, dict) and remains(one.get("id"))
        ]
    for reroute in [*list_at(extra, "reroutes"), *list_at(scope, "reroutes")]:
        if isinstance(reroute, dict) and isinstance(reroute.get("linkIds"), list):
            reroute["linkIds"] = [id for id in reroute["linkIds"] if remains(id)]


def _clean_everywhere(scope: dict, written: dict[Node, dict]) -> None:
    """Let Use Everywhere neither remove a link of an added node when it loads the file, nor reckon with old ones."""
    extra, ids = dict_at(scope, "extra"), {node.id for node in written if node.old is None}
    if isinstance(extra.get("links_added_by_ue"), list):
        kept = {number for number, link in links_by_id(scope).items() if {link["origin_id"], link["target_id"]} <= ids}
        extra["links_added_by_ue"] = [one for one in extra["links_added_by_ue"] if isinstance(one, int) and one in kept]
    if isinstance(extra.get("ue_links"), list):
        names = set(map(str, ids))
        extra["ue_links"] = [
            one
            for one in extra["ue_links"]
            if isinstance(one, dict) and {str(one.get("upstream")), str(one.get("downstream"))} <= names
        ]


def _update_counters(scope: dict, last_node: int) -> None:
    """The highest numbers in use, from which the front end counts on."""
    last_link = max([0, *links_by_id(scope)])
    state = scope.get("state")
    if "last_node_id" in scope or not isinstance(state, dict):
        _raise_counters(scope, last_node_id=last_node, last_link_id=last_link)
    if isinstance(state, dict) and "lastNodeId" in state:
        _raise_counters(state, lastNodeId=last_node, lastLinkId=last_link)


def _raise_counters(holder: dict, **least: int) -> None:
    for name, last in least.items():
        counted = holder.get(name)
        holder[name] = max(last, counted) if isinstance(counted, int) else last
