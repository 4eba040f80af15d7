"""One graph of a template: what is known of its nodes, and where they go: notes above, all others in columns."""

from __future__ import annotations

import math
from typing import Any

from .graph_layout import GAP, NOTE, TITLE, Graph, Id, Link, Position, Size, arrange, positions

WIDTH = 300.0
FILE_WIDTH = 380.0  # of nodes that show the name of a file
NOTE_SIZE = 900.0, 60.0  # the largest width, and a height that no note gets by with
#: In which the text stands out by 4.5 to 1 in both themes and both renderers; the front end's own yellow is too light
#: in the dark theme.
NOTE_COLOURS = {"color": "#35350d", "bgcolor": "#212108"}
#: Nodes that are better larger than they need to be: the width, and what is added to the height.
ROOM: dict[str, Size] = {
    "CLIPTextEncode": (420, 90),
    "KolorsPromptEncode": (420, 90),
    "KolorsLoraLoader": (FILE_WIDTH, 90),  # after a run it says how many modules matched
    "LossGraphNode": (FILE_WIDTH, 300),
    "PreviewImage": (FILE_WIDTH, 300),
    "SaveImage": (440, 440),
    "Subgraph": (420, 90),
}


class Drawing:
    """Sizes only grow, to what the nodes need in every renderer and language that was asked."""

    def __init__(self) -> None:
        self.kinds: dict[Id, str] = {}
        self.links: list[Link] = []
        self.sizes: dict[Id, Size] = {}
        self.places: dict[Id, Position] = {}

    def notes(self) -> list[Id]:
        return [node for node, kind in self.kinds.items() if kind == NOTE]

    def need(self, node: Id, width: float, height: float) -> None:
        before = self.sizes.get(node, (0.0, 0.0))
        self.sizes[node] = max(before[0], math.ceil(width)), max(before[1], math.ceil(height))

    def add(self, node: Id, kind: str, width: float, height: float) -> None:
        """A node with the size that the front end says it needs."""
        self.kinds[node] = kind
        if kind == NOTE:
            self.need(node, 0, NOTE_SIZE[1])
            return
        least, more = ROOM.get(kind, (FILE_WIDTH if "Load" in kind else WIDTH, 0.0))
        self.need(node, max(width, least), height + more)

    def arrange(self) -> None:
        """Gives every node its place; those of a column get the width of the widest, notes that of the whole."""
        notes = self.notes()
        sizes = {node: size for node, size in self.sizes.items() if node not in notes}
        loaders = {node for node in sizes if "Loader" in self.kinds[node]}
        order = arrange(
            Graph(sizes, [link for link in self.links if {link.origin, link.target} <= set(sizes)], loaders)
        )
        for column in order:
            widest = max(sizes[node][0] for node in column)
            self.sizes |= {node: (widest, sizes[node][1]) for node in column}
        self.places = positions(order, self.sizes)
        width = min(NOTE_SIZE[0], (self.right() - GAP * (len(notes) - 1)) // max(1, len(notes)))
        highest = max((self.sizes[note][1] for note in notes), default=0.0)
        for number, note in enumerate(notes):
            self.sizes[note] = (width, self.sizes[note][1])
            self.places[note] = (number * (width + GAP), -TITLE - GAP - highest)

    def right(self) -> float:
        """Where the last column ends."""
        return max((x + self.sizes[node][0] for node, (x, _) in self.places.items()), default=0.0)

    def rows(self) -> list[list[Any]]:
        """[node, x, y, width, height] of each."""
        return [[node, *place, *self.sizes[node]] for node, place in self.places.items()]
