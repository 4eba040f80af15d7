"""What the table holds for a node of an older pack, and what the mappings of several packs share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..graph import Graph, Link, Node

SDXL_SCHEDULE = (
    "SDXL's schedule is kept, as the old node set it. Remove the new node to use the schedule that Kolors was trained "
    "with, unless a few-step LoRA needs SDXL's."
)


@dataclass(frozen=True)
class OldNode:
    """A node of an older pack.

    widgets: in the order of its values on the canvas.
    mapping: adds new nodes to the graph and says where the old node's outputs come from now. Raises Unmapped where it
    cannot.
    gives: the type of its first output, where that is one of the older packs' own.
    """

    widgets: tuple[str, ...]
    mapping: Callable[[Node, Graph], None]
    gives: str = ""


@dataclass(frozen=True)
class Swap:
    """The mapping of one node to one other: the old name of each input (all were required), values to set, outputs.

    These also serve a ComfyUI that replaces nodes by itself.
    """

    new: str
    inputs: dict[str, str]  # new name -> old name
    values: dict[str, Any] = field(default_factory=dict)
    outputs: dict[int, int] = field(default_factory=lambda: {0: 0})  # old -> new
    note: str = ""

    def __call__(self, old: Node, graph: Graph) -> None:
        given = {new: old.get(name) for new, name in self.inputs.items()}
        link = graph.add(old, self.new, **given, **self.values)
        graph.replace(old, {slot: link.output(new) for slot, new in self.outputs.items()})
        for new, name in self.inputs.items():
            graph.rename(old, name, link.node, new)
        if self.note:
            graph.report.note(old, self.note)
        if "text" in given:
            note_prompt_syntax(old, given["text"], graph)


def note_prompt_syntax(old: Node, text: Any, graph: Graph) -> None:
    """Note where the same prompt has another meaning in the new nodes."""
    if not isinstance(text, str):
        return
    if re.search(r"(?<!\\)[()]", text):
        graph.report.note(
            old,
            "round brackets in the prompt now weight words, as everywhere in ComfyUI; the old node read them as text. "
            r"Write \( and \) to keep them as text.",
        )
    if not graph.on_canvas and re.search(r"\{[^{}]*\|[^{}]*\}", text):
        graph.report.note(
            old,
            "{a|b} in the prompt was a random choice on the server; here only the canvas makes that choice. Pick one.",
        )


def keep_sdxl_schedule(old: Node, graph: Graph, model: Any) -> Link:
    """The MODEL with the schedule that the old node gave it."""
    graph.report.note(old, SDXL_SCHEDULE)
    return graph.add(old, "KolorsModelSampling", model=model, schedule="sdxl")


def only_widget(loader: Node, name: str) -> Any:
    """The value of a loader's one widget: the canvas knows it by position if the node is not in the table."""
    return loader.get(name, loader.first_widget)
