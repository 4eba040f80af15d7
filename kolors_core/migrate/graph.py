"""A graph between its two file formats: nodes, what each input is given, and which node replaced which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .report import Report
from .shapes import CONTROL, SHAPES, Input

#: Types of the older packs that one type of this pack replaces, also at the boundary of a subgraph.
NEW_TYPES = {"CHATGLM3MODEL": "CLIP", "KOLORSMODEL": "MODEL"}
#: Nodes that give what they get, under whatever type. A Get node gets it from the Set node of its name.
PASSING = {
    "Reroute",
    "Reroute (rgthree)",
    "ReroutePrimitive|pysssss",
    "SetNode",
    "GetNode",
    "easy setNode",
    "easy getNode",
}
#: Nodes of Use Everywhere, which send what they get to every free input that fits.
EVERYWHERE = {
    "Anything Everywhere",
    "Anything Everywhere3",
    "Anything Everywhere?",
    "Prompts Everywhere",
    "Seed Everywhere",
}
MUTED, BYPASSED = 2, 4  # modes of the front end


class Link(NamedTuple):
    """An output of a node, as the value of an input.

    id: of the canvas link that it was read from. typed: what the widget under it holds, which the front end sends where
    the link leads nowhere, as behind a bypassed node.
    """

    node: Node
    slot: int
    id: int | None = None
    typed: Any = None

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
    setter: Node | None = None  # of a Get node: its Set node

    def get(self, name: str, default: Any = None) -> Any:
        """What an input is given."""
        return self.values.get(name, default)

    def slots(self, part: str) -> list[dict]:
        """The "inputs" or "outputs" that the canvas has for it."""
        slots = self.raw.get(part)
        return [slot for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []

    @property
    def first_widget(self) -> Any:
        """The first value that the canvas holds for it."""
        stored = self.raw.get("widgets_values")
        return stored[0] if isinstance(stored, list) and stored else None

    @property
    def is_bypassed(self) -> bool:
        """Whether it passes on what it gets, as the user chose on the canvas."""
        return self.raw.get("mode") == BYPASSED

    @property
    def links(self) -> Iterator[Link]:
        return (value for value in self.values.values() if isinstance(value, Link))

    def __str__(self) -> str:
        meta = self.raw.get("_meta")
        title = self.raw.get("title") or (meta.get("title") if isinstance(meta, dict) else None)
        return f"{self.id}: {self.type}" + (f" '{title}'" if title and title != self.type else "")


class Unmapped(Exception):
    """A node that stays as it is; the text says why and what to do."""


@dataclass(eq=False)
class EncodedPrompts:
    """What the prompts of one node, which gives them all as one output, have become."""

    clip: Link | None
    prompts: list[Any]  # the positive ones; a str or, where the widget is linked, a Link
    positives: list[Link]
    negative: Link
    images: Any  # the number of images for each prompt


class Graph:
    """One graph of a file: all of an API prompt, or the canvas, or one of its subgraphs."""

    def __init__(self, nodes: Iterable[Node], report: Report, on_canvas: bool = True, boxes: Iterable[str] = ()):
        self.nodes = dict.fromkeys(nodes)  # in order; that a node is among them is asked often
        self.report = report
        self.on_canvas = on_canvas
        self.boxes = set(boxes)  # types that stand for a subgraph, outside and inside
        self.added: dict[Node, list[Node]] = {}  # for each node of the file that mappings added some for
        self.outputs: dict[Node, dict[int, Link]] = {}  # of each replaced node: where its outputs come from now
        self.encoded: dict[Node | None, EncodedPrompts] = {}
        self.renamed: dict[tuple[str, str], tuple[Node, str]] = {}  # (old id, widget) -> its successor
        self.sent: dict[str, str] = {}  # the nodes that send a type to every free input, by that type
        self.note_used()

    def note_used(self) -> None:
        """Remember which nodes the file needs, before anything changes."""
        self.used_before = self._used()

    # ---- for the mappings

    def add(self, old: Node, kind: str, **values: Any) -> Link:
        """Add a node for `old`, whose place the first one takes. Returns its first output.

        A value that the input cannot hold is brought into its range or replaced by its default, and reported.
        """
        shape = SHAPES[kind]
        first = not any(node.stands_in for node in self.added.get(old, ()))
        values = {name: value for name, value in values.items() if value is not None and not leads_nowhere(value)}
        for name, value in values.items():
            if not isinstance(value, Link) and name != CONTROL:
                values[name] = self._fit(old, kind, shape.input(name), value)
        for missing in (one for one in shape.inputs if not one.optional and one.name not in values):
            if missing.is_widget:
                values[missing.name] = missing.default
                self.report.note(old, f"{missing.name} of {kind} is not in the file; it is set to {missing.default!r}.")
            else:
                sender = next((node for type, node in self.sent.items() if new_type(type) == missing.type), None)
                todo = f"{sender} may reach it; see that it does." if sender else "Connect it."
                self.report.note(old, f"{missing.name} of {kind} is not connected. {todo}")
        node = Node(kind, values, old=old, stands_in=first)
        self.nodes[node] = None
        self.added.setdefault(old, []).append(node)
        return Link(node, 0)

    def add_beside(self, old: Node, kind: str, **values: Any) -> Link:
        """The same for a node that never takes its place."""
        link = self.add(old, kind, **values)
        link.node.stands_in = False
        return link

    def replace(self, old: Node, outputs: dict[int, Any]) -> None:
        """`old` goes; its outputs come from these Links. What is not a Link, or not named, leads nowhere."""
        self.outputs[old] = {slot: link for slot, link in outputs.items() if isinstance(link, Link)}

    def rename(self, old: Node, name: str, new: Node, new_name: str) -> None:
        """A widget of `old` is `new_name` of the node `new` now, also where the box of a subgraph shows it."""
        self.renamed[str(old.id), name] = (new, new_name)

    def typed(self, old: Node, name: str, default: Any = None) -> Any:
        """The value of a widget that the new nodes know under other names; a link to it cannot stay, which is said."""
        value = old.get(name, default)
        if not isinstance(value, Link):
            return value
        self.report.note(
            old, f"its {name} came from {value.node}, whose values the new node does not know. Choose it there by hand."
        )
        return default if value.typed is None else value.typed

    def source(self, node: Node, name: str) -> Node | None:
        """The node behind an input, with those that only pass on left out."""
        link = node.values.get(name)
        link = skip_passing(link) if isinstance(link, Link) else None
        return link and link.node

    def consumers(self, node: Node) -> list[Node]:
        """The nodes of the file behind all outputs that are not replaced yet, with those that only pass on left out."""
        waiting = [other for other in self.nodes if other.old is None and other not in self.outputs]
        waiting = [other for other in waiting if other.type not in PASSING | EVERYWHERE]
        sources = {other: [skip_passing(link) for link in other.links] for other in waiting}
        return [other for other, links in sources.items() if any(link and link.node is node for link in links)]

    def reaches(self, kind: str, node: Node) -> bool:
        """Whether a node of this type is somewhere before the given one."""
        seen: set[Node] = set()
        waiting = [node]
        while waiting:
            for link in map(self._resolve, waiting.pop().links):
                if link and link.node.type == kind:
                    return True
                if link and link.node not in seen:
                    seen.add(link.node)
                    waiting.append(link.node.setter or link.node)
        return False

    def stand_in(self, new: Node) -> None:
        """Let this one of the nodes that were added for the same old one take its place."""
        for node in self.added[new.old] if new.old else ():
            node.stands_in = node is new

    def _fit(self, old: Node, kind: str, widget: Input, value: Any) -> Any:
        """The value that a widget can hold; a report if it had to change."""
        fitting = widget.fit(value)
        if fitting != value:
            self.report.note(old, f"{widget.name} of {kind} cannot be {value!r}; it is set to {fitting!r}.")
        return fitting

    # ---- when all mappings have been applied

    def settle(self, removable: set[str]) -> None:
        """Replaced nodes go, links lead to what took their place, and what nothing needs any more goes as well.

        removable: types of nodes of the file that go when their last consumer has gone.
        """
        self._drop(self.outputs)
        lost = [(node, link) for node in self.nodes for link in self._resolve_links(node)]
        while idle := self._idle(removable):
            self._drop(idle)
        self._drop({node for node, _ in lost if node.type in EVERYWHERE and not any(node.links)})
        for node, link in lost:
            if node.old is None and node in self.nodes:
                self.report.note(link.node, f"its output {link.slot} went into {node}, which now gets nothing.")
        for node in self.nodes:
            node.stands_in = node.stands_in and node.old not in self.nodes

    def _drop(self, nodes: Collection[Node]) -> None:
        self.nodes = {node: None for node in self.nodes if node not in nodes}

    def _resolve_links(self, node: Node) -> list[Link]:
        """Let the inputs of a node come from what is there now. Returns the links that lead nowhere any more."""
        lost = []
        for name, link in list(node.values.items()):
            if not isinstance(link, Link):
                continue
            if resolved := self._resolve(link):
                node.values[name] = resolved
            else:
                del node.values[name]
                lost.append(link)
        return lost

    def _resolve(self, link: Link) -> Link | None:
        """Where a link comes from now, under the number that it has in the file."""
        now: Link | None = link
        while now is not None and now.node in self.outputs:
            now = self.outputs[now.node].get(now.slot)
        return now and now._replace(id=link.id, typed=link.typed)

    def _used(self) -> set[Node]:
        setters = {node.setter for node in self.nodes if node.setter}
        return {link.node for node in self.nodes for link in node.links} | setters

    def _idle(self, removable: set[str]) -> set[Node]:
        """The nodes that nothing reads although something did, or their predecessors were read."""
        used = self._used()
        known = (node for node in self.nodes if node.old is not None or node.type in removable)
        return {node for node in known if (node.old or node) in self.used_before and node not in used}


def new_type(kind: Any) -> Any:
    """The type of a slot or link in a converted graph."""
    return NEW_TYPES.get(kind, kind) if isinstance(kind, str) else kind


def skip_passing(link: Link) -> Link | None:
    """The output that a link leads back to behind nodes that only pass on; None where it leads nowhere."""
    source: Link | None = link
    seen: set[Node] = set()
    while source is not None and source.node.type in PASSING:
        if source.node in seen:
            return None
        seen.add(source.node)
        source = next((source.node.setter or source.node).links, None)
    return source


def leads_nowhere(value: Any) -> bool:
    """Whether this is a link, but to no output."""
    return isinstance(value, Link) and skip_passing(value) is None


def number_added(nodes: Iterable[Node], last: int, kind: type[int] | type[str]) -> int:
    """Give every added node an id of `kind` above `last`, or that of the node it stands in for. Returns the highest."""
    for node in nodes:
        if node.old is None:
            continue
        if node.stands_in:
            node.id = node.old.id
        else:
            last += 1
            node.id = kind(last)
    return last
