"""The canvas format: nodes with places and numbered links, and subgraphs with edges of their own.

Of nodes that no mapping touches only the link numbers and types are written anew.
Source: the workflow schema of Comfy-Org/ComfyUI_frontend, versions 0.4 and 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from .graph import Graph, Link, Node
from .layout import arrange, box_of, fit_groups
from .report import Report
from .shapes import CONTROL, SHAPES
from .table import TABLE

#: Types of the older packs that have one type of this pack in their place, also at the edges of subgraphs.
RETYPED = {"CHATGLM3MODEL": "CLIP", "KOLORSMODEL": "MODEL"}
#: What an added node takes over from the one in whose place it stands, or beside which it lies.
KEPT_IN_PLACE = ("flags", "order", "mode", "title", "color", "bgcolor", "shape")
KEPT_BESIDE = ("order", "mode", "color", "bgcolor")
LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
EDGE = "(edge of a subgraph)"
OPTIONAL = 7  # the front end's mark for optional inputs


def is_workflow(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("nodes"), list)
        and isinstance(data.get("links"), list)
        and all(isinstance(node, dict) and "type" in node and "id" in node for node in data["nodes"])
    )


def is_edge(node: Node) -> bool:
    return node.type == EDGE


def scopes(workflow: dict) -> list[dict]:
    """The canvas and its subgraphs."""
    definitions = workflow.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    return [workflow, *(scope for scope in subgraphs or [] if is_workflow(scope))]


# ---- reading --------------------------------------------------------------------------------------------------------


def read(workflow: dict, report: Report) -> list[Graph]:
    """A Graph for each of `scopes`, in their order."""
    for name, group in _dict(_dict(workflow.get("extra")).get("groupNodes")).items():
        kinds = sorted({node.get("type") for node in group.get("nodes", [])} & set(TABLE))
        if kinds:
            todo = "Convert the group node to nodes on the canvas (right click), save, and convert again."
            report.leave(f"group node '{name}'", f"it holds {', '.join(kinds)}. {todo}")
    return [_read_scope(scope, report) for scope in scopes(workflow)]


def _read_scope(scope: dict, report: Report) -> Graph:
    nodes = {raw["id"]: Node(raw["type"], {}, raw["id"], raw) for raw in scope["nodes"]}
    for name in ("inputNode", "outputNode"):
        if isinstance(scope.get(name), dict):
            nodes[scope[name]["id"]] = Node(EDGE, {}, scope[name]["id"])
    links = {link["id"]: link for link in map(_as_dict, scope["links"])}

    def link_of(number: Any) -> Link | None:
        link = links.get(number) if number is not None else None
        source = nodes.get(link["origin_id"]) if link else None
        return source and Link(source, link["origin_slot"], number)

    for node in nodes.values():
        widgets = TABLE[node.type].widgets if node.type in TABLE else ()
        stored = node.raw.get("widgets_values")
        if isinstance(stored, dict):
            node.values |= {name: stored[name] for name in widgets if name in stored}
        elif isinstance(stored, list):
            node.values |= dict(zip(widgets, stored))
        for index, one in enumerate(node.raw.get("inputs") or []):
            link = link_of(one.get("link"))
            if link:
                node.values[one.get("name") if node.type in TABLE else index] = link
    edge = nodes.get(_dict(scope.get("outputNode")).get("id"))
    for link in links.values():
        if edge and link["target_id"] == edge.id and link["origin_id"] in nodes:
            edge.values[link["target_slot"], link["id"]] = Link(
                nodes[link["origin_id"]], link["origin_slot"], link["id"]
            )
    return Graph(nodes.values(), report)


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _as_dict(link: list | dict) -> dict:
    return link if isinstance(link, dict) else dict(zip(LINK_FIELDS, link))


# ---- writing --------------------------------------------------------------------------------------------------------


def write(workflow: dict, graphs: list[Graph]) -> dict:
    """A copy of the workflow with what became of its graphs."""
    workflow = copy.deepcopy(workflow)
    parts = scopes(workflow)
    last_node = max([0, *(raw["id"] for scope in parts for raw in scope["nodes"] if isinstance(raw["id"], int))])
    for graph in graphs:
        for node in graph.nodes:
            if node.stands_in:
                node.id = node.old.id
            elif node.old is not None:
                last_node += 1
                node.id = last_node
    for scope, graph in zip(parts, graphs):
        if any(node.old for node in graph.nodes) or graph.outputs:
            _write_scope(scope, graph)
    for raw in (raw for scope in parts for raw in scope["nodes"]):
        _retype(raw)
        _rename_promoted(raw, graphs)
    for scope in parts:
        _count(scope, last_node)
    return workflow


def _write_scope(scope: dict, graph: Graph) -> None:
    before = {link["id"]: link for link in map(_as_dict, scope["links"])}
    as_lists = scope["links"] and isinstance(scope["links"][0], list)
    raws = {raw["id"]: raw for raw in scope["nodes"]}
    nodes = [node for node in graph.nodes if not is_edge(node)]
    written = {node: raws[node.id] if node.old is None else _build(node) for node in nodes}
    links = _number_links(graph, written, before)
    for node, raw in written.items():
        for index, one in enumerate(raw.get("inputs") or []):
            one["link"] = next((id for id, link in links.items() if _ends_at(link, node.id, index)), None)
        for index, one in enumerate(raw.get("outputs") or []):
            leaving = [id for id, link in links.items() if (link["origin_id"], link["origin_slot"]) == (node.id, index)]
            one["links"] = leaving or ([] if one.get("links") is not None else None)
    for name, end in (("inputs", "origin"), ("outputs", "target")):  # the edges of a subgraph
        edge = _dict(scope.get("inputNode" if name == "inputs" else "outputNode")).get("id")
        for index, one in enumerate(scope.get(name) or [] if edge is not None else []):
            at_edge = [id for id, link in links.items() if (link[f"{end}_id"], link[f"{end}_slot"]) == (edge, index)]
            one["linkIds"] = at_edge
            one["type"] = RETYPED.get(one.get("type"), one.get("type"))
    boxes = {id: box_of(raw) for id, raw in raws.items()}
    arrange([(raw, written.get(node.old) or node.old.raw if node.old else None) for node, raw in written.items()])
    fit_groups(scope.get("groups") or [], boxes, written.values())
    scope["nodes"] = list(written.values())
    scope["links"] = [
        [link[field] for field in LINK_FIELDS] if as_lists or not before else link for link in links.values()
    ]
    _clean_reroutes(scope, set(links))


def _ends_at(link: dict, node: Any, slot: int) -> bool:
    return link["target_id"] == node and link["target_slot"] == slot


def _number_links(graph: Graph, written: dict[Node, dict], before: dict[int, dict]) -> dict[int, dict]:
    """All links by number; one keeps its number, and what else was stored of it, while its end or its start stays."""
    found = {}
    last = max([0, *(id for id in before if isinstance(id, int))])
    for node in graph.nodes:
        for slot, link in _ends(node, written):
            number = link.id
            if number is None or number in found:
                last += 1
                number = last
            kind = before.get(number, {}).get("type", "*")
            if link.node.old is not None:
                kind = SHAPES[link.node.type].outputs[link.slot][1]
            found[number] = {
                **before.get(number, {}),
                "id": number,
                "origin_id": link.node.id,
                "origin_slot": link.slot,
                "target_id": node.id,
                "target_slot": slot,
                "type": RETYPED.get(kind, kind),
            }
    return dict(sorted(found.items()))


def _ends(node: Node, written: dict[Node, dict]) -> Iterator[tuple[int, Link]]:
    """The links into a node with the number of their slot."""
    for key, value in node.values.items():
        if not isinstance(value, Link):
            continue
        if isinstance(key, tuple):  # the output edge of a subgraph
            yield key[0], value
        elif isinstance(key, int):
            yield key, value
        else:
            yield next(i for i, one in enumerate(written[node]["inputs"]) if one["name"] == key), value


def _build(node: Node) -> dict:
    """An added node as the front end stores it, without links."""
    shape, old = SHAPES[node.type], node.old.raw
    inputs = []
    for one in sorted(shape.inputs, key=lambda one: one.is_widget):  # the front end puts slots before widgets
        described = {"name": one.name, "type": one.type, "link": None}
        described |= {"widget": {"name": one.name}} if one.is_widget else {}
        inputs.append(described | ({"shape": OPTIONAL} if one.optional else {}))
    widgets = []
    for one in shape.inputs:
        if one.is_widget:
            value = node.values.get(one.name)
            widgets.append(one.default if value is None or isinstance(value, Link) else value)
            widgets += [node.values.get(CONTROL, "fixed")] if one.control else []
    kept = {name: old[name] for name in (KEPT_IN_PLACE if node.stands_in else KEPT_BESIDE) if name in old}
    return {
        "id": node.id,
        "type": node.type,
        "pos": copy.copy(old.get("pos", [0, 0])),
        "size": copy.copy(old.get("size", shape.size)) if node.stands_in else list(shape.size),
        "flags": {},
        "order": 0,
        "mode": 0,
        **kept,
        "inputs": inputs,
        "outputs": [
            {"name": name, "type": kind, "links": [], "slot_index": i} for i, (name, kind) in enumerate(shape.outputs)
        ],
        "properties": {"Node name for S&R": node.type, "cnr_id": shape.pack},
        "widgets_values": widgets,
    }


def _retype(raw: dict) -> None:
    """The slots of nodes between, such as the boxes of subgraphs."""
    if raw["type"] not in TABLE:
        for one in [*(raw.get("inputs") or []), *(raw.get("outputs") or [])]:
            if isinstance(one, dict) and isinstance(one.get("type"), str):
                one["type"] = RETYPED.get(one["type"], one["type"])


def _rename_promoted(raw: dict, graphs: list[Graph]) -> None:
    """Widgets that the box of a subgraph shows, by id and name of the node inside."""
    promoted = _dict(raw.get("properties")).get("proxyWidgets")
    for entry in promoted if isinstance(promoted, list) else []:
        for graph in graphs:
            if isinstance(entry, list) and len(entry) >= 2 and (str(entry[0]), entry[1]) in graph.renamed:
                node, name = graph.renamed[str(entry[0]), entry[1]]
                entry[:2] = [str(node.id), name]
                break


def _count(scope: dict, last_node: int) -> None:
    """The highest numbers in use, from which the front end counts on."""
    last_link = max([0, *(link["id"] for link in map(_as_dict, scope["links"]))])
    state = scope.get("state")
    for holder, node_key, link_key in ((scope, "last_node_id", "last_link_id"), (state, "lastNodeId", "lastLinkId")):
        if isinstance(holder, dict) and (node_key in holder or (holder is scope and not isinstance(state, dict))):
            holder[node_key] = max(last_node, holder.get(node_key) or 0)
            holder[link_key] = max(last_link, holder.get(link_key) or 0)


def _clean_reroutes(scope: dict, links: set[int]) -> None:
    """Bends of links that are gone."""
    extra = _dict(scope.get("extra"))
    if isinstance(extra.get("linkExtensions"), list):
        extra["linkExtensions"] = [one for one in extra["linkExtensions"] if one.get("id") in links]
    for holder in (extra, scope):
        for reroute in holder.get("reroutes") or []:
            if isinstance(reroute.get("linkIds"), list):
                reroute["linkIds"] = [id for id in reroute["linkIds"] if id in links]
