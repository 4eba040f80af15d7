"""What the packs need, in an environment of its own, in which they change nothing that ComfyUI needs."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from .. import places
from ..environment import PipStep, fill_environment, host_steps, requirement_lines
from ..process import run_logged
from ..progress import Progress, SetupError, Step, digest, write_stamp
from ..repairs import check_imports

#: For the models that the tries load, beside what the tests need.
MODELS = PipStep("Packages of the small models", ["onnx", "onnxruntime"], "about 40 MB")


def get_environment(host: Path, progress: Progress) -> Path:
    """The interpreter of the environment of all packs on this host."""
    steps = [*host_steps(host, development=True), MODELS]
    inputs = digest([step.arguments for step in steps])
    python = fill_environment(f"neighbours-{digest(sys.version_info[:2], inputs)[:12]}", steps, progress)
    progress.once("Imports", stamps(python) / "imports", inputs, lambda step: check_imports(step, python))
    progress.once("Versions to keep", stamps(python) / "frozen", inputs, lambda step: freeze(python))
    return python


def stamps(python: Path) -> Path:
    return python.parent.parent / "stamps"


def constraints(python: Path) -> Path:
    return python.parent.parent / "host-packages.txt"


def freeze(python: Path) -> None:
    """Writes the versions that are installed before any pack's packages, which all of these must go with."""
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    pinned = [line for line in listed.splitlines() if "==" in line]
    constraints(python).write_text("\n".join(pinned) + "\n", encoding="utf-8")


def install(python: Path, pack: Path, progress: Progress) -> list[str]:
    """Installs the requirements of a pack, and of parts of it; those that cannot be, beside what ComfyUI needs."""
    required = requirement_lines(pack / "requirements.txt", *sorted(pack.glob("*/requirements.txt")))
    stamp, left_out = stamps(python) / f"pack-{pack.name}", stamps(python) / f"pack-{pack.name}.json"
    work = partial(install_lines, python=python, lines=required, left_out=left_out)
    progress.once(f"Packages of {pack.name}", stamp, digest(required), work)
    return json.loads(left_out.read_text(encoding="utf-8"))


def install_lines(step: Step, python: Path, lines: list[str], left_out: Path) -> None:
    """All at once; one by one where that fails."""
    refused: list[str] = []
    if lines and not pip_install(step, python, lines):
        refused = [line for line in lines if not pip_install(step, python, [line])]
    step.outcome = f"without {', '.join(refused)}" if refused else ""
    write_stamp(left_out, json.dumps(refused))


def pip_install(step: Step, python: Path, lines: list[str]) -> bool:
    command = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    try:
        run_logged(step, [*command, "--constraint", constraints(python), *lines], places.LOGS / "pip-packs.log", "")
    except SetupError:
        return False
    return True
