"""What the benchmarks write: tables, JSON with the machine's description and rows for the page, and plots."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _machine import QUICK_RESULTS, machine, results_folder, today
from _rows import Row
from _timing import Cost


class Quick(argparse.Action):
    """Tiny sizes, whose figures say nothing: unless a folder is named, they go where nobody takes them for results."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.quick = True
        namespace.results = namespace.results or QUICK_RESULTS


def argument_parser(description: str) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action=Quick, nargs=0, default=False, help="tiny sizes, to see that it runs")
    parser.add_argument("--results", type=Path, help="where to (default: this machine's folder in benchmarks/results)")
    return parser


def table(headings, rows) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ["---"] * len(headings), *rows))


def save(name: str, report: dict, results: Path | None = None, rows: Sequence[Row] = ()) -> None:
    """`report`, the rows for the page, the day and the machine's description as <name>.json."""
    folder = results or results_folder()
    folder.mkdir(parents=True, exist_ok=True)
    head = {"machine": machine(), "date": today(), "page": rows}
    text = json.dumps(head | report | head, indent=2, default=lambda value: value.json())
    partial = folder / f"{name}.json.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / f"{name}.json")  # whole or not at all: a long run is stopped now and then


@dataclass(frozen=True)
class Curve:
    """What a run costs over one size of the work: by side ("ours", "diffusers") a `Cost` for each of `values`."""

    what: str
    values: Sequence[float]
    costs: dict[str, list[Cost]]

    def seconds(self, side: str) -> list[float]:
        return [cost.wall for cost in self.costs[side]]

    def json(self) -> dict[str, list]:
        return {"x": list(self.values)} | self.costs

    def table(self) -> str:
        rows = [
            (value, f"{ours.wall * 1000:.1f}", f"{theirs.wall * 1000:.1f}", f"{ours.ratio:.3f}")
            for value, ours, theirs in zip(self.values, self.costs["ours"], self.costs["diffusers"])
        ]
        return table((self.what, "ours, ms", "diffusers, ms", "ratio"), rows)

    def work(self, power: int = 1) -> list[float]:
        """What there is to do at each value, which is a size to that power."""
        return [value**power for value in self.values]

    def growth(self, power: int = 1) -> str:
        """In words how fast the cost grows where there is most work, which is the size to that power."""
        ours, theirs = (growth(self.work(power), self.seconds(side)) for side in ("ours", "diffusers"))
        return f"growth at the end, as a power of the work: ours {ours:.2f}, diffusers {theirs:.2f}"

    def row(self, name: str, power: int = 1, ours: str = "ours", beside: str = "diffusers") -> Row:
        """How fast the time grows, as the page tells it."""
        exponents = [
            growth(self.work(power), self.seconds(side)) if side in self.costs else None for side in (ours, beside)
        ]
        return Row(name, exponents[0], "exponent", beside if exponents[1] is not None else "", exponents[1])


def growth(work: Sequence[float], cost: Sequence[float]) -> float:
    """How fast the cost grows where there is most work: the exponent of its last step, 1.0 where it is linear."""
    return math.log(cost[-1] / cost[-2]) / math.log(work[-1] / work[-2])


def plot(name: str, curves: list[Curve], results: Path | None = None) -> None:
    """One small panel per curve as <name>.png, in milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(3.1 * len(curves), 2.7), squeeze=False)
    for panel, curve in zip(panels[0], curves):
        for side, style in zip(curve.costs, ("o-", "s--", "^:", "v-.")):
            panel.plot(curve.values, [1000 * value for value in curve.seconds(side)], style, label=side, markersize=4)
        panel.set_title(f"over {curve.what}", fontsize=9)
        panel.set_xlabel(curve.what, fontsize=8)
        panel.margins(y=0.25)  # room for the legend
        panel.set_ylim(bottom=0)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("ms", fontsize=8)
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig((results or results_folder()) / f"{name}.png", dpi=110)
    plt.close(figure)
