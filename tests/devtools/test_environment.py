"""devtools/environment.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import environment, places
from comfyui_kolors.devtools.environment import (
    PipStep,
    get_environment,
    get_given_python,
    host_steps,
    pip_install,
    requirement_lines,
    small_steps,
)
from comfyui_kolors.devtools.progress import Progress, SetupError, Step
from comfyui_kolors.devtools.torch_build import Build

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


def test_torch_comes_first_and_holds_its_version_in_the_later_steps(fake_host):
    first, second, third, last = host_steps(fake_host, development=True)
    assert first.arguments == [environment.TORCH] and second.arguments[0] == "--no-deps"
    assert third.arguments[:2] == [environment.TORCH, "requests"] and "aiohttp>=3.11.8" in third.arguments
    assert last.arguments[0] == environment.TORCH and any(word.startswith("pytest==") for word in last.arguments)
    left_out = ("torchvision", "comfyui-workflow-templates")
    assert not any(word.startswith(left_out) for word in [*third.arguments, *last.arguments])
    assert [step.is_torch for step in (first, second, third, last)] == [True, True, False, False]


def test_who_only_draws_gets_no_packages_of_the_tests(fake_host):
    assert host_steps(fake_host, development=False) == host_steps(fake_host, development=True)[:3]


def test_the_small_environment_has_no_package_of_a_host():
    words = [word for step in small_steps() for word in step.arguments]
    assert any(word.startswith("pytest-xdist==") for word in words) and "safetensors" in words
    assert not any(word.startswith(("torchvision", "aiohttp", "comfyui")) for word in words)


def test_every_package_for_development_is_pinned():
    lines = requirement_lines(places.ROOT / "requirements-dev.txt")
    assert len(lines) > 10 and not [line for line in lines if "==" not in line]


STEPS = [PipStep("PyTorch", ["a"], "", is_torch=True), PipStep("vision", ["b"], "1 MB"), PipStep("Packages", ["c"], "")]


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

    monkeypatch.setattr(environment, "run_logged", run_logged)
    monkeypatch.setattr(environment, "check_imports", lambda step, python: calls.append("imports"))
    monkeypatch.setattr(environment, "python_says", lambda python, code: "")
    monkeypatch.setattr(environment, "site_packages", lambda python: home)
    monkeypatch.setattr(environment, "choose_build", lambda python: Build((), "small"))
    monkeypatch.setattr(environment, "host_steps", lambda host, development: STEPS[: 3 if development else 2])
    return run


def test_a_second_setup_calls_no_pip(recorded):
    assert recorded() == ["venv", "a", "b", "c", "imports"]
    assert recorded() == []


def test_a_missing_interpreter_rebuilds_the_environment(recorded, monkeypatch):
    recorded()
    monkeypatch.setattr(environment, "python_says", lambda python, code: None)
    assert recorded() == ["venv", "a", "b", "c", "imports"]


def test_a_cut_off_pip_step_is_redone_alone(recorded):
    recorded()
    next(places.DEV.glob("venv-*/stamps/pip-2")).unlink()
    assert recorded() == ["b"]


def test_changed_packages_of_the_tests_keep_the_environment_and_its_checked_imports(recorded, monkeypatch):
    recorded()
    new = [PipStep("New", ["new"], "")]
    monkeypatch.setattr(environment, "host_steps", lambda host, development: STEPS[:2] + (new if development else []))
    assert recorded() == ["new"]
    assert len(list(places.DEV.glob("venv-*"))) == 1


def test_another_torch_is_imported_anew(recorded, monkeypatch):
    recorded()
    monkeypatch.setattr(environment, "host_steps", lambda host, development: [PipStep("PyTorch", ["new"], "")])
    assert recorded() == ["new", "imports"]


def test_hosts_with_other_requirements_live_side_by_side(recorded, fake_host):
    recorded()
    (fake_host / "requirements.txt").write_text("aiohttp>=3.12\n")
    assert recorded()[0] == "venv"
    assert len(list(places.DEV.glob("venv-*"))) == 2


@pytest.fixture
def commands(tmp_path, monkeypatch) -> list[list[str]]:
    """The commands that pip_install would run."""
    found: list[list[str]] = []
    monkeypatch.setattr(environment, "site_packages", lambda python: tmp_path)
    monkeypatch.setattr(environment, "run_logged", lambda step, command, log, todo: found.append(command))
    return found


def test_pip_forgets_half_installed_packages(tmp_path, commands):
    whole, half = tmp_path / "whole-1.dist-info", tmp_path / "half-1.dist-info"
    for info in (whole, half):
        info.mkdir()
        (info / "METADATA").touch()
    (whole / "INSTALLER").write_text("pip\n")
    pip_install(Step("[1/1] test"), PYTHON, PipStep("One", ["einops"], "1 MB"), tmp_path / "log")
    assert whole.is_dir() and not half.exists()
    assert commands[0][1:4] == ["-m", "pip", "install"] and commands[0][-1] == "einops"


def test_the_size_is_said_before_a_download_and_torch_alone_has_an_index(tmp_path, commands, monkeypatch, capsys):
    monkeypatch.setattr(environment, "choose_build", lambda python: Build(("--extra-index-url", "x"), "200 MB of it"))
    monkeypatch.setattr(environment, "run_logged", lambda *_: commands.append([*_[1], capsys.readouterr().err]))
    for step in STEPS:
        pip_install(Step("[1/1] test"), PYTHON, step, tmp_path / "log")
    assert [command[-1].split(", less")[0] for command in commands[:2]] == [
        "Downloading PyTorch: 200 MB of it",
        "Downloading vision: 1 MB",
    ]
    assert ["x" in command for command in commands] == [True, False, False]


def test_a_given_python_must_exist(home):
    with pytest.raises(SetupError, match="found no such program"):
        get_given_python("no-such-python", Progress(1), "torch")
