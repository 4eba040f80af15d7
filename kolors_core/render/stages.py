"""A graph cut in parts, for workers that each do one: prompts are encoded here, sampled there, decoded elsewhere.

A cut goes through outputs of one type. What lies before them is run with a node that saves each; what lies behind gets
a node that loads it, so that nothing before it is needed, or loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from .workflow import Graph, ancestors, link, links

Nodes = dict[str, dict[str, Any]]  # ComfyUI's /object_info
SAVE, LOAD = "save-{}", "load-{}"  # ids of added nodes
FOLDER = "kolors-render"  # in the output folder


def name_output(id: str, slot: int) -> str:
    """One output of a node, for messages between workers."""
    return f"{id}:{slot}"


def split_output(name: str) -> tuple[str, int]:
    id, _, slot = name.rpartition(":")
    return id, int(slot)


@dataclass(frozen=True)
class Cut:
    """Where a graph is cut: the outputs that `find` gives, saved by the node `save` and loaded by `load`, whose inputs
    have these names. saved: what `save` calls its files."""

    find: Callable[[Graph, Nodes], list[str]]
    save: str
    save_input: str
    load: str
    load_input: str
    suffix: str

    def before(self, graph: Graph, outputs: list[str]) -> Graph:
        """What makes these outputs, and a node that saves each, under a new name: else ComfyUI might leave it out."""
        kept = ancestors([split_output(output)[0] for output in outputs], graph)
        part = {id: node for id, node in graph.items() if id in kept}
        for index, output in enumerate(outputs):
            id, slot = split_output(output)
            inputs = {self.save_input: [id, slot], "filename_prefix": f"{FOLDER}/{uuid4().hex}"}
            if self.save == CONDITIONING_SAVE:
                inputs["precision"] = "fp32"
            part[SAVE.format(index)] = {"class_type": self.save, "inputs": inputs}
        return part

    def behind(self, graph: Graph, files: dict[str, str]) -> Graph:
        """The graph with loaded files, named as in the output folder, in the place of outputs."""
        part = {id: {**node, "inputs": dict(node["inputs"])} for id, node in graph.items()}
        for index, (output, file) in enumerate(files.items()):
            source = list(split_output(output))
            for node in part.values():
                for name, value in node["inputs"].items():
                    if isinstance(value, list) and [*map(str, value[:1]), *value[1:]] == source:
                        node["inputs"][name] = [LOAD.format(f"{self.suffix}-{index}"), 0]
            inputs = {self.load_input: f"{file} [output]"}
            part[LOAD.format(f"{self.suffix}-{index}")] = {"class_type": self.load, "inputs": inputs}
        return part


def _outputs(id: str, graph: Graph, nodes: Nodes) -> list[str]:
    return [
        kind if isinstance(kind, str) else "" for kind in nodes.get(graph[id]["class_type"], {}).get("output") or []
    ]


def _gets(id: str, kind: str, graph: Graph, nodes: Nodes) -> list[str]:
    """The outputs of a type that a node is connected to."""
    found = []
    for value in graph[id]["inputs"].values():
        if source := link(value, graph):
            kinds = _outputs(source, graph, nodes)
            if value[1] < len(kinds) and kinds[value[1]] == kind:
                found.append(name_output(source, value[1]))
    return found


def find_conditioning(graph: Graph, nodes: Nodes) -> list[str]:
    """Every output of type CONDITIONING, which something uses, of a node that a CLIP goes into."""
    used = {
        name_output(source, value[1])
        for node in graph.values()
        for value in node["inputs"].values()
        if (source := link(value, graph))
    }
    found = []
    for id in graph:
        if _gets(id, "CLIP", graph, nodes):
            names = [
                name_output(id, slot) for slot, kind in enumerate(_outputs(id, graph, nodes)) if kind == "CONDITIONING"
            ]
            found += [name for name in names if name in used]
    return found


def find_latents(graph: Graph, nodes: Nodes) -> list[str]:
    """The latents that are decoded and sampled no more; nothing where more than decoding is left behind them."""
    decoders = [id for id in graph if _outputs(id, graph, nodes)[:1] == ["IMAGE"] and _gets(id, "LATENT", graph, nodes)]
    found = {id: _gets(id, "LATENT", graph, nodes) for id in decoders}
    every = dict.fromkeys(name for names in found.values() for name in names)
    rest = LATENT.behind(graph, dict.fromkeys(every, ""))
    ends = [id for id in graph if nodes.get(graph[id]["class_type"], {}).get("output_node")]
    behind = [id for id in graph if id in ancestors(ends, rest)]
    if any(_gets(id, "MODEL", rest, nodes) for id in behind):
        return []
    return list(dict.fromkeys(name for id in behind for name in found.get(id, [])))


CONDITIONING_SAVE = "KolorsConditioningSave"
CONDITIONING = Cut(
    find_conditioning, CONDITIONING_SAVE, "conditioning", "KolorsConditioningLoad", "conditioning_name", ".safetensors"
)
LATENT = Cut(find_latents, "SaveLatent", "samples", "LoadLatent", "latent", ".latent")


def hash_output(output: str, graph: Graph) -> str:
    """The same for all outputs that are made in the same way, whatever the nodes are called."""
    known: dict[str, str] = {}

    def of(id: str) -> str:
        if id not in known:
            known[id] = ""  # a circle, which ComfyUI refuses
            linked = links(graph[id], graph)
            inputs = {
                name: [of(linked[name]), value[1]] if name in linked else value
                for name, value in graph[id]["inputs"].items()
            }
            text = json.dumps([graph[id]["class_type"], inputs], sort_keys=True)
            known[id] = hashlib.sha256(text.encode()).hexdigest()
        return known[id]

    id, slot = split_output(output)
    return f"{of(id)}-{slot}"
