"""devtools/prepare.py."""

from __future__ import annotations

import pytest
from comfyui_kolors.devtools import environment
from comfyui_kolors.devtools.cli import parse
from comfyui_kolors.devtools.prepare import set_up, set_up_small


@pytest.fixture
def nothing_installed(home, monkeypatch):
    """Environments are made without pip."""
    monkeypatch.setattr(environment, "make_venv", lambda step, env: env.mkdir(parents=True))
    monkeypatch.setattr(environment, "pip_install", lambda step, python, wanted, log: None)
    monkeypatch.setattr(environment, "check_imports", lambda step, python: None)
    monkeypatch.setattr(environment, "python_says", lambda python, code: "")


@pytest.mark.parametrize(("small", "steps"), [(False, 8), (True, 3)])
def test_every_step_is_announced_and_in_place_the_second_time(nothing_installed, fake_host, capsys, small, steps):
    args = parse(["test", "--comfyui", str(fake_host)])
    run = set_up_small if small else set_up
    run(args)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in shown] == [f"[{number}/{steps}" for number in range(1, steps + 1)]
    run(args)
    assert capsys.readouterr().err.count("in place") == steps


@pytest.mark.parametrize(("draws", "steps"), [(True, 8 + 3), (False, 8)])
def test_the_number_of_steps_is_that_of_the_command(nothing_installed, fake_host, monkeypatch, capsys, draws, steps):
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.make_tower", lambda setup, progress: None)
    _, progress = set_up(parse(["host", "--comfyui", str(fake_host)]), draws=draws, more=3 if draws else 0)
    assert progress.total == steps and progress.count == steps - (4 if draws else 0)  # its models, and three of its own
    assert ("Packages of the tests" in capsys.readouterr().err) is not draws
