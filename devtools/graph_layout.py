"""Where the nodes of a graph go: in columns from left to right in the order of data, GAP apart.

A layered drawing after Sugiyama, Tagawa and Toda (IEEE Trans. SMC 11, 1981). The order within the columns is searched
on the real boxes: links should cross neither each other nor a node, be short, and leave the author's order as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GAP = 40.0  # pixels between two boxes, in both directions
TITLE = 30.0  # pixels of a title, which stands above a node's position
SLOT = 20.0  # pixels from one slot of a node to the next
TALL = 900.0  # pixels of a first column that gives nodes up to the others
NOTE = "MarkdownNote"

Id = Any  # a number, or in newer front ends a text
Position = tuple[float, float]
Size = tuple[float, float]
Column = list[Id]


class Link(NamedTuple):
    origin: Id
    output: int
    target: Id
    input: int


class Line(NamedTuple):
    """A link as it is drawn, but straight."""

    start: Position
    end: Position

    def height(self, x: float) -> float:
        (x1, y1), (x2, y2) = self
        return y1 + (y2 - y1) * (x - x1) / (x2 - x1)

    def crosses(self, other: Line) -> bool:
        left, right = max(self.start[0], other.start[0]), min(self.end[0], other.end[0])
        if left >= right:
            return False
        return (self.height(left) - other.height(left)) * (self.height(right) - other.height(right)) < 0


@dataclass
class Graph:
    """`sizes`: width and height below the title of each node, in the author's order.

    A node in `first` without an input stands in the first column unless that gets TALL, others beside what they go to.
    """

    sizes: dict[Id, Size]
    links: list[Link]
    first: set[Id] = field(default_factory=set)

    def targets(self, node: Id) -> list[Id]:
        return [link.target for link in self.links if link.origin == node]

    def origins(self, node: Id) -> list[Id]:
        return [link.origin for link in self.links if link.target == node]


def arrange(graph: Graph) -> list[Column]:
    """The nodes in columns such that every link leads to the right, each column in the best order that was found."""
    order = columns(graph)
    while better := min(neighbours(order), key=lambda other: cost(graph, other), default=None):
        if cost(graph, better) >= cost(graph, order):
            break
        order = better
    return order


def columns(graph: Graph) -> list[Column]:
    """The nodes by the longest path that leads to them, in the author's order."""
    depth: dict[Id, int] = {}

    def measure(node: Id) -> int:
        if node not in depth:
            depth[node] = 1 + max(map(measure, graph.origins(node)), default=-1)
        return depth[node]

    for node in graph.sizes:
        measure(node)
    sources = [node for node in graph.sizes if not graph.origins(node) and graph.targets(node)]
    latest = {node: min(map(depth.__getitem__, graph.targets(node))) - 1 for node in sources}
    depth |= {node: latest[node] for node in sources if node not in graph.first}
    for node in sorted(sources, key=lambda node: -latest[node]):  # those that are needed last go first
        if sum(graph.sizes[other][1] + TITLE + GAP for other in graph.sizes if depth[other] == 0) > TALL:
            depth[node] = latest[node]
    found: list[Column] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for node in graph.sizes:
        found[depth[node]].append(node)
    return found


def neighbours(order: list[Column]) -> Iterator[list[Column]]:
    """All orders in which one node stands elsewhere in its column."""
    for index, column in enumerate(order):
        for node in column:
            rest = [other for other in column if other != node]
            for row in range(len(column)):
                if (moved := [*rest[:row], node, *rest[row:]]) != column:
                    yield [*order[:index], moved, *order[index + 1 :]]


def cost(graph: Graph, order: list[Column]) -> float:
    """Crossings, and links behind nodes, first; then the length of the links, and changes of the author's order."""
    places, lines = positions(order, graph.sizes), lines_of(graph, order)
    crossings = sum(one.crosses(other) for index, one in enumerate(lines) for other in lines[index + 1 :])
    hidden = sum(hides(places[node], graph.sizes[node], line) for node in places for line in lines)
    length = sum(abs(line.start[1] - line.end[1]) for line in lines)
    author = {node: row for row, node in enumerate(graph.sizes)}
    swapped = sum(author[a] > author[b] for column in order for row, a in enumerate(column) for b in column[row + 1 :])
    return crossings + hidden + length / 5_000 + swapped / 20


def lines_of(graph: Graph, order: list[Column]) -> list[Line]:
    places = positions(order, graph.sizes)

    def end(node: Id, slot: int, right: bool) -> Position:
        (x, y), (width, height) = places[node], graph.sizes[node]
        return x + right * width, y + min(SLOT * (slot + 0.7), height)

    return [Line(end(link.origin, link.output, True), end(link.target, link.input, False)) for link in graph.links]


def hides(place: Position, size: Size, line: Line) -> bool:
    """Whether a link that passes the column of a node does so behind it."""
    middle = place[0] + size[0] / 2
    passes = line.start[0] < middle < line.end[0]
    return passes and place[1] - TITLE < line.height(middle) < place[1] + size[1]


def positions(order: list[Column], sizes: dict[Id, Size]) -> dict[Id, Position]:
    """The upper left corner of each node, below its title; the columns are aligned at the top."""
    found, x = {}, 0.0
    for column in order:
        y = 0.0
        for node in column:
            found[node] = (x, y)
            y += sizes[node][1] + GAP + TITLE
        x += max(sizes[node][0] for node in column) + GAP
    return found
