"""What the benchmarks write: tables, JSON with the machine's description, and plots."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from pathlib import Path

import torch

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


def table(headings, rows) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ["---"] * len(headings), *rows))


def save(name: str, report: dict, results: Path | None = None) -> None:
    """`report` and the machine's description as results/<name>.json."""
    folder = results or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine()} | report, indent=2)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def growth(work: list[float], cost: list[float]) -> float:
    """How fast the cost grows where there is most work: the exponent of its last step, 1.0 where it is linear."""
    return math.log(cost[-1] / cost[-2]) / math.log(work[-1] / work[-2])


def plot(name: str, curves: dict[str, tuple[str, list, dict[str, list[float]]]], results: Path | None = None) -> None:
    """One small panel per curve: title -> (label of x, values of x, label of line -> seconds); milliseconds on y."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(3.1 * len(curves), 2.7), squeeze=False)
    for panel, (title, (label, x, lines)) in zip(panels[0], curves.items()):
        for (line, seconds), style in zip(lines.items(), ("o-", "s--", "^:", "v-.")):
            panel.plot(x, [1000 * value for value in seconds], style, label=line, markersize=4)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(label, fontsize=8)
        panel.set_ylim(bottom=0)
        panel.tick_params(labelsize=7)
    panels[0][0].set_ylabel("ms of processor time", fontsize=8)
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig((results or RESULTS) / f"{name}.png", dpi=80)
    plt.close(figure)
