"""The virtual environments: made, filled with packages, and made again where they are broken."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import places
from .process import python_says, run_logged
from .progress import Progress, SetupError, Step, digest
from .repairs import check_imports, site_packages
from .torch_build import Build, choose_build

TORCH, TORCHVISION, TORCHAUDIO = "torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0"
# The torch family has steps of its own. The templates are 90 MB of pictures; ComfyUI starts and draws without them.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "comfyui-workflow-templates"}


@dataclass(frozen=True)
class PipStep:
    """One call of pip."""

    title: str
    arguments: Sequence[str]
    size: str  # of what it downloads into an empty environment
    is_torch: bool = False  # the build is chosen, which says the size of PyTorch itself


def requirement_lines(*files: Path) -> list[str]:
    """The requirements in those of the files that exist, without comments, pip's options and what LEFT_OUT names."""
    lines: list[str] = []
    for file in filter(Path.is_file, files):
        for line in file.read_text(encoding="utf-8").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower()
            if line and not line.startswith("-") and name not in LEFT_OUT and line not in lines:
                lines.append(line)
    return lines


def host_steps(host: Path, development: bool) -> list[PipStep]:
    """What a host needs, and the tests. PyTorch comes first, so that nothing else chooses its build or its version."""
    required = requirement_lines(host / "requirements.txt", places.ROOT / "requirements.txt")
    steps = [
        torch_step(),
        PipStep("torchvision and torchaudio", ["--no-deps", TORCHVISION, TORCHAUDIO], "about 10 MB", is_torch=True),
        PipStep("Packages of ComfyUI", [TORCH, "requests", *required], "about 250 MB"),
    ]
    return [*steps, development_step()] if development else steps


def small_steps() -> list[PipStep]:
    """What the tests without a ComfyUI need."""
    return [torch_step(), development_step()]


def torch_step() -> PipStep:
    return PipStep("PyTorch", [TORCH], "", is_torch=True)


def development_step() -> PipStep:
    required = requirement_lines(places.ROOT / "requirements.txt", places.ROOT / "requirements-dev.txt")
    return PipStep("Packages of the tests", [TORCH, *required], "about 200 MB")


def get_environment(host: Path, progress: Progress, development: bool = True) -> Path:
    """The interpreter of this host's virtual environment. Hosts with the same requirements share one."""
    pinned = [TORCH, TORCHVISION, TORCHAUDIO, *requirement_lines(host / "requirements.txt")]
    steps = host_steps(host, development)
    python = fill_environment(digest(sys.version_info[:2], pinned)[:12], steps, progress)
    inputs = digest([step.arguments for step in host_steps(host, development=False)])
    stamp = python.parent.parent / "stamps" / "imports"
    progress.once("Imports", stamp, inputs, lambda step: check_imports(step, python))
    return python


def get_small_environment(progress: Progress) -> Path:
    """The interpreter of an environment without the packages of any ComfyUI."""
    return fill_environment(f"small-{digest(sys.version_info[:2], TORCH)[:12]}", small_steps(), progress)


def fill_environment(name: str, steps: list[PipStep], progress: Progress) -> Path:
    """The interpreter of the virtual environment of that name, made or filled where needed."""
    env = places.DEV / f"venv-{name}"
    stamps, python = env / "stamps", venv_python(env)
    if python_says(python, "import pip") is None:
        (stamps / "venv").unlink(missing_ok=True)
    progress.once("Python environment", stamps / "venv", "made", lambda step: make_venv(step, env))
    for number, pip_step in enumerate(steps, 1):
        install = partial(pip_install, python=python, wanted=pip_step, log=places.LOGS / f"pip-{number}.log")
        progress.once(pip_step.title, stamps / f"pip-{number}", digest(pip_step.arguments), install)
    return python


def venv_python(env: Path) -> Path:
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(step: Step, env: Path) -> Path:
    """Makes a fresh virtual environment in place of whatever is there."""
    if env.exists():
        shutil.rmtree(env)
    todo = "If the venv module is missing, install it (Debian and Ubuntu: the package python3-venv) and run this again."
    run_logged(step, [sys.executable, "-m", "venv", env], places.LOGS / "venv.log", todo)
    return venv_python(env)


def pip_install(step: Step, python: Path, wanted: PipStep, log: Path) -> None:
    """Installs packages, those anew whose installation was cut off: pip writes INSTALLER after a package's files."""
    for info in site_packages(python).glob("*.dist-info"):
        if not (info / "INSTALLER").is_file():
            shutil.rmtree(info)
    build = choose_build(python) if wanted.is_torch else Build((), "")
    step.say(f"Downloading {wanted.title}: {wanted.size or build.says}, less what pip has in its cache")
    command = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    command += [*build.options, *wanted.arguments]
    run_logged(step, command, log, "Check the network and the free disk space and run this again.")


def get_given_python(given: str, progress: Progress, needs: str) -> Path:
    """The interpreter of --python, used as it is, once it has imported what it needs."""
    with progress.step("Python interpreter") as step:
        found = shutil.which(os.path.expanduser(given))
        if not found:
            raise SetupError(f"--python {given}: found no such program. Give the path of a Python interpreter.")
        python = Path(found).absolute()  # not resolved: the python of a virtual environment is a link
        todo = f"Give an interpreter that has {needs}."
        run_logged(step, [python, "-c", f"import {needs}"], places.LOGS / "imports.log", todo)
    return python
