"""Room on the canvas for nodes that are larger than what they replace, or new."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from itertools import chain, takewhile
from typing import Any, NamedTuple

from .shapes import SHAPES

HEAD = 50  # pixels above a node's position: its title, and the badge with its pack's name
GAP = 20  # pixels around nodes that are added
STRIP = 256  # pixels, about a node's width


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def holds_centre(self, other: Box) -> bool:
        x, y = other.x + other.width / 2, other.y + other.height / 2
        return self.x <= x < self.right and self.y <= y < self.bottom

    def covers(self, other: Box) -> bool:
        return self.x <= other.x and self.y <= other.y and other.right <= self.right and other.bottom <= self.bottom

    def grown_to(self, boxes: list[Box]) -> Box:
        """This box, as much wider and higher as it takes to reach the right and lower ends of others."""
        right = max([self.right, *(box.right for box in boxes)])
        bottom = max([self.bottom, *(box.bottom for box in boxes)])
        return Box(self.x, self.y, right - self.x, bottom - self.y)

    def meets(self, other: Box) -> bool:
        return self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom


def pair(value: object, default: tuple[float, float] = (0, 0)) -> tuple[float, float]:
    """A position or a size, which the front end stores as a list or, older, as {"0": x, "1": y}."""
    if isinstance(value, dict):
        value = [value.get("0"), value.get("1")]
    match value:
        case [int() | float() as first, int() | float() as second, *_]:
            return first, second
    return default


def box_of(raw: dict) -> Box:
    """What a node covers, its head included; a collapsed one its head only."""
    x, y = pair(raw.get("pos"))
    width, height = pair(raw.get("size"), (210, 60))
    if isinstance(raw.get("flags"), dict) and raw["flags"].get("collapsed"):
        height = 0
    return Box(x, y - HEAD, width, height + HEAD)


def arrange(nodes: list[tuple[dict, dict | None]]) -> None:
    """Place each added node, given with its predecessor, and push down what a larger one would cover.

    An added node that has the id of its predecessor takes its position; the others go below that one.
    """
    kept = [raw for raw, old in nodes if old is None]
    added = [(raw, old) for raw, old in nodes if old is not None]
    in_place = [(raw, old) for raw, old in added if raw["id"] == old["id"]]
    for raw, old in added:
        _take_position(raw, old)
    before = {id(raw): box_of(old) for raw, old in in_place} | {id(raw): box_of(raw) for raw in kept}
    columns = _push_down([*kept, *(raw for raw, _ in in_place)], before)
    successors = {old["id"]: raw for raw, old in in_place}
    for raw, old in added:
        if raw["id"] != old["id"]:
            _place_below(raw, successors.get(old["id"], old), columns)
            columns.add(box_of(raw))


class Columns:
    """Boxes that are placed, by the strips of the canvas that they reach into; in each the lowest comes first."""

    def __init__(self):
        self.strips: dict[int, list[tuple[Box, Box]]] = {}

    def add(self, box: Box, before: Box | None = None) -> None:
        """before: the box of the same node before anything was moved, if it was there."""
        for strip in _strips(box):
            insort(self.strips.setdefault(strip, []), (box, before or box), key=lambda pair: -pair[0].bottom)

    def near(self, box: Box) -> Iterator[list[tuple[Box, Box]]]:
        """The strips that a box reaches into: boxes, the lowest first, each with its box before."""
        return (self.strips.get(strip, []) for strip in _strips(box))


def _strips(box: Box) -> range:
    return range(int(box.x // STRIP), int(box.right // STRIP) + 1)


def _take_position(raw: dict, old: dict) -> None:
    """Give a node its predecessor's position, and at least the size that it needs."""
    least = SHAPES[raw["type"]].size
    raw["size"] = [max(a, b) for a, b in zip(pair(raw["size"], least), least)]
    raw["pos"] = list(pair(old.get("pos")))


