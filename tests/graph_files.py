"""Graphs as files: the canvas of an API graph and back, a check of canvases, and what either format holds."""

from __future__ import annotations

import copy
import struct
from typing import Any

from old_graphs import CONTROL, DECLARED, OldGraph

NEVER_SENT = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode", "SetNode", "GetNode", "Anything Everywhere"}
MUTED, BYPASSED = 2, 4


def nodes_of(result: dict, kind: str) -> list[dict]:
    """Nodes of a type, in either format."""
    if "nodes" in result:
        return [node for node in result["nodes"] if node["type"] == kind]
    return [node for node in result.values() if node["class_type"] == kind]


def kinds_of(result: dict) -> list[str]:
    nodes = result.get("nodes")
    return (
        sorted(node["type"] for node in nodes)
        if nodes is not None
        else sorted(n["class_type"] for n in result.values())
    )


def inputs_of(prompt: dict, kind: str) -> list[dict]:
    """Inputs of the nodes of a type in an API graph; a link as the type that it comes from and the output's number."""
    named = []
    for node in nodes_of(prompt, kind):
        inputs = node["inputs"].items()
        named.append({n: (prompt[v[0]]["class_type"], v[1]) if isinstance(v, list) else v for n, v in inputs})
    return named


def as_canvas(prompt: dict) -> dict:
    """The same graph as the front end saves it, with little room between the nodes."""
    numbers = iter(range(1, 10000))
    links, nodes, below = [], {}, [0] * 4
    declared = getattr(prompt, "declared", DECLARED)
    for index, (key, node) in enumerate(prompt.items()):
        slots, widgets, outputs = declared[node["class_type"]]
        linked = {name for name, value in node["inputs"].items() if isinstance(value, list)} - dict(slots).keys()
        inputs = [{"name": name, "type": kind, "link": None} for name, kind in slots]
        inputs += [
            {"name": name, "type": "*", "link": None, "widget": {"name": name}} for name in widgets if name in linked
        ]
        values = [node["inputs"].get(name) for name in widgets]
        height = 20 * max(len(slots), len(outputs)) + 24 * len(widgets) + 100 * ("text" in widgets) + 10
        while values and values[-1] is None:
            values.pop()
        below[index % 4] += height + 60
        nodes[key] = {
            "id": int(key),
            "type": node["class_type"],
            "pos": {"0": 320 * (index % 4), "1": below[index % 4] - height},  # as older front ends wrote it
            "size": [300, height],
            "flags": {},
            "order": index,
            "mode": 0,
            "inputs": inputs,
            "outputs": [{"name": kind, "type": kind, "links": None} for kind in outputs],
            "properties": {"Node name for S&R": node["class_type"]},
            "widgets_values": [None if isinstance(value, list) else value for value in values],
        }
    for key, node in prompt.items():
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                slot = next(i for i, one in enumerate(nodes[key]["inputs"]) if one["name"] == name)
                source, number = nodes[value[0]]["outputs"][value[1]], next(numbers)
                links.append([number, int(value[0]), value[1], int(key), slot, source["type"]])
                nodes[key]["inputs"][slot]["link"] = number
                source["links"] = [*(source["links"] or []), number]
    last = {"last_node_id": max(map(int, prompt)), "last_link_id": len(links)}
    return {
        **last,
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def canvas_faults(workflow: dict, overlapping: bool = False) -> list[str]:
    """What a front end would stumble over in a canvas or in one of its subgraphs.

    overlapping: whether nodes may lie on each other.
    """
    faults = []
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    for scope in (workflow, *subgraphs):
        nodes = {node["id"]: node for node in scope["nodes"]}
        edges = {scope[name]["id"] for name in ("inputNode", "outputNode") if name in scope}
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links = [link if isinstance(link, dict) else dict(zip(keys, link)) for link in scope["links"]]
        by_number = {link["id"]: link for link in links}
        faults += ["a node id twice"] if len(nodes) != len(scope["nodes"]) else []
        faults += ["a link id twice"] if len(by_number) != len(links) else []
        for link in links:
            ends = []
            for end, kind in (("origin", "outputs"), ("target", "inputs")):
                if link[f"{end}_id"] in edges:
                    continue
                node, slot = nodes.get(link[f"{end}_id"]), link[f"{end}_slot"]
                if node is None or slot >= len(node[kind]):
                    faults.append(f"{link} has no {end}")
                    continue
                one = node[kind][slot]
                listed = one["link"] == link["id"] if end == "target" else link["id"] in (one["links"] or [])
                faults += [] if listed else [f"{link} is not in {node['type']} {one['name']}"]
                ends.append(one["type"])
            if (
                len(ends) == 2
                and not {"*", "COMBO"} & set(ends)
                and not set(ends[0].split(",")) & set(ends[1].split(","))
            ):
                faults.append(f"{link} joins {ends}")
        for node in nodes.values():
            numbers = [one.get("link") for one in node.get("inputs") or []]
            numbers += [number for one in node.get("outputs") or [] for number in one["links"] or []]
            faults += [
                f"{node['type']} has link {n}, which is nowhere"
                for n in numbers
                if n is not None and n not in by_number
            ]
        counted = scope.get("state", {})
        highest = (
            counted.get("lastNodeId", scope.get("last_node_id", 0)),
            counted.get("lastLinkId", scope.get("last_link_id", 0)),
        )
        if highest[0] < max([0, *nodes]) or highest[1] < max([0, *by_number]):
            faults.append(f"the highest numbers are not {highest}")
        faults += [] if overlapping else [f"nodes {pair} lie on each other" for pair in overlaps(scope)]
    return faults


def overlaps(scope: dict) -> set[str]:
    """Ids of nodes that lie on each other."""
    found, boxes = set(), sorted((node["id"], *box(node)) for node in scope["nodes"])
    for index, (one, x, y, w, h) in enumerate(boxes):
        for other, u, v, a, b in boxes[:index]:
            if x < u + a and u < x + w and y < v + b and v < y + h:
                found.add(f"{other} and {one}")
    return found


def box(node: dict) -> tuple[float, float, float, float]:
    """x, y, width and height of a node with its title and the badge above it, 50 pixels."""
    (x, y), (width, height) = (
        [value["0"], value["1"]] if isinstance(value, dict) else value for value in (node["pos"], node["size"])
    )
    return x, y - 50, width, height + 50


def members(workflow: dict, group: dict) -> set:
    """Ids of the nodes that the front end counts to a group: those whose centre lies in its frame."""
    x, y, width, height = group["bounding"]
    boxes = {node["id"]: box(node) for node in workflow["nodes"]}
    centres = {id: (left + wide / 2, top + high / 2) for id, (left, top, wide, high) in boxes.items()}
    return {id for id, (u, v) in centres.items() if x <= u < x + width and y <= v < y + height}


def to_prompt(workflow: dict, object_info: dict) -> dict:
    """What the front end sends for a canvas without subgraphs; widgets are read in the order of `object_info`.

    Nodes of a type that the server does not know are sent with their links only.
    """
    workflow = copy.deepcopy(workflow)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def value_of(number: int) -> Any:
        _, source, slot, *_ = links[number]
        node = nodes[source]
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] == "GetNode":
            name = node["widgets_values"][0]
            node = next(one for one in nodes_of(workflow, "SetNode") if one["widgets_values"][0] == name)
        if node["type"] in ("Reroute", "SetNode"):
            return value_of(node["inputs"][0]["link"]) if node["inputs"][0]["link"] is not None else None
        if node["mode"] == BYPASSED:
            kind = node["outputs"][slot]["type"]
            passed = [one["link"] for one in node["inputs"] if one["type"] == kind and one["link"] is not None]
            return value_of(passed[0]) if passed else None
        return None if node["mode"] == MUTED else [str(source), slot]

    prompt = {}
    for node in nodes.values():
        if node["type"] in NEVER_SENT or node["mode"] in (MUTED, BYPASSED):
            continue
        inputs, stored = {}, list(node.get("widgets_values") or [])
        info = object_info.get(node["type"], {"input": {}})["input"]
        for name, declared in {**info.get("required", {}), **info.get("optional", {})}.items():
            if isinstance(declared[0], list) or declared[0] in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
                if stored:
                    inputs[name] = stored.pop(0)
                options = declared[1] if len(declared) > 1 else {}
                if options.get(CONTROL) or (
                    name in ("seed", "noise_seed") and stored[:1] and isinstance(stored[0], str)
                ):
                    stored[:1] = []
        for one in node.get("inputs") or []:
            value = value_of(one["link"]) if one.get("link") is not None else None
            if value is not None:
                inputs[one["name"]] = value
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node["type"]}}
    return prompt


