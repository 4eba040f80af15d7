"""The tests on one ComfyUI after the other, and the record of all runs."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from . import hosts_page, places, prepare, results, start_options
from .host import host_version
from .places import Setup
from .process import POLL_SECONDS, child, has_ended, log_error, python_says, tail
from .progress import Progress, SetupError, Step, setup_lock
from .server import find_accelerator


def hosts_options(parser: argparse.ArgumentParser) -> None:
    words = f"folders of ComfyUIs; tests that follow -- are run in place of {' '.join(results.SUITES)}"
    parser.add_argument("--comfyui", type=Path, metavar="PATH", nargs="+", required=True, help=words)
    parser.add_argument("--again", action="store_true", help="run anew what was run before")


def run_hosts(args: argparse.Namespace) -> int:
    """Runs the suites on each host, keeps what was run before, and goes on where a host cannot be set up."""
    suites, options = results.split_words(args.rest, places.ROOT)
    done, faults = [], []
    for folder in args.comfyui:
        try:
            setup, _ = prepare.set_up(argparse.Namespace(comfyui=folder, python=None))
            version, environment = host_version(setup.comfyui), describe(setup)
            progress = Progress(len(suites))
            for suite in suites:
                with progress.step(f"{suite} on {version}") as step:
                    done.append(run_suite(setup, step, version, environment, suite, options, args.again))
                with setup_lock():  # several of these may run at a time, each on other hosts
                    hosts_page.record(places.ROOT / "docs", done[-1:])
        except (SetupError, OSError) as error:
            print(f"\n{folder}: {error}", file=sys.stderr)
            faults.append(folder)
    print(places.ROOT / "docs" / hosts_page.PAGES["en"])
    return 1 if faults or any(result.failed for result in done) else 0


def describe(setup: Setup) -> dict[str, str]:
    """What a result depends on beside the host."""
    device = "cpu" if "--cpu" in start_options.given() else find_accelerator(setup.python)
    found = python_says(setup.python, results.PROBE.format(device=device))
    if found is None:
        raise SetupError(
            f"{setup.python} cannot import torch. Delete its environment under {places.DEV} and run this again."
        )
    return json.loads(found) | {"machine": results.machine()}


def run_suite(
    setup: Setup, step: Step, version: str, environment: dict[str, str], suite: str, options: list[str], again: bool
) -> results.Result:
    """The result of a suite on a host, of an earlier run where there is one. Raises SetupError if pytest breaks off."""
    label, flags, now = shlex.join([suite, *options]), start_options.described(), results.commit(places.ROOT)
    place = results.stored_as(places.DEV / "hosts", version, label, flags, environment["device"])
    found, junit, log = (place.with_name(f"{place.name}.{ending}") for ending in ("json", "xml", "log"))
    if not again and (kept := results.stored(found)):
        changed = f"; now {now}, --again runs them anew" if kept.commit != now else ""
        step.outcome = f"{kept.summary()} (kept from {kept.date}, commit {kept.commit}{changed})"
        return kept
    found.unlink(missing_ok=True)
    found.parent.mkdir(parents=True, exist_ok=True)
    command = [setup.python, *results.pytest_arguments(suite, options, junit)]
    with (
        log.open("wb") as output,
        child(
            command, cwd=places.ROOT, env=prepare.pytest_environment(setup), stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        while not has_ended(process, POLL_SECONDS):
            step.tick("".join(tail(log, 1)))
    if process.returncode not in (0, 1):  # stopped, crashed, or nothing to run
        raise log_error(f"pytest {label} on {version} ended with exit code {process.returncode}.", log)
    figures = results.read_junit(junit)
    result = results.Result(version, label, flags, results.today(), now, environment=environment, **figures)
    results.store(found, result)
    step.outcome = f"{result.summary()} in {result.seconds:.0f} s"
    return result
