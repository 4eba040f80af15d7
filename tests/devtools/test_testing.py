"""devtools/testing.py."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import testing
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def test_test_runs_pytest_in_the_repository_and_returns_its_code(setup, tmp_path, monkeypatch):
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
    report = tmp_path / "report.json"
    test = tmp_path / "test_inner.py"
    test.write_text(
        "import json, os, pathlib\n"
        "def test_inner():\n"
        "    seen = [os.environ['COMFYUI_PATH'], os.environ['KOLORS_BASE'], os.getcwd()]\n"
        f"    pathlib.Path({str(report)!r}).write_text(json.dumps(seen))\n"
        "    assert False\n"
    )
    options = [str(test), "-q", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert main(["test", *options]) == 1
    assert json.loads(report.read_text()) == [str(setup.comfyui), str(setup.base), str(ROOT)]


@pytest.fixture
def run(setup, monkeypatch) -> dict:
    """What `test` would do: the commands side by side, their environment, whether a browser is looked for."""
    found: dict = {"lint": 0, "tests": 0, "commands": {}, "browser": False, "alone": None}

    def side_by_side(commands, environment):
        found.update(commands=commands, environment=environment)
        return found["tests"]

    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(0)))
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up_small", lambda args: setup.python)
    monkeypatch.setattr(
        "comfyui_kolors.devtools.prepare.run_here", lambda setup, *words: found.update(alone=words) or 4
    )
    monkeypatch.setattr(testing, "run_side_by_side", side_by_side)
    monkeypatch.setattr(testing, "lint", lambda python: found["lint"])
    monkeypatch.setattr(testing, "get_chromium", lambda python: found.update(browser=True))
    monkeypatch.setattr(testing, "cores", lambda: 2)
    return found


def folders(command: list) -> list[str]:
    return [word for word in map(str, command) if word.startswith("tests/")]


def test_the_parts_are_all_tests_and_share_none(run, setup):
    assert main(["test"]) == 0 and run["browser"]
    commands = list(run["commands"].values())
    servers, newest, others = map(folders, commands)
    assert servers == newest[:-1] == ["tests/server", "tests/robustness", "tests/browser"]
    assert [command[-2:] for command in commands[:2]] == [["-k", "not newest"], ["-k", "newest or benchmarks"]]
    assert {"tests/host", "tests/kolors_core", "tests/devtools"} <= set(others)
    there = {f"tests/{path.relative_to(ROOT / 'tests').parts[0]}" for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted([*servers, *newest[-1:], *others]) == sorted(there - {"tests/accelerator"})  # run by name
    assert run["environment"]["COMFYUI_PATH"] == str(setup.comfyui)
    assert not any("-n" in command for command in run["commands"].values())  # these processes fill two cores


def test_no_test_with_a_server_has_the_name_of_the_benchmarks():
    """Those would run twice."""
    files = (path for name in testing.WITH_SERVER for path in (ROOT / "tests" / name).rglob("test_*.py"))
    assert not [path for path in files if re.search(r"def test_\w*benchmarks|benchmarks\"\]", path.read_text("utf-8"))]


def test_on_more_cores_the_tests_without_a_server_have_several_processes(run, monkeypatch):
    for cores, workers in ((4, "3"), (64, "4")):
        monkeypatch.setattr(testing, "cores", lambda cores=cores: cores)
        main(["test"])
        servers, newest, others = run["commands"].values()
        assert "-n" not in (*servers, *newest) and others[others.index("-n") + 1] == workers


@pytest.mark.parametrize(("lint", "tests", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_a_fault_of_style_and_one_of_a_test_are_both_a_failure(run, capsys, quick, lint, tests, code):
    run.update(lint=lint, tests=tests)
    assert main(["test", *quick]) == code and run["commands"]
    assert ("Style, types or spelling: FAILED" in capsys.readouterr().out) == bool(lint)


def test_an_interpreter_that_is_given_needs_no_linter(run):
    run.update(lint=1)
    assert main(["test", "--quick", "--python", sys.executable]) == 0


@pytest.mark.parametrize(
    ("words", "browser"),
    [
        (["-k", "x"], True),
        (["tests"], True),
        (["tests/browser/test_canvas.py::test_x"], True),
        (["tests/host", "-x"], False),
    ],
)
def test_what_is_named_runs_alone_with_all_options(run, words, browser):
    assert main(["test", *words]) == 4
    assert run["alone"] == ("-m", "pytest", *words) and run["browser"] is browser and not run["commands"]


def test_quick_needs_no_host(run, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", "somewhere")
    assert main(["test", "--quick", "-x"]) == 0 and not run["browser"]
    (command,) = run["commands"].values()
    assert "-x" in command and command[command.index("-n") + 1] == "2"
    assert {"tests/kolors_core", "tests/demo", "tests/devtools"} <= set(folders(command))
    assert not {"tests/host", "tests/server", "tests/browser", "tests/robustness"} & set(folders(command))
    assert "COMFYUI_PATH" not in run["environment"]


def test_quick_runs_what_is_named(run):
    main(["test", "--quick", "tests/demo"])
    (command,) = run["commands"].values()
    assert folders(command) == ["tests/demo"]