def unfolded(prompt: dict, info: dict) -> list:
    """What each output node computes, without node ids; optional widgets that are left out have their defaults."""

    def plain(value: Any) -> Any:
        return float(value) if type(value) is int else value  # a browser knows no difference

    def node(key: str) -> tuple:
        kind, given = prompt[key]["class_type"], prompt[key]["inputs"]
        optional = info[kind]["input"].get("optional", {})
        values = {n: plain(d[1]["default"]) for n, d in optional.items() if len(d) > 1 and "default" in d[1]}
        for name, value in given.items():
            if name != CONTROL:
                values[name] = (node(value[0]), value[1]) if isinstance(value, list) else plain(value)
        return kind, tuple(sorted(values.items()))

    return sorted(map(repr, (node(key) for key in prompt if info[prompt[key]["class_type"]]["output_node"])))


def subgraph_of(prompt: OldGraph, outside: str = "MZ_ChatGLM3Loader") -> dict:
    """A canvas with one box; in it a graph, whose loader of the encoder is outside."""
    inner = as_canvas(prompt)
    (loader,) = nodes_of(inner, outside)
    inner["nodes"].remove(loader)
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link)) for link in inner["links"]]
    for link in links:
        if link["origin_id"] == loader["id"]:
            link |= {"origin_id": -10, "origin_slot": 0}
    into = [link["id"] for link in links if link["origin_id"] == -10]
    sampled = next(link for link in links if link["type"] == "LATENT" and link["target_slot"] == 0)
    out = sampled | {"id": 900, "target_id": -20, "target_slot": 0}
    next(node for node in inner["nodes"] if node["id"] == out["origin_id"])["outputs"][0]["links"].append(900)
    definition = {
        "id": "box",
        "name": "Prompts",
        "state": {"lastNodeId": inner["last_node_id"], "lastLinkId": 900, "lastGroupId": 0, "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 100]},
        "inputs": [{"id": "i", "name": "chatglm3_model", "type": "CHATGLM3MODEL", "linkIds": into}],
        "outputs": [{"id": "o", "name": "LATENT", "type": "LATENT", "linkIds": [900]}],
        "nodes": inner["nodes"],
        "links": [*links, out],
        "groups": [],
    }
    promoted = [("MZ_ChatGLM3_V2", "text"), ("MZ_KolorsUNETLoaderV2", "unet_name")]
    shown = [[str(node["id"]), name] for kind, name in promoted for node in nodes_of(inner, kind)[:1]]
    box = {
        "id": 101,
        "type": "box",
        "pos": [500, 0],
        "size": [200, 80],
        "mode": 0,
        "inputs": [{"name": "chatglm3_model", "type": "CHATGLM3MODEL", "link": 1}],
        "outputs": [{"name": "LATENT", "type": "LATENT", "links": [2]}],
        "properties": {"proxyWidgets": shown},
        "widgets_values": [],
    }
    save = nodes_of(inner, "SaveLatent")[0]
    outer_save = save | {"id": 102, "pos": [900, 0], "inputs": [{"name": "samples", "type": "LATENT", "link": 2}]}
    outer_loader = loader | {"id": 100, "pos": [0, 0], "outputs": [loader["outputs"][0] | {"links": [1]}]}
    return {
        "last_node_id": 102,
        "last_link_id": 2,
        "nodes": [outer_loader, box, outer_save],
        "links": [[1, 100, 0, 101, 0, "CHATGLM3MODEL"], [2, 101, 0, 102, 0, "LATENT"]],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "version": 0.4,
    }


def png(**texts: str) -> bytes:
    """The beginning of a PNG with texts; its chunks are not checked."""
    chunks = [(b"tEXt", key.encode() + b"\0" + text.encode()) for key, text in texts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + b"\0" * 4 for kind, data in chunks
    )
