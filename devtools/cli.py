"""One command for people without a ComfyUI, and for developers of this pack.

    python3 dev.py demo     build everything, draw one image with a small trained Kolors, print the image's path
    python3 dev.py serve    the same ComfyUI in a browser, with a workflow that is ready to run
    python3 dev.py gallery  draw the pictures of the READMEs
    python3 dev.py test     the tests; every further argument goes to pytest
    python3 dev.py bench    the benchmarks, or those that are named
    python3 dev.py host     the set-up alone; --json prints where things are
    python3 dev.py hosts    the tests on several ComfyUIs, and the page docs/hosts.md

Everything is made in `.dev/` in the repository; delete that folder and nothing is left. Needs Python 3.10 or newer with
the venv module, and nothing else. Each finished step leaves a stamp, so a second run is quick, and what was cut off or
broken is redone. Progress goes to stderr, results to stdout.

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
from dataclasses import asdict
from pathlib import Path

from . import places, prepare
from .bench import benchmark, benchmarks, run_bench
from .demo import DEMO_PROMPT, DEMO_SIZE, DEMO_STEPS, NEUTRAL_PROMPT, image_size, run_demo
from .gallery import GALLERY, run_gallery
from .hosts import run_hosts
from .progress import SetupError
from .results import SUITES
from .serve import run_serve
from .testing import run_test


def run_host(args: argparse.Namespace) -> int:
    setup, _ = prepare.set_up(args)
    found = {key: str(value) for key, value in asdict(setup).items()}
    print(json.dumps(found) if args.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


def build_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of the pinned one")
    common.add_argument("--python", metavar="EXE", help="use this interpreter as it is and install nothing into it")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        # No abbreviations: an option of pytest, such as --co, must not be taken for one of ours.
        command = commands.add_parser(name, parents=[common], help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    demo = add("demo", run_demo, "draw one image with a small trained Kolors, which knows 80 emoji, and print its path")
    what = f"what to draw, in Chinese or English (default: {DEMO_PROMPT}; with --image: {NEUTRAL_PROMPT})"
    demo.add_argument("--prompt", metavar="TEXT", help=what)
    demo.add_argument("--image", type=Path, metavar="FILE", help="a picture to draw something like (IP-Adapter)")
    demo.add_argument("--negative", default="", metavar="TEXT", help="what to avoid (default: nothing)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")
    demo.add_argument("--steps", type=int, default=DEMO_STEPS, metavar="N", help="default: %(default)s")
    demo.add_argument("--size", type=image_size, default=DEMO_SIZE, metavar="WxH", help="pixels; default: %(default)s")
    demo.add_argument(
        "--out", type=Path, default=places.DEV / "base" / "output" / "demo.png", metavar="FILE", help="the PNG"
    )
    gallery = add("gallery", run_gallery, "draw the pictures of the READMEs")
    gallery.add_argument("--out", type=Path, default=GALLERY, metavar="DIR", help="where to (default: demo/gallery)")
    serve = add("serve", run_serve, "ComfyUI in a browser, with the models of the demo, until Ctrl-C")
    serve.add_argument("--port", type=int, default=8188, metavar="N", help="default: %(default)s")
    serve.add_argument("--models", type=Path, metavar="DIR", help="one more folder of models, laid out like ComfyUI's")
    add("test", run_test, "run the tests; every further argument goes to pytest")
    bench = add("bench", run_bench, "run the benchmarks")
    bench.add_argument("name", nargs="*", type=benchmark, help=f"of {', '.join(benchmarks())} (default: all)")
    host = add("host", run_host, "set everything up and say where it is")
    host.add_argument("--json", action="store_true", help="print python, comfyui, base and pack as one JSON object")
    text = "run tests on several ComfyUIs and write docs/hosts.md; what follows -- goes to pytest"
    text += f" (default: {' '.join(SUITES)})"
    several = commands.add_parser("hosts", help=text, description=text, allow_abbrev=False)
    several.set_defaults(run=run_hosts)
    several.add_argument("--comfyui", type=Path, metavar="PATH", nargs="+", required=True, help="folders of ComfyUIs")
    several.add_argument("--again", action="store_true", help="run anew what was run before")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; only `test` and `hosts` may have unknown ones, which become `rest`."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command not in ("test", "hosts"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest[1:] if rest[:1] == ["--"] else rest
    return args


def main(argv: list[str] | None = None) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - people start this with whatever Python they have
        sys.exit(f"dev.py found Python {sys.version.split()[0]}, expected 3.10 or newer. Run it with a newer Python.")
    args = parse(argv)
    for name in ("SIGTERM", "SIGHUP"):  # leave through the `finally` blocks, which end the child processes
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        return args.run(args)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
