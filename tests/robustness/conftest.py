"""The modules of this folder by their plain names, and the report of its long runs."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMMAND = "python3 dev.py test tests/robustness --long"
REPORT = HERE / "report.json"  # and report.md

sys.path[:0] = [str(HERE), str(HERE.parent / "server")]  # the latter for servers.py


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long runs of tests/robustness, which write its report")


@pytest.fixture(scope="session")
def long(pytestconfig) -> bool:
    """Whether the long runs were asked for; their option is known where this folder is named on the command line."""
    return pytestconfig.getoption("--long", False)


@pytest.fixture(scope="session")
def write_report(long) -> Callable[[str, dict], None]:
    """Takes the name and the figures of a run, and puts them into the report of the long runs."""

    def write(name: str, figures: dict) -> None:
        if not long:
            return
        report = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
        report |= {name: figures | {"system": f"{platform.system()} {platform.machine()}, Python {python()}"}}
        REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        REPORT.with_suffix(".md").write_text(as_markdown(report), encoding="utf-8")

    return write


def python() -> str:
    return platform.python_version()


def as_markdown(report: dict[str, dict]) -> str:
    """The report as tables, one per run."""
    text = f"# Robustness\n\nWritten by `{COMMAND}`, beside `{REPORT.name}`. Nothing here is edited by hand.\n"
    for name, figures in report.items():
        text += f"\n## {name}\n\n| Figure | Value |\n|---|---|\n"
        text += "".join(f"| {key} | {as_cell(value)} |\n" for key, value in figures.items())
    return text


def as_cell(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {as_cell(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(as_cell, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
