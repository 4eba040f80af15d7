"""devtools/side_by_side.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.side_by_side import run_side_by_side

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


def script(text: str) -> list[str | Path]:
    return [PYTHON, "-c", text]


def test_each_output_is_shown_whole_and_the_worst_code_returned(home, capsys):
    slow = "import time\nfor number in range(4): print('slow', number, flush=True); time.sleep(0.1)"
    bad = "import time\nfor number in range(4): print('bad', number, flush=True); time.sleep(0.05)\nraise SystemExit(3)"
    commands = {"slow one": script(slow), "bad one": script(bad)}
    assert run_side_by_side(commands, dict(os.environ)) == 3
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[:4] == [f"bad {number}" for number in range(4)]
    assert lines[4:8] == [f"slow {number}" for number in range(4)]
    assert "bad one: FAILED (exit code 3)" in lines[-2] and "slow one: passed" in lines[-1]
    assert [line for line in shown.err.splitlines() if line.startswith("====")] == ["==== bad one", "==== slow one"]
    assert (places.LOGS / "slow-one.log").is_file()


def test_commands_run_at_the_same_time(home, capsys, tmp_path):
    """Each waits for the other's file."""
    code = (
        "import pathlib, sys, time\npathlib.Path({!r}).touch()\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    )
    files = [str(tmp_path / name) for name in "ab"]
    commands = {"one": script(code.format(*files)), "two": script(code.format(*files[::-1]))}
    assert run_side_by_side(commands, dict(os.environ)) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a matter of POSIX")
def test_a_command_that_a_signal_ends_is_a_failure(home, capsys):
    killed = script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run_side_by_side({"killed": killed, "fine": script("")}, dict(os.environ)) == 1
    assert "killed: FAILED (exit code -9)" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a matter of POSIX")
def test_commands_clean_up_when_dev_py_is_ended(tmp_path):
    inner = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "try: time.sleep(60)\n"
        f"finally: pathlib.Path({str(tmp_path / 'cleaned')!r}).touch()\n"
    )
    outer = (
        "import os, pathlib, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from devtools import places, side_by_side\n"
        f"places.LOGS = pathlib.Path({str(tmp_path)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"side_by_side.run_side_by_side({{'one': [sys.executable, '-c', {inner!r}]}}, dict(os.environ))\n"
    )
    process = subprocess.Popen(script(outer), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (tmp_path / "up").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143 and (tmp_path / "cleaned").exists()
