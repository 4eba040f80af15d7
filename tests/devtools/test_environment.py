"""devtools/environment.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.environment import (
    TORCH,
    get_environment,
    get_given_python,
    pip_install,
    pip_steps,
    requirement_lines,
)
from comfyui_kolors.devtools.progress import Progress, SetupError, Step

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


def test_requirements_lose_comments_options_and_the_torch_family(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text(
        "torch\ntorchsde\nTorchVision>=0.1\ncomfyui_workflow_templates==0.1\n\n#non essential:\n"
        "kornia>=0.7.1  # edges\n--pre\n-r more.txt\npydantic~=2.0 ; python_version > '3'\n"
    )
    second.write_text("kornia>=0.7.1\ndiffusers[torch]==0.42.1\ntorchaudio\n")
    expected = ["torchsde", "kornia>=0.7.1", "pydantic~=2.0 ; python_version > '3'", "diffusers[torch]==0.42.1"]
    assert requirement_lines(first, tmp_path / "absent.txt", second) == expected


def test_torch_comes_first_and_holds_its_version_in_the_last_step(fake_host):
    (_, first), (_, second), (_, last) = pip_steps(fake_host)
    assert first == [TORCH] and second[0] == "--no-deps"
    assert last[:2] == [TORCH, "requests"] and "aiohttp>=3.11.8" in last
    assert not any(word.startswith(("torchvision", "comfyui-workflow-templates")) for word in last)


@pytest.fixture
def recorded(home, fake_host, monkeypatch):
    """Runs get_environment without its long commands; returns what they would have made, in order."""
    calls = []

    def run_logged(step, command, log, todo):
        if "pip" in command:
            calls.append(command[-1])
        else:
            calls.append("venv")
            command[-1].mkdir(parents=True)  # fails unless the old one was removed

    def run() -> list[str]:
        calls.clear()
        get_environment(fake_host, Progress(5))
        return list(calls)

    monkeypatch.setattr("comfyui_kolors.devtools.environment.run_logged", run_logged)
    monkeypatch.setattr(
        "comfyui_kolors.devtools.environment.check_imports", lambda step, python: calls.append("imports")
    )
    monkeypatch.setattr("comfyui_kolors.devtools.environment.python_says", lambda python, code: "")
    monkeypatch.setattr(
        "comfyui_kolors.devtools.environment.pip_steps",
        lambda host: [("PyTorch", ["a"]), ("vision", ["b"]), ("Packages", ["c"])],
    )
    return run


def test_a_second_setup_calls_no_pip(recorded):
    assert recorded() == ["venv", "a", "b", "c", "imports"]
    assert recorded() == []


def test_a_missing_interpreter_rebuilds_the_environment(recorded, monkeypatch):
    recorded()
    monkeypatch.setattr("comfyui_kolors.devtools.environment.python_says", lambda python, code: None)
    assert recorded() == ["venv", "a", "b", "c", "imports"]


def test_a_cut_off_pip_step_is_redone_alone(recorded):
    recorded()
    next(places.DEV.glob("venv-*/stamps/pip-2")).unlink()
    assert recorded() == ["b"]


def test_changed_development_requirements_keep_the_environment(recorded, monkeypatch):
    recorded()
    monkeypatch.setattr(
        "comfyui_kolors.devtools.environment.pip_steps",
        lambda host: [("PyTorch", ["a"]), ("vision", ["b"]), ("Packages", ["new"])],
    )
    assert recorded() == ["new", "imports"]
    assert len(list(places.DEV.glob("venv-*"))) == 1


def test_hosts_with_other_requirements_live_side_by_side(recorded, fake_host):
    recorded()
    (fake_host / "requirements.txt").write_text("aiohttp>=3.12\n")
    assert recorded()[0] == "venv"
    assert len(list(places.DEV.glob("venv-*"))) == 2


def test_pip_forgets_half_installed_packages(tmp_path, monkeypatch):
    whole, half = tmp_path / "whole-1.dist-info", tmp_path / "half-1.dist-info"
    for info in (whole, half):
        info.mkdir()
        (info / "METADATA").touch()
    (whole / "INSTALLER").write_text("pip\n")
    commands = []
    monkeypatch.setattr("comfyui_kolors.devtools.environment.site_packages", lambda python: tmp_path)
    monkeypatch.setattr(
        "comfyui_kolors.devtools.environment.run_logged", lambda step, command, log, todo: commands.append(command)
    )
    pip_install(Step("[1/1] test"), PYTHON, ["einops"], tmp_path / "log")
    assert whole.is_dir() and not half.exists()
    assert commands[0][1:4] == ["-m", "pip", "install"] and commands[0][-1] == "einops"


def test_pip_is_called_by_package_name_only():
    source = (ROOT / "devtools" / "environment.py").read_text(encoding="utf-8")
    assert not any(word in source for word in ("index-url", "find-links", "https://", "trusted-host"))


def test_a_given_python_must_exist(home):
    with pytest.raises(SetupError, match="found no such program"):
        get_given_python("no-such-python", Progress(1))
