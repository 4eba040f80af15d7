"""devtools/bench.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


BENCHMARKS = ["gpu", "ip_adapter", "load", "memory", "parity", "pipeline", "products", "render", "start"]
BENCHMARKS += ["text_encoder", "unet"]


@pytest.mark.parametrize(
    ("names", "run"),
    [([], BENCHMARKS), (["all"], BENCHMARKS), (["text"], ["text_encoder"]), (["u", "pi"], ["unet", "pipeline"])],
)
def test_bench_runs_all_benchmarks_or_those_named(setup, monkeypatch, names, run):
    scripts = []
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
    monkeypatch.setattr(
        "comfyui_kolors.devtools.prepare.run_here", lambda setup, script: scripts.append(script) or len(scripts) - 1
    )
    assert main(["bench", *names]) == len(run) - 1  # one that fails is not hidden by the others
    assert scripts == [ROOT / "benchmarks" / f"{name}.py" for name in run]


def test_bench_runs_the_text_encoder_at_its_released_size(setup, monkeypatch):
    runs = []
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.run_here", lambda setup, *command: runs.append(command) or 0)
    assert main(["bench", "--released"]) == 0
    assert runs == [(ROOT / "benchmarks" / "text_encoder.py", "--released")]


def test_bench_names_the_benchmarks_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "speed"])
    assert f"speed is none of the benchmarks {', '.join(BENCHMARKS)}" in capsys.readouterr().err
