"""devtools/progress.py."""

from __future__ import annotations

import sys

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.progress import Progress, Step, digest, is_stamped, setup_lock, try_lock, write_stamp


def test_a_stamp_fits_only_its_inputs(tmp_path):
    stamp = tmp_path / "stamps" / "step"
    assert not is_stamped(stamp, "a")
    write_stamp(stamp, "a")
    assert is_stamped(stamp, "a") and not is_stamped(stamp, "b")


def test_digest_depends_on_order_and_content():
    assert digest(["a", "b"]) == digest(["a", "b"])
    assert len({digest(["a", "b"]), digest(["b", "a"]), digest("ab"), digest("a", "b")}) == 4


def test_a_finished_step_is_not_repeated_and_an_interrupted_one_is(tmp_path, capsys):
    done, stamp = [], tmp_path / "stamp"

    def interrupted(step):
        done.append("half")
        raise KeyboardInterrupt

    progress = Progress(4)
    progress.once("one", stamp, "v1", lambda step: done.append("v1"))
    progress.once("two", stamp, "v1", lambda step: done.append("again"))
    with pytest.raises(KeyboardInterrupt):
        progress.once("three", stamp, "v2", interrupted)
    progress.once("four", stamp, "v1", lambda step: done.append("v1 anew"))
    assert done == ["v1", "half", "v1 anew"]
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["[1/4] one ... 0 s", "[2/4] two ... in place", "[3/4] three ... stopped", "[4/4] four ... 0 s"]


def test_a_long_step_shows_a_heartbeat_with_its_last_line(monkeypatch, capsys):
    monkeypatch.setattr("comfyui_kolors.devtools.progress.HEARTBEAT_SECONDS", 0.0)
    Step("[1/1] test").tick("Downloading torch")
    assert "[1/1] test ... 0 s  Downloading torch" in capsys.readouterr().err


def test_on_a_terminal_the_line_is_rewritten_in_place(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = Step("[1/1] test")
    line.tick("working " * 100)
    line.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.count("\r") == 3 and "test ... 0 s" in shown.split("\r")[-1]


def test_only_one_setup_at_a_time(home):
    with setup_lock(), (places.DEV / "lock").open("a+") as other:
        assert not try_lock(other.fileno())
    with (places.DEV / "lock").open("a+") as other:
        assert try_lock(other.fileno())
