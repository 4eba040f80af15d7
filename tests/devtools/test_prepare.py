"""devtools/prepare.py."""

from __future__ import annotations

from comfyui_kolors.devtools.cli import parse
from comfyui_kolors.devtools.prepare import set_up


def test_every_step_is_announced_and_in_place_the_second_time(home, fake_host, monkeypatch, capsys):
    monkeypatch.setattr("comfyui_kolors.devtools.environment.make_venv", lambda step, env: env.mkdir(parents=True))
    monkeypatch.setattr("comfyui_kolors.devtools.environment.pip_install", lambda step, python, arguments, log: None)
    monkeypatch.setattr("comfyui_kolors.devtools.environment.check_imports", lambda step, python: None)
    monkeypatch.setattr("comfyui_kolors.devtools.environment.python_says", lambda python, code: "")
    args = parse(["host", "--comfyui", str(fake_host)])
    set_up(args)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in shown] == [f"[{number}/7" for number in range(1, 8)]
    set_up(args)
    assert capsys.readouterr().err.count("in place") == 7
