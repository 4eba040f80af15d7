"""The steps that every command needs, and what runs in the result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import places
from .environment import get_environment, get_given_python, get_small_environment
from .folders import make_base
from .host import get_host
from .miniature import make_tower
from .places import Setup
from .process import child, ending_gently
from .progress import Progress, setup_lock


def set_up(args: argparse.Namespace, draws: bool = False, more: int = 0) -> tuple[Setup, Progress]:
    """Brings everything that a command needs: the demo's models where it draws, else the packages of the tests.

    `more` is the number of steps that the command itself will show.
    """
    steps = (3 if args.python else 7 if draws else 8) + (1 if draws else 0)
    progress = Progress(steps + more)
    with setting_up():
        host = get_host(args.comfyui, progress)
        if args.python:
            python = get_given_python(args.python, progress, "torch, aiohttp, transformers")
        else:
            python = get_environment(host, progress, development=not draws)
        setup = Setup(python, host, make_base(progress))
        if draws:
            make_tower(setup, progress)
    return setup, progress


def set_up_small(args: argparse.Namespace) -> Path:
    """An interpreter with what the tests need that need no ComfyUI."""
    progress = Progress(1 if args.python else 3)
    with setting_up():
        if args.python:
            return get_given_python(args.python, progress, "torch, pytest")
        return get_small_environment(progress)


@contextmanager
def setting_up() -> Iterator[None]:
    places.LOGS.mkdir(parents=True, exist_ok=True)
    (places.DEV / ".gitignore").write_text("*\n", encoding="utf-8")
    with setup_lock():
        yield


def pytest_environment(setup: Setup) -> dict[str, str]:
    """What pytest and the benchmarks find the host by."""
    found = {"COMFYUI_PATH": str(setup.comfyui), "KOLORS_BASE": str(setup.base), "PYTHONUTF8": "1"}
    return {**os.environ, **found}


def run_here(setup: Setup, *arguments: str | Path) -> int:
    """Runs Python in the repository and on this terminal."""
    command = [setup.python, *arguments]
    with child(command, cwd=places.ROOT, env=pytest_environment(setup)) as process, ending_gently([process]):
        return process.wait()
