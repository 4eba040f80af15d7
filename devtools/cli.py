"""One command for people without a ComfyUI, and for developers of this pack.

Everything is made in `.dev/` in the repository; delete that folder and nothing is left. Needs Python 3.10 or newer with
the venv module, and nothing else; the tests need 3.11. Each finished step leaves a stamp, so a second run is quick, and
what was cut off or broken is redone. Progress goes to stderr, results to stdout.

Options of ComfyUI's own in KOLORS_HOST_FLAGS, such as `--novram --fp16-unet`, hold for every ComfyUI that is started
here, by the tests too. Without `--cpu` it computes on the accelerator that torch finds.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import bench, demo, gallery, hosts, lint, places, prepare, serve, template_pictures, templates, testing
from .neighbours import command as neighbours
from .progress import SetupError


def no_options(parser: argparse.ArgumentParser) -> None:
    """For commands that have the common options alone."""


def host_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print python, comfyui, base and pack as one JSON object")


def run_host(args: argparse.Namespace) -> int:
    setup, _ = prepare.set_up(args)
    found = {key: str(value) for key, value in asdict(setup).items()}
    print(json.dumps(found) if args.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


def run_texts(args: argparse.Namespace) -> int:
    setup, _ = prepare.set_up(args)
    return prepare.run_here(setup, places.ROOT / "devtools" / "texts.py")


@dataclass(frozen=True)
class Command:
    """`python3 dev.py NAME`: what it does, in a line and as a function that returns the exit code."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    add_options: Callable[[argparse.ArgumentParser], None] = no_options
    on_one_host: bool = True  # has the common options, --comfyui and --python
    takes_rest: bool = False  # further arguments go to pytest


COMMANDS = (
    Command(
        "demo",
        "draw one image with a small trained Kolors, which knows 80 emoji, and print its path",
        demo.run_demo,
        demo.demo_options,
    ),
    Command(
        "serve",
        "ComfyUI in a browser, with the models of the demo, until Ctrl-C",
        serve.run_serve,
        serve.serve_options,
    ),
    Command(
        "templates",
        "lay the workflow templates out in the newest front end",
        templates.run_templates,
        templates.templates_options,
    ),
    Command("gallery", "draw the pictures of the READMEs", gallery.run_gallery, gallery.gallery_options),
    Command(
        "pictures",
        "draw the pictures of the templates, each with the template's own graph and the models of the demo",
        template_pictures.run_pictures,
        template_pictures.pictures_options,
    ),
    Command(
        "test",
        "check the style and run the tests; every further argument goes to pytest, which then runs alone",
        testing.run_test,
        testing.test_options,
        takes_rest=True,
    ),
    Command("lint", "check style, types and spelling", lint.run_lint),
    Command("texts", "write the English locale and the table of node shapes from the declarations", run_texts),
    Command("bench", "run the benchmarks", bench.run_bench, bench.bench_options),
    Command("host", "set everything up and say where it is", run_host, host_options),
    Command(
        "hosts",
        "run tests on several ComfyUIs and write docs/hosts.md; what follows -- goes to pytest",
        hosts.run_hosts,
        hosts.hosts_options,
        on_one_host=False,
        takes_rest=True,
    ),
    Command(
        "neighbours",
        "try other packs beside this one, each and all together, and write docs/neighbours.md",
        neighbours.run_neighbours,
        neighbours.neighbours_options,
    ),
)


def build_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of bringing one")
    common.add_argument("--python", metavar="EXE", help="use this interpreter as it is and install nothing into it")
    # No abbreviations: an option of pytest, such as --co, must not be taken for one of ours.
    style = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__, **style)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        parents = [common] if command.on_one_host else []
        words = {"help": command.help, "description": command.help}
        one = commands.add_parser(command.name, parents=parents, **words, **style)
        one.set_defaults(command=command)
        command.add_options(one)
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; unknown ones become `rest`, where the command takes any."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not args.command.takes_rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest[1:] if rest[:1] == ["--"] else rest
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    for name in ("SIGTERM", "SIGHUP"):  # leave through the `finally` blocks, which end the child processes
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        return args.command.run(args)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
