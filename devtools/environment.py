"""The virtual environment of a host: made, filled with packages, and repaired where needed."""

from __future__ import annotations

import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

from . import places
from .process import python_says, run_logged
from .progress import Progress, SetupError, Step, digest
from .repairs import repair_torchaudio, repair_torchvision

TORCH, TORCHVISION, TORCHAUDIO = "torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0"

# The torch family has steps of its own. The templates are 90 MB of pictures; ComfyUI starts and draws without them.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "comfyui-workflow-templates"}


def requirement_lines(*files: Path) -> list[str]:
    """The requirements in those of the files that exist, without comments, pip's options and what LEFT_OUT names."""
    lines: list[str] = []
    for file in filter(Path.is_file, files):
        for line in file.read_text(encoding="utf-8").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            name = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*", line)[0]).lower()
            if line and not line.startswith("-") and name not in LEFT_OUT and line not in lines:
                lines.append(line)
    return lines


def pip_steps(host: Path) -> list[tuple[str, list[str]]]:
    """Title and arguments of each pip call, in the order that keeps pip from adding several GB of CUDA packages."""
    required = requirement_lines(
        host / "requirements.txt", places.ROOT / "requirements.txt", places.ROOT / "requirements-dev.txt"
    )
    return [
        ("PyTorch", [TORCH]),
        ("torchvision and torchaudio", ["--no-deps", TORCHVISION, TORCHAUDIO]),
        ("Packages", [TORCH, "requests", *required]),  # torch again, so that nothing changes its version
    ]


def get_environment(host: Path, progress: Progress) -> Path:
    """The interpreter of this host's virtual environment, made or repaired where needed."""
    pinned = [TORCH, TORCHVISION, TORCHAUDIO, *requirement_lines(host / "requirements.txt")]
    env = places.DEV / f"venv-{digest(sys.version_info[:2], pinned)[:12]}"
    stamps, python, steps = env / "stamps", venv_python(env), pip_steps(host)
    if python_says(python, "import pip") is None:
        (stamps / "venv").unlink(missing_ok=True)
    progress.once("Python environment", stamps / "venv", "made", lambda step: make_venv(step, env))
    for number, (title, arguments) in enumerate(steps, 1):
        install = partial(pip_install, python=python, arguments=arguments, log=places.LOGS / f"pip-{number}.log")
        progress.once(title, stamps / f"pip-{number}", digest(arguments), install)
    progress.once("Imports", stamps / "imports", digest(steps), lambda step: check_imports(step, python))
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


def pip_install(step: Step, python: Path, arguments: list[str], log: Path) -> None:
    """Installs packages, those anew whose installation was cut off: pip writes INSTALLER after a package's files."""
    for info in site_packages(python).glob("*.dist-info"):
        if not (info / "INSTALLER").is_file():
            shutil.rmtree(info)
    command = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off", *arguments]
    run_logged(step, command, log, "Check the network and the free disk space and run this again.")


def site_packages(python: Path) -> Path:
    return Path(python_says(python, "import sysconfig; print(sysconfig.get_path('platlib'))") or os.devnull)


def check_imports(step: Step, python: Path) -> None:
    """Imports the torch family for real; where builds for CPU and CUDA do not go together, repairs it."""
    repairs = {"torch": lambda site: None, "torchvision": repair_torchvision, "torchaudio": repair_torchaudio}
    for name, repair in repairs.items():
        step.tick(f"import {name}")
        if python_says(python, f"import {name}") is None:
            repair(site_packages(python))
            command = [python, "-c", f"import {name}"]
            run_logged(step, command, places.LOGS / "imports.log", f"Delete {places.DEV} and run this again.")


def get_given_python(given: str, progress: Progress) -> Path:
    """The interpreter of --python, used as it is."""
    with progress.step("Python interpreter") as step:
        found = shutil.which(os.path.expanduser(given))
        if not found:
            raise SetupError(f"--python {given}: found no such program. Give the path of a Python interpreter.")
        python = Path(found).absolute()  # not resolved: the python of a virtual environment is a link
        command = [python, "-c", "import torch, aiohttp, transformers"]
        run_logged(step, command, places.LOGS / "imports.log", "Give an interpreter that has the packages of ComfyUI.")
    return python
