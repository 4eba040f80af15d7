"""The benchmarks, which are scripts of their own."""

from __future__ import annotations

import argparse

from . import places, prepare


def bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", type=benchmark, help=f"of {', '.join(benchmarks())} (default: all)")
    parser.add_argument("--released", action="store_true", help="only the text encoder, at its released size")


def run_bench(args: argparse.Namespace) -> int:
    setup, _ = prepare.set_up(args)
    names = benchmarks() if "all" in args.name else args.name or benchmarks()
    scripts = [[f"{name}.py"] for name in names]
    if args.released:
        scripts = [["text_encoder.py", "--released"]]
    return max(prepare.run_here(setup, places.ROOT / "benchmarks" / script, *more) for script, *more in scripts)


def benchmarks() -> list[str]:
    """Names of the benchmarks, which are scripts of their own."""
    return sorted(
        script.stem for script in (places.ROOT / "benchmarks").glob("*.py") if not script.stem.startswith("_")
    )


def benchmark(name: str) -> str:
    """The one benchmark whose name begins so, or all."""
    if name == "all":
        return name
    found = [known for known in benchmarks() if known.startswith(name)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{name} is none of the benchmarks {', '.join(benchmarks())}")
    return found[0]
