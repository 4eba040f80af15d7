"""The benchmarks, which are scripts of their own, and the page of their figures."""

from __future__ import annotations

import argparse
import sys
import time

from . import bench_page, places, prepare

RELEASED = ["text_encoder.py", "--released"]


def bench_options(parser: argparse.ArgumentParser) -> None:
    named = f"of {', '.join(benchmarks())}; or all, or none (default: all)"
    parser.add_argument("name", nargs="*", type=benchmark, help=named)
    parser.add_argument(
        "--released", action="store_true", help="the text encoder at its released size as well; it alone without a name"
    )
    parser.add_argument(
        "--md", action="store_true", help="write the tables of all machines into docs/performance.md, in both languages"
    )


def run_bench(args: argparse.Namespace) -> int:
    scripts = chosen(args.name, args.released)
    codes = {}
    if scripts:
        setup, _ = prepare.set_up(args)
        for script, *more in scripts:
            name, began = " ".join([script.removesuffix(".py"), *more]), time.monotonic()
            codes[name] = prepare.run_here(setup, places.ROOT / "benchmarks" / script, *more)
            print(f"{name} ... {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if args.md:
        bench_page.write_pages(places.ROOT / "docs", places.ROOT / "benchmarks" / "results")
    for name, code in codes.items():
        if code:
            print(f"{name} failed with exit code {code}; what it found before stays as it was.", file=sys.stderr)
    return max(codes.values(), key=abs, default=0)


def chosen(names: list[str], released: bool) -> list[list[str]]:
    """The scripts to run, each with its arguments."""
    if "none" in names or (released and not names):
        scripts = []
    else:
        scripts = [[f"{name}.py"] for name in (benchmarks() if "all" in names or not names else names)]
    return [*scripts, RELEASED] if released else scripts


def benchmarks() -> list[str]:
    """Names of the benchmarks, which are scripts of their own."""
    return sorted(
        script.stem for script in (places.ROOT / "benchmarks").glob("*.py") if not script.stem.startswith("_")
    )


def benchmark(name: str) -> str:
    """The one benchmark whose name begins so, or all or none."""
    if name in ("all", "none"):
        return name
    found = [known for known in benchmarks() if known.startswith(name)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{name} is none of the benchmarks {', '.join(benchmarks())}")
    return found[0]
