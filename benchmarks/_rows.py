"""Rows for docs/performance.md, which `devtools/bench_page.py` writes from the results of all machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure.

    name: in English; devtools/bench_words.py has the Chinese. unit: "s", "MiB", "%", "" for a number, "exponent" for
    how fast time grows with the work, or "ratio" where nothing but the ratio is kept. beside: what the value is
    compared with, whose value is `other`. ratio: of this package's to the other's.
    """

    name: str
    value: float | None
    unit: str = "s"
    beside: str = ""
    other: float | None = None
    ratio: float | None = None

    def json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "") or key == "unit"}


def compared(
    name: str, value: float, other: float, unit: str = "s", beside: str = "diffusers", ratio: float | None = None
) -> Row:
    """A row with what it is compared with. The ratio is that of the two values, unless that of the rounds is given."""
    return Row(name, value, unit, beside, other, value / other if ratio is None else ratio)


def timed(name: str, ours, theirs, beside: str = "diffusers", per: int = 1) -> Row:
    """A row of two `Cost`s, of which theirs was the first in its rounds, and so the one that ratios are to."""
    return compared(name, ours.wall / per, theirs.wall / per, beside=beside, ratio=ours.ratio)
