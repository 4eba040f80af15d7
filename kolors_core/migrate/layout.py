"""Room on the canvas for nodes that are larger than what they replace, or new."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .shapes import SHAPES

TITLE = 30  # pixels of a node's title, above its position
GAP = 20  # pixels between nodes that are moved


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def pair(value: object, default: tuple[float, float] = (0, 0)) -> tuple[float, float]:
    """A position or a size, which the front end stores as a list or, older, as {"0": x, "1": y}."""
    if isinstance(value, dict):
        value = [value.get("0"), value.get("1")]
    if isinstance(value, (list, tuple)) and len(value) >= 2 and all(isinstance(n, (int, float)) for n in value[:2]):
        return value[0], value[1]
    return default


def box_of(raw: dict) -> Box:
    """What a node covers, its title included; a collapsed one its title only."""
    x, y = pair(raw.get("pos"))
    width, height = pair(raw.get("size"), (210, 60))
    if isinstance(raw.get("flags"), dict) and raw["flags"].get("collapsed"):
        height = 0
    return Box(x, y - TITLE, width, height + TITLE)


def arrange(nodes: list[tuple[dict, dict | None]]) -> None:
    """Place each added node, given with the one it was added for, and push down what a larger one would cover."""
    present = [raw for raw, old in nodes if old is None]
    for raw, old in nodes:
        if old is None:
            continue
        least = SHAPES[raw["type"]].size
        raw["size"] = [max(a, b) for a, b in zip(pair(raw["size"], least), least)]
        raw["pos"] = list(pair(old.get("pos")))
    in_place = [raw for raw, old in nodes if old is not None and raw["id"] == old["id"]]
    before = {id(raw): box_of(old) for raw, old in nodes if old is not None and raw["id"] == old["id"]}
    before |= {id(raw): box_of(raw) for raw in present}
    settled = present + in_place
    _push_down(settled, before)
    homes = {old["id"]: raw for raw, old in nodes if old is not None and raw["id"] == old["id"]}
    for raw, old in nodes:
        if old is None or raw["id"] == old["id"]:
            continue
        x, y = pair(homes.get(old["id"], old)["pos"])
        raw["pos"] = [x, y]
        while covered := [box for box in map(box_of, settled) if box.meets(_grown(box_of(raw)))]:
            raw["pos"] = [x, max(box.y + box.height for box in covered) + TITLE + GAP]
        settled.append(raw)


def _grown(box: Box) -> Box:
    """The box with half a gap on each side."""
    return Box(box.x - GAP / 2, box.y - GAP / 2, box.width + GAP, box.height + GAP)


def _push_down(raws: list[dict], before: dict[int, Box]) -> None:
    """Move nodes down until none covers another that it did not cover `before`."""
    done: list[dict] = []
    for raw in sorted(raws, key=lambda raw: before[id(raw)].y):
        while covering := [
            other for other in done if box_of(other).meets(box_of(raw)) and not before[id(other)].meets(before[id(raw)])
        ]:
            x, _ = pair(raw["pos"])
            raw["pos"] = [x, max(box_of(other).y + box_of(other).height for other in covering) + TITLE + GAP]
        done.append(raw)


def fit_groups(groups: list[dict], before: dict[Any, Box], after: Iterable[dict]) -> None:
    """Let the frames of groups still hold the nodes that they held, which covered the boxes `before` by id."""
    for group in groups:
        frame = group.get("bounding") if isinstance(group, dict) else None
        if not isinstance(frame, list) or len(frame) != 4:
            continue
        x, y, width, height = frame
        held = [raw for raw in after if raw["id"] in before and before[raw["id"]].meets(Box(x, y, width, height))]
        right = max([x + width, *(box_of(raw).x + box_of(raw).width + GAP for raw in held)])
        bottom = max([y + height, *(box_of(raw).y + box_of(raw).height + GAP for raw in held)])
        group["bounding"] = [x, y, right - x, bottom - y]
