"""How long damaged files take, and what they leave: `python3 dev.py bench damaged`.

The files of `tests/robustness`: of every kind that the package reads, tiny, damaged in every way, each loaded and used
once, in one process; beside as many whole ones. Nothing is judged here; the tests do. Linux alone tells the memory.
Writes damaged.json.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import _memory
import _sides  # noqa: F401 - makes the package importable
from _report import argument_parser, save, table
from _rows import Row, compared

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "robustness"))
import fuzz
from corpus import Readers

COUNT = 1000


def measure(count: int, every: int) -> dict[str, float]:
    """Seconds of all damaged files, of as many whole ones and of the slowest; MiB at the end above what was before.

    every: of so many cases one is read.
    """
    whole, damaged = [], []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about what is in the files
        folder = Path(name)
        readers = Readers(folder)
        before = _memory.resident()
        cases = fuzz.cases(count * every, 0, str(folder / "canary"))
        for number, case in enumerate(itertools.islice(cases, 0, None, every)):
            outcome = fuzz.read(case, fuzz.NAMES[number % len(fuzz.NAMES)].format(number), folder, readers)
            (whole if case.mutation == "none" else damaged).append(outcome)
            if len(damaged) == count:
                break
    seconds = [outcome.seconds for outcome in damaged]
    return {
        "files": len(damaged),
        "seconds": sum(seconds),
        "median": statistics.median(seconds),
        "slowest": max(seconds),
        "whole": statistics.mean(outcome.seconds for outcome in whole) * len(damaged),
        "kept": max(0.0, _memory.resident() - before),
        "loaded": sum(outcome.kind == fuzz.LOADED for outcome in damaged),
    }


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    logging.disable(logging.ERROR)  # the host's, about what is in the files
    found = measure(*((5, 20) if args.quick else (COUNT, 1)))
    print(table(found, [[f"{value:.4g}" for value in found.values()]]))
    page_rows = [
        compared(f"Reading {found['files']:,} damaged files", found["seconds"], found["whole"], beside="whole files"),
        Row("The slowest of them", found["slowest"]),
        Row("Memory that they leave", found["kept"], "MiB"),
    ]
    save("damaged", {"found": found}, args.results, page_rows)


if __name__ == "__main__":
    main()
