"""Each benchmark runs at a tiny size and writes what it promises; no figure of it is judged here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools.bench_words import PLOTS, translated

pytestmark = pytest.mark.host

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"
REPORTS = {
    "text_encoder": ("speed", "errors", "storages", "loading"),
    "products": ("float32", "stored"),
    "additions": ("IP-Adapters", "ControlNets", "LoRAs in the weights", "LoRAs that wait"),
    "unet": ("steps", "errors", "curves"),
    "pipeline": ("pictures", "error", "previews", "stages"),
    "load": ("medians", "ratios", "curve"),
    "memory": ("peaks",),
    "start": ("images",),
    "migration": ("graphs", "curve"),
    "damaged": ("found",),
    "lists": ("spread",),
    "gpu": ("limits", "floors", "unet", "encoder", "vae", "rows"),
}


def figures(report) -> list[float]:
    """All numbers of a report."""
    if isinstance(report, dict):
        return [number for value in report.values() for number in figures(value)]
    if isinstance(report, list):
        return [number for value in report for number in figures(value)]
    return [report] if isinstance(report, (int, float)) and not isinstance(report, bool) else []


@pytest.mark.parametrize("name", REPORTS)
def test_a_benchmark_runs_at_a_tiny_size(name, tmp_path):
    if name in ("text_encoder", "load", "memory", "damaged") and not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process's memory")
    command = [sys.executable, FOLDER / f"{name}.py", "--quick", "--results", tmp_path]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=os.environ | {"KOLORS_BENCH_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("| --- |") >= 1
    report = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert report["machine"]["torch"] and report["machine"]["threads"] == 1
    for part in REPORTS[name]:
        numbers = figures(report[part])
        assert numbers and all(number >= 0 for number in numbers), part
    assert "failed" not in json.dumps(report)
    assert (tmp_path / f"{name}.png").is_file() == (name in PLOTS["en"])
    assert all(translated(row["name"], "zh") != row["name"] for row in report["page"])
    assert report["page"] or name in ("products", "lists")  # the first are for who chooses between ways to multiply


def test_the_text_encoder_runs_at_its_released_layout(tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process's memory")
    command = [sys.executable, FOLDER / "text_encoder.py", "--released", "--quick", "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "text_encoder_released.json").read_text(encoding="utf-8"))
    assert all(translated(row["name"], "zh") != row["name"] for row in report["page"])
    assert set(report["storages"]) == {"int4", "bf16"}
    assert all(number > 0 for number in figures(report["storages"]) + figures(report["layers"]))


@pytest.mark.skipif(os.name == "nt", reason="only POSIX tells the peak of a process that has ended")
def test_the_memory_of_a_rendering_is_measured():
    command = [sys.executable, FOLDER / "render.py", "--memory", "3"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall(r"^3 rows.*: [1-9]\d* MB", done.stdout, re.MULTILINE)) == 2, done.stdout


def test_the_middle_of_a_run_is_compared_round_by_round():
    sys.path.insert(0, str(FOLDER))
    try:
        from _report import growth
        from _timing import compare
    finally:
        sys.path.remove(str(FOLDER))
    calls = []
    costs = compare({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3)
    assert calls == [1, 2] * 4
    assert costs["one"].ratio == costs["one"].cpu_ratio == 1.0 and costs["one"].wall > 0
    assert growth([1, 2, 4], [1.0, 2.0, 4.0]) == pytest.approx(1.0)
    assert growth([4, 16], [1.0, 16.0]) == pytest.approx(2.0)
