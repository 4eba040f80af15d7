"""The tests: all of them in three parts at a time, the quick ones, or what is named."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import places, prepare
from .chromium import get_chromium
from .lint import lint
from .side_by_side import run_side_by_side

# Each of these waits for a server or a page for a part of the time, which is why the other tests fit beside them.
WITH_SERVER = ("server", "robustness", "browser")
NEWEST = "newest"  # in the names of the tests in that front end, which are a part of their own, with
MEASURING = "benchmarks"  # so that no part takes much longer than another
WITH_HOST = (*WITH_SERVER, "host", "accelerator")
BY_NAME_ONLY = ("accelerator",)
QUICK = "not host and not browser and not gpu and not ray"


def test_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="only what needs no ComfyUI: about a minute")


def run_test(args: argparse.Namespace) -> int:
    if args.quick:
        return run_quick(args)
    setup, _ = prepare.set_up(args)
    if wants_browser(args.rest):
        get_chromium(setup.python)
    if args.rest:
        return prepare.run_here(setup, "-m", "pytest", *args.rest)
    pytest = [setup.python, "-m", "pytest", *colour()]
    with_server = [*pytest, *(f"tests/{name}" for name in WITH_SERVER)]
    others = folders_of_tests(leave_out=(*WITH_SERVER, MEASURING, *BY_NAME_ONLY))
    workers = min(4, cores() - 1)  # the other parts share a core; each worker has a host in memory
    parts = {
        "tests with a server": [*with_server, "-k", f"not {NEWEST}"],
        "tests in the newest front end and of the benchmarks": [
            *with_server,
            f"tests/{MEASURING}",
            "-k",
            f"{NEWEST} or {MEASURING}",
        ],
        "other tests": [*pytest, *(parallel(workers) if workers > 1 else []), *others],
    }
    return lint_and_test(args, setup.python, parts, prepare.pytest_environment(setup))


def run_quick(args: argparse.Namespace) -> int:
    """What needs no ComfyUI, on all cores."""
    python = prepare.set_up_small(args)
    command = [python, "-m", "pytest", "-m", QUICK, *parallel(cores()), *colour()]
    command += [*args.rest, *([] if names_a_test(args.rest) else folders_of_tests(leave_out=WITH_HOST))]
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    return lint_and_test(args, python, {"quick tests": command}, {**environment, "PYTHONUTF8": "1"})


def lint_and_test(args: argparse.Namespace, python: Path, tests: dict[str, list], environment: dict[str, str]) -> int:
    """Runs both, whatever the first says. An interpreter that is given needs to have none of the linters."""
    style = 0 if args.python else lint(python)
    outcome = run_side_by_side(tests, environment)
    if style:
        print("Style, types or spelling: FAILED, see the beginning, or run python3 dev.py lint")
    return max(style, outcome)


def folders_of_tests(leave_out: tuple[str, ...]) -> list[str]:
    """The folders and files of tests, but for the folders of these names."""
    found = sorted((places.ROOT / "tests").iterdir())
    tests = [path for path in found if path.match("test_*.py") or any(path.glob("**/test_*.py"))]
    return [f"tests/{path.name}" for path in tests if path.name not in leave_out]


def names_a_test(arguments: list[str]) -> bool:
    """Whether one of pytest's arguments is a path in the repository."""
    return any(not word.startswith("-") and (places.ROOT / word.split("::")[0]).exists() for word in arguments)


def wants_browser(arguments: list[str]) -> bool:
    """Whether the tests in a browser are among those that pytest will run, as far as its paths say."""
    return not names_a_test(arguments) or any("tests/browser" in word or word == "tests" for word in arguments)


def parallel(workers: int) -> list[str]:
    """pytest's options for several processes; the tests of a file, which share fixtures, stay together."""
    return ["-n", str(workers), "--dist", "loadfile"]


def colour() -> list[str]:
    """pytest writes to a file here, which is then shown."""
    return ["--color=yes"] if sys.stdout.isatty() else []


def cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
