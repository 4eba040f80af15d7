"""What the benchmarks write: tables, JSON with the machine's description, and plots."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from _timing import Cost

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # of everything, over the last minute
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found |= {"accelerator": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "rocm": torch.version.hip}
    for name in ("diffusers", "transformers"):
        if name in sys.modules:
            found[name] = sys.modules[name].__version__
    return found


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def argument_parser(description: str) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--results", type=Path, help="where to (default: benchmarks/results)")
    return parser


def table(headings, rows) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ["---"] * len(headings), *rows))


def save(name: str, report: dict, results: Path | None = None) -> None:
    """`report` and the machine's description as results/<name>.json."""
    folder = results or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine()} | report, indent=2, default=Cost.json)
    partial = folder / f"{name}.json.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / f"{name}.json")  # whole or not at all: a long run is stopped now and then


@dataclass(frozen=True)
class Curve:
    """What a run costs over one size of the work: by side ("ours", "diffusers") a `Cost` for each of `values`."""

    what: str
    values: list[int]
    costs: dict[str, list[Cost]]

    def seconds(self, side: str) -> list[float]:
        return [cost.wall for cost in self.costs[side]]

    def json(self) -> dict[str, list]:
        return {"x": self.values} | self.costs

    def table(self) -> str:
        rows = [
            (value, f"{ours.wall * 1000:.1f}", f"{theirs.wall * 1000:.1f}", f"{ours.ratio:.3f}")
            for value, ours, theirs in zip(self.values, self.costs["ours"], self.costs["diffusers"])
        ]
        return table((self.what, "ours, ms", "diffusers, ms", "ratio"), rows)

    def growth(self, power: int = 1) -> str:
        """In words how fast the cost grows where there is most work, which is the size to that power."""
        work = [value**power for value in self.values]
        ours, theirs = (growth(work, self.seconds(side)) for side in ("ours", "diffusers"))
        return f"growth at the end, as a power of the work: ours {ours:.2f}, diffusers {theirs:.2f}"


def growth(work: list[float], cost: list[float]) -> float:
    """How fast the cost grows where there is most work: the exponent of its last step, 1.0 where it is linear."""
    return math.log(cost[-1] / cost[-2]) / math.log(work[-1] / work[-2])


def plot(name: str, curves: list[Curve], results: Path | None = None) -> None:
    """One small panel per curve as results/<name>.png, in milliseconds."""
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
    figure.savefig((results or RESULTS) / f"{name}.png", dpi=110)
    plt.close(figure)
