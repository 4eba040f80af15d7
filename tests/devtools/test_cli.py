"""devtools/cli.py."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools.cli import main, parse
from comfyui_kolors.devtools.demo import run_demo
from comfyui_kolors.devtools.progress import Progress, SetupError

ROOT = Path(__file__).resolve().parents[2]


def test_demo_has_defaults():
    args = parse(["demo"])
    assert (args.seed, args.steps, args.size, args.negative) == (1, 25, (128, 128), "")
    assert args.out.is_absolute() and args.command.run is run_demo
    assert args.prompt is None and args.image is None


@pytest.mark.parametrize(
    ("given", "rest"),
    [
        ([], []),
        (["-q", "-k", "size and not slow", "tests"], ["-q", "-k", "size and not slow", "tests"]),
        (["--comfyui", "somewhere", "--lf"], ["--lf"]),
        (["--", "--co"], ["--co"]),
        (["--co", "--py"], ["--co", "--py"]),  # not taken for --comfyui and --python
    ],
)
def test_test_hands_unknown_arguments_to_pytest(given, rest):
    assert parse(["test", *given]).rest == rest


def test_other_commands_refuse_unknown_arguments(capsys):
    with pytest.raises(SystemExit):
        parse(["demo", "--sed", "2"])
    assert "unknown arguments: --sed 2" in capsys.readouterr().err


def test_host_json_prints_one_object_on_stdout(setup, monkeypatch, capsys):
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
    assert main(["host", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "python": str(setup.python),
        "comfyui": str(setup.comfyui),
        "base": str(setup.base),
        "pack": str(ROOT),
    }


@pytest.mark.parametrize(("error", "code"), [(SetupError, 1), (OSError, 1), (KeyboardInterrupt, 130)])
def test_expected_failures_have_an_exit_code_and_no_traceback(monkeypatch, capsys, error, code):
    def fail(args, **more):
        raise error("found a, expected b")

    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", fail)
    assert main(["host"]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.strip() == ("" if code == 130 else "found a, expected b")


def test_an_old_python_is_named(monkeypatch):
    """By a file that these Pythons can read: everything else may be newer."""
    source = (ROOT / "dev.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 4))
    assert source.isascii() and not re.search(r"\bf[\"']", source)  # 2.7 and 3.5 stop at either
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(SystemExit, match=r"expected 3\.10 or newer"):
        runpy.run_path(str(ROOT / "dev.py"))
