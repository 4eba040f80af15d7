"""The steps that every command needs, and what runs in the result."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from . import places
from .environment import get_environment, get_given_python
from .folders import make_base
from .host import get_host
from .miniature import make_models
from .places import Setup
from .process import child, has_ended
from .progress import Progress, setup_lock


def set_up(args: argparse.Namespace) -> tuple[Setup, Progress]:
    """The steps that every command needs."""
    progress = Progress((3 if args.python else 7) + {"demo": 4, "gallery": 4, "serve": 3}.get(args.command, 0))
    places.LOGS.mkdir(parents=True, exist_ok=True)
    (places.DEV / ".gitignore").write_text("*\n", encoding="utf-8")
    with setup_lock():
        host = get_host(args.comfyui, progress)
        python = get_given_python(args.python, progress) if args.python else get_environment(host, progress)
        setup = Setup(python, host, make_base(progress))
        if args.command in ("demo", "gallery", "serve"):
            make_models(setup, progress)
    return setup, progress


def pytest_environment(setup: Setup) -> dict[str, str]:
    """What pytest and the benchmarks find the host by."""
    places = {"COMFYUI_PATH": str(setup.comfyui), "KOLORS_BASE": str(setup.base), "PYTHONUTF8": "1"}
    return {**os.environ, **places}


def run_here(setup: Setup, *arguments: str | Path) -> int:
    """Runs Python in the repository and on this terminal; when stopped, it may first clean up in its own way."""
    with child([setup.python, *arguments], cwd=places.ROOT, env=pytest_environment(setup)) as process:
        try:
            return process.wait()
        except SystemExit:  # the terminal sends Ctrl-C to the child as well, but nobody sends it a SIGTERM
            process.send_signal(signal.SIGINT)
            raise
        finally:
            has_ended(process, 15)
