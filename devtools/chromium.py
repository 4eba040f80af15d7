"""A Chromium for the tests in a browser, brought where there is none. Without one those tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import places
from .process import python_says, run_logged
from .progress import Progress, SetupError, Step

NAMES = ("chromium", "chromium-browser", "google-chrome")

APT = (["apt-get", "update", "--quiet"], ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"])

#: Run in the tests' environment: the browser that playwright has brought, if it is there.
OWN = """
from playwright.sync_api import sync_playwright
with sync_playwright() as driver:
    print(driver.chromium.executable_path)
"""


def find_chromium(python: Path) -> str | None:
    """A browser of the system that starts, or else playwright's own."""
    found = next(filter(starts, filter(None, map(shutil.which, NAMES))), None)
    if found:
        return found
    own = python_says(python, OWN)
    return own if own and Path(own).is_file() else None


def starts(program: str) -> bool:
    """Whether it is a browser: on Ubuntu there may be a script in its place, which asks for a snap."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def get_chromium(python: Path) -> None:
    """Brings a browser if there is none. Where that fails, the tests say how to get one."""
    with Progress(1).step("Chromium") as step:
        if found := find_chromium(python):
            step.outcome = f"{found} in place"
            return
        if (
            may_install_packages()
            and install(step, "the system's package, about 100 MB", APT)
            and find_chromium(python)
        ):
            return
        own = [[python, "-m", "playwright", "install", "chromium"]]
        if not install(step, "playwright's, about 170 MB", own) or not find_chromium(python):
            step.outcome = "none; the tests in a browser are skipped"


def may_install_packages() -> bool:
    return bool(hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"))


def install(step: Step, what: str, commands: Sequence[Sequence[str | Path]]) -> bool:
    """Whether the commands that bring a browser have done so."""
    step.say(f"Downloading Chromium: {what}")
    try:
        for command in commands:
            run_logged(step, command, places.LOGS / "chromium.log", "")
    except (SetupError, OSError) as error:
        step.say(str(error).splitlines()[0])
        return False
    return True
