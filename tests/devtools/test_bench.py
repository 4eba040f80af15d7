"""devtools/bench.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


@pytest.fixture
def ran(setup, monkeypatch):
    """What is run, by name; `codes` has the exit codes that are not 0, and `pages` how often pages are written."""
    return Ran(setup, monkeypatch)


class Ran(list):
    def __init__(self, setup, monkeypatch):
        self.codes, self.pages = {}, 0
        monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
        monkeypatch.setattr("comfyui_kolors.devtools.prepare.run_here", self.run)
        monkeypatch.setattr("comfyui_kolors.devtools.bench_page.write_pages", self.write)

    def run(self, setup, script, *more) -> int:
        assert script.parent == ROOT / "benchmarks" and script.is_file()
        self.append(" ".join([script.stem, *more]))
        return self.codes.get(script.stem, 0)

    def write(self, docs, results) -> None:
        assert (docs, results) == (ROOT / "docs", ROOT / "benchmarks" / "results")
        self.pages += 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], BENCHMARKS),
        (["all"], BENCHMARKS),
        (["text"], ["text_encoder"]),
        (["u", "pi"], ["unet", "pipeline"]),
        (["--released"], ["text_encoder --released"]),
        (["all", "--released"], [*BENCHMARKS, "text_encoder --released"]),
        (["none"], []),
    ],
)
def test_bench_runs_all_benchmarks_or_those_named(ran, options, expected):
    assert main(["bench", *options]) == 0
    assert ran == expected and not ran.pages


def test_a_benchmark_that_fails_is_named_and_the_others_run(ran, capsys):
    ran.codes = {"unet": 3, "load": -9}
    assert main(["bench", "--md", "unet", "load", "memory"]) == -9
    assert ran == ["unet", "load", "memory"] and ran.pages == 1
    said = capsys.readouterr().err
    assert "unet failed with exit code 3" in said and "load failed with exit code -9" in said
    assert "memory failed" not in said


def test_bench_writes_the_pages_alone(ran):
    assert main(["bench", "none", "--md"]) == 0
    assert not ran and ran.pages == 1


def test_bench_names_the_benchmarks_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "speed"])
    assert f"speed is none of the benchmarks {', '.join(BENCHMARKS)}" in capsys.readouterr().err
