"""devtools/process.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.process import child, has_ended, python_says, run_logged, tail
from comfyui_kolors.devtools.progress import SetupError, Step

PYTHON = Path(sys.executable)


def test_a_child_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), child([PYTHON, "-c", "import time; time.sleep(600)"]) as process:
        _ = 1 / 0
    assert process.poll() is not None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to ignore")
def test_a_child_that_ignores_sigterm_is_killed(monkeypatch):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    ended = has_ended
    monkeypatch.setattr("comfyui_kolors.devtools.process.has_ended", lambda process, seconds: ended(process, 0.2))
    with child([PYTHON, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"up"
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


def test_a_failed_command_shows_the_end_of_its_log_and_what_to_do(home):
    code = "for i in range(50): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(SetupError) as error:
        run_logged(Step("[1/1] test"), [PYTHON, "-c", code], places.LOGS / "x.log", "Check the network.")
    text = str(error.value)
    assert "exit code 3" in text and "Check the network." in text
    assert "line 49" in text and "line 20" in text and "line 19" not in text  # 30 lines


def test_tail_takes_the_last_state_of_a_progress_bar_without_colours(tmp_path):
    log = tmp_path / "log"
    log.write_bytes("start\n\x1b[32m 10%|█\r 20%|██\r\x1b[0m".encode())
    assert tail(log, 1) == [" 20%|██"]


def test_python_says_none_for_a_broken_interpreter(tmp_path):
    assert python_says(PYTHON, "print(6 * 7)") == "42"
    assert python_says(PYTHON, "import no_such_module") is None
    assert python_says(tmp_path / "python", "print(1)") is None