def _place_below(raw: dict, anchor: dict, columns: Columns) -> None:
    """Put a node where another one stands, or below, where it touches none of those that are placed."""
    x, y = pair(anchor.get("pos"))
    raw["pos"] = [x, y]
    while covered := _covered(_grown(box_of(raw)), columns):
        raw["pos"] = [x, max(box.bottom for box in covered) + HEAD + GAP]


def _covered(box: Box, columns: Columns) -> list[Box]:
    reaching = (takewhile(lambda pair: pair[0].bottom > box.y, strip) for strip in columns.near(box))
    return [placed for placed, _ in chain.from_iterable(reaching) if placed.meets(box)]


def _grown(box: Box) -> Box:
    """The box with half a gap on each side."""
    return Box(box.x - GAP / 2, box.y - GAP / 2, box.width + GAP, box.height + GAP)


def _push_down(raws: list[dict], before: dict[int, Box]) -> Columns:
    """Move nodes down until none is nearer to one above it than it was `before`, or lies on it."""
    columns = Columns()
    for raw in sorted(raws, key=lambda raw: before[id(raw)].y):
        box = box_of(raw)
        top = _top(box, before[id(raw)], columns)
        if top > box.y:
            raw["pos"] = [box.x, top + HEAD]
            box = box._replace(y=top)
        columns.add(box, before[id(raw)])
    return columns


def _top(box: Box, before: Box, columns: Columns) -> float:
    """Where a box may begin at the highest below those that stood higher before."""
    top = box.y
    for strip in columns.near(box):
        for above, old in strip:
            if above.bottom <= top:
                break
            if above.x < box.right and box.x < above.right:
                top = max(top, above.bottom - (old.bottom - before.y if old.meets(before) else 0))
    return top


def fit_groups(groups: list[dict], before: dict[Any, Box], after: list[tuple[dict, Any]]) -> None:
    """Let the frames of groups hold the nodes that they held, as far as these have moved, grown or become more.

    before: the boxes of all nodes by id. after: each node with the id of the one that it was or was added for.
    The front end counts a node to the frame that its centre lies in, and a frame to the one that covers it.
    """
    frames = [(group, frame) for group in groups if (frame := _frame_of(group))]
    frames.sort(key=lambda one: one[1].width * one[1].height)
    there = [(raw, id) for raw, id in after if id in before]
    fitted: list[tuple[Box, Box]] = []
    for group, frame in frames:
        held = [(raw, id) for raw, id in there if frame.holds_centre(before[id])]
        stayed = [(before[id], box_of(raw)) for raw, id in held if raw["id"] == id]
        stayed += [(old, new) for old, new in fitted if frame.covers(old)]
        added = [box_of(raw) for raw, id in held if raw["id"] != id]
        others = [box_of(raw) for raw, id in there if not frame.holds_centre(before[id])]
        new = _fit(frame, stayed, added, others)
        group["bounding"] = list(new)
        fitted.append((frame, new))


def _frame_of(group: Any) -> Box | None:
    frame = group.get("bounding") if isinstance(group, dict) else None
    if isinstance(frame, list) and len(frame) == 4 and all(type(n) in (int, float) for n in frame):
        return Box(*frame)
    return None


def _fit(frame: Box, stayed: list[tuple[Box, Box]], added: list[Box], others: list[Box]) -> Box:
    """A frame for what it held, given as it was and as it is, and for what was added.

    It takes in none of the `others`: rather it leaves out what was added far away, or reaches no more than centres.
    """
    moved = max(min([new.y - old.y for old, new in stayed], default=0), 0)
    frame = frame._replace(y=frame.y + moved)
    changed = [new for old, new in stayed if new != old]
    centres = [Box(box.x, box.y, box.width / 2 + 1, box.height / 2 + 1) for box in changed]
    choices = [frame.grown_to(_with_gap(changed + added)), frame.grown_to(_with_gap(changed)), frame.grown_to(centres)]
    return next((one for one in choices if not any(map(one.holds_centre, others))), choices[-1])


def _with_gap(boxes: list[Box]) -> list[Box]:
    return [Box(box.x, box.y, box.width + GAP, box.height + GAP) for box in boxes]
