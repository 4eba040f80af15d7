"""A graph between its two file formats: nodes, what each is given, and what took the place of what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .report import Report
from .shapes import CONTROL, SHAPES


class Link(NamedTuple):
    """An output of a node, as the value of an input."""

    node: Node
    slot: int
    id: int | None = None  # of the canvas link that it was read from

    def output(self, slot: int) -> Link:
        return Link(self.node, slot)


@dataclass(eq=False)
class Node:
    """A node of the file, or one that conversion adds.

    values: what each input is given, a Link or a widget's value, by name. Of a canvas node that no mapping knows only
    the links are known, by the number of the slot.
    """

    type: str
    values: dict[Any, Any]
    id: Any = None
    raw: dict = field(default_factory=dict)  # as the file has it
    old: Node | None = None  # of an added node: the one that it was added for
    stands_in: bool = False  # whether it takes the id, place and title of `old`

    @property
    def links(self) -> Iterator[Link]:
        return (value for value in self.values.values() if isinstance(value, Link))

    def __str__(self) -> str:
        title = self.raw.get("title") or self.raw.get("_meta", {}).get("title")
        return f"{self.id}: {self.type}" + (f" '{title}'" if title and title != self.type else "")


class Unmapped(Exception):
    """A node that stays as it is; the text says why and what to do."""


@dataclass(eq=False)
class Texts:
    """What the prompts of one node, which gives them all as one output, have become."""

    clip: Any
    positives: list[Link]
    negative: Link
    prompts: list[Any]
    images: Any  # how many of each prompt


class Graph:
    """One graph of a file: all of an API prompt, or the canvas, or one of its subgraphs."""

    def __init__(self, nodes: Iterable[Node], report: Report, on_canvas: bool = True):
        self.nodes = list(nodes)
        self.report = report
        self.on_canvas = on_canvas
        self.outputs: dict[Node, dict[int, Link]] = {}  # of each replaced node: where its outputs come from now
        self.texts: dict[Node, Texts] = {}
        self.renamed: dict[tuple[str, str], tuple[Node, str]] = {}  # (old id, widget) -> its successor
        self.used_before = self._used()

    # ---- for the mappings

    def add(self, old: Node, kind: str, **values: Any) -> Link:
        """Add a node for `old`; the first one takes its place. Its first output.

        A value that the input cannot hold is brought into its range or replaced by its default, and reported.
        """
        shape = SHAPES[kind]
        first = not any(node.old is old for node in self.nodes)
        values = {name: value for name, value in values.items() if value is not None}
        for name, value in values.items():
            if isinstance(value, Link) or name == CONTROL:
                continue
            fitting = shape.input(name).fit(value)
            if fitting != value:
                self.report.note(old, f"{name} of {kind} cannot be {value!r}; it is set to {fitting!r}.")
            values[name] = fitting
        for one in shape.inputs:
            if one.is_widget and not one.optional and one.name not in values:
                values[one.name] = one.default
                self.report.note(old, f"{one.name} of {kind} is not in the file; it is set to {one.default!r}.")
            elif not one.is_widget and not one.optional and one.name not in values:
                self.report.note(old, f"{one.name} of {kind} is not connected. Connect it.")
        node = Node(kind, values, old=old, stands_in=first)
        self.nodes.append(node)
        return Link(node, 0)

    def replace(self, old: Node, outputs: dict[int, Any]) -> None:
        """`old` goes; its outputs come from these Links. What is not a Link, or not named, leads nowhere."""
        self.outputs[old] = {slot: link for slot, link in outputs.items() if isinstance(link, Link)}

    def source(self, node: Node, name: str) -> Node | None:
        """The node behind an input, with reroutes left out."""
        link = node.values.get(name)
        link = skip_reroutes(link) if isinstance(link, Link) else None
        return link and link.node

    def consumers(self, node: Node) -> list[Node]:
        """The nodes of the file behind all outputs that are not replaced yet, with reroutes left out."""
        waiting = [other for other in self.nodes if other.old is None and other not in self.outputs]
        sources = {other: [skip_reroutes(link) for link in other.links] for other in waiting if other.type != "Reroute"}
        return [other for other, links in sources.items() if any(link and link.node is node for link in links)]

    def stand_in(self, new: Node) -> None:
        """Let this one of the nodes that were added for the same old one take its place."""
        for node in self.nodes:
            if node.old is new.old:
                node.stands_in = node is new

    # ---- when all mappings have been applied

    def settle(self, removable: set[str]) -> None:
        """Replaced nodes go, links lead to what took their place, and what nothing needs any more goes as well.

        removable: types of nodes of the file that go when their last consumer has gone.
        """
        self.nodes = [node for node in self.nodes if node not in self.outputs]
        for node in self.nodes:
            for name, link in list(node.values.items()):
                if isinstance(link, Link):
                    resolved = self._resolve(link)
                    if resolved is None:
                        del node.values[name]
                        if node.old is None:
                            self.report.note(link.node, f"its output {link.slot} went into {node}, which gets nothing.")
                    else:
                        node.values[name] = resolved
        while idle := [node for node in self.nodes if self._is_idle(node, removable)]:
            self.nodes = [node for node in self.nodes if node not in idle]
        for node in self.nodes:
            node.stands_in = node.stands_in and node.old not in self.nodes

    def _resolve(self, link: Link) -> Link | None:
        first = link
        while link is not None and link.node in self.outputs:
            link = self.outputs[link.node].get(link.slot)
        return link and link._replace(id=first.id if link is not first else link.id)

    def _used(self) -> set[Node]:
        return {link.node for node in self.nodes for link in node.links}

    def _is_idle(self, node: Node, removable: set[str]) -> bool:
        """Whether nothing reads the node although something did, or its predecessor was read."""
        known = node.old is not None or node.type in removable
        return known and (node.old or node) in self.used_before and node not in self._used()


def skip_reroutes(link: Link) -> Link | None:
    """The output that a link leads back to behind reroutes; None where it leads nowhere."""
    seen = set()
    while link is not None and link.node.type == "Reroute":
        link = None if link.node in seen else next(link.node.links, None)
        seen |= {link.node} if link and link.node.type == "Reroute" else set()
    return link


# ---- API format -----------------------------------------------------------------------------------------------------


def is_prompt(data: Any) -> bool:
    """Whether these are the nodes of a graph in API format."""
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in data.values())
    )


def read_prompt(prompt: dict, report: Report) -> Graph:
    nodes = {id: Node(raw["class_type"], {}, id, raw) for id, raw in prompt.items()}
    for node in nodes.values():
        inputs = node.raw.get("inputs")
        for name, value in (inputs if isinstance(inputs, dict) else {}).items():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in nodes:
                value = Link(nodes[str(value[0])], value[1])
            node.values[name] = value
    return Graph(nodes.values(), report, on_canvas=False)


def write_prompt(graph: Graph) -> dict:
    numbers = [int(node.id) for node in graph.nodes + list(graph.outputs) if str(node.id).isdecimal()]
    last = max(numbers, default=0)
    for node in graph.nodes:
        if node.stands_in:
            node.id = node.old.id
        elif node.old is not None:
            last += 1
            node.id = str(last)
    order = sorted(graph.nodes, key=lambda node: node.old is not None and not node.stands_in)
    prompt = {}
    for node in order:
        inputs = {
            name: [value.node.id, value.slot] if isinstance(value, Link) else value
            for name, value in node.values.items()
            if name != CONTROL
        }
        kept = (
            node.raw if node.old is None else {k: v for k, v in node.old.raw.items() if k == "_meta" and node.stands_in}
        )
        prompt[node.id] = {**kept, "inputs": inputs, "class_type": node.type}
    return prompt
