"""devtools/hosts.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.cli import main, parse
from comfyui_kolors.devtools.hosts import run_hosts
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import SetupError
from comfyui_kolors.devtools.results import split_words

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


def test_hosts_takes_folders_and_hands_the_rest_to_pytest():
    args = parse(
        ["hosts", "--comfyui", "a", "b", "--", "tests/host", "-k", "x and y", "tests/test_repository.py::test_z"]
    )
    assert args.comfyui == [Path("a"), Path("b")] and args.command.run is run_hosts and not args.again
    suites = ["tests/host", "tests/test_repository.py::test_z"]
    assert split_words(args.rest, ROOT) == (suites, ["-k", "x and y"])
    assert split_words(["-x"], ROOT) == (["tests/server", "tests/host"], ["-x"])
    with pytest.raises(SystemExit):
        parse(["hosts"])


@pytest.fixture
def several(home, fake_host, monkeypatch, result):
    """A repository with a suite in which one of two tests passes, and `hosts` over it without a set-up."""
    (home / "tests").mkdir()
    (home / "tests" / "test_it.py").write_text(
        "import os, pathlib\n"
        f"with open({str(home / 'ran')!r}, 'a') as file: file.write(os.environ['COMFYUI_PATH'] + '\\n')\n"
        "def test_good(): pass\n"
        "def test_bad(): assert pathlib.Path('mended').exists(), 'not mended'\n"
    )
    (home / "pytest.ini").touch()
    broken = home / "broken"

    def set_up(args):
        if args.comfyui == broken:
            raise SetupError("found no main.py")
        return Setup(PYTHON, args.comfyui, home), None

    monkeypatch.setattr("comfyui_kolors.devtools.places.ROOT", home)
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", set_up)
    monkeypatch.setattr("comfyui_kolors.devtools.hosts.describe", lambda setup: result().environment)
    monkeypatch.delenv("KOLORS_HOST_FLAGS", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins are half of pytest's start

    def run(*words: str, folders=(fake_host,)) -> tuple[int, list[dict]]:
        code = main(["hosts", "--comfyui", *map(str, folders), *words, "--", "tests/test_it.py"])
        return code, json.loads((home / "docs" / "hosts.json").read_text(encoding="utf-8"))

    return run


def test_hosts_runs_a_suite_once_and_keeps_its_result(several, home, fake_host, capsys):
    code, (row,) = several()
    assert code == 1 and row["host"] == "0.3.75" and row["passed"] == 1
    assert row["failed"] == {"tests/test_it.py::test_bad": "AssertionError: not mended"}
    (home / "mended").touch()
    assert several() == (1, [row]) and "kept from" in capsys.readouterr().err  # as a run that was cut off goes on
    code, (row,) = several("--again")
    assert code == 0 and row["passed"] == 2 and not row["failed"]
    assert (home / "ran").read_text().splitlines() == 2 * [str(fake_host)]


def test_hosts_goes_on_after_a_host_that_cannot_be_set_up(several, home, fake_host, capsys):
    (home / "mended").touch()
    code, (row,) = several(folders=(home / "broken", fake_host))
    assert code == 1 and row["passed"] == 2
    assert f"{home / 'broken'}: found no main.py" in capsys.readouterr().err


def test_a_run_that_breaks_off_is_no_result(several, home, capsys):
    (home / "mended").touch()
    several()
    (home / "tests" / "test_it.py").write_text("import os\ndef test_good(): os._exit(9)\n")
    code, rows = several("--again")
    assert code == 1 and rows[0]["passed"] == 2  # the page keeps what it had
    assert "ended with exit code 9" in capsys.readouterr().err
    assert not list((places.DEV / "hosts").rglob("*.json"))  # and the next call runs it
