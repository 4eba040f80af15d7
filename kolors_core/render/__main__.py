"""python -m kolors_core.render WORKFLOW TABLE --out FOLDER | report FOLDER: many prompts of one workflow."""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
from pathlib import Path

from ..errors import KolorsError
from .run import make_plan, render, show
from .settings import Ray, Settings
from .storage import whole

EXAMPLES = """examples:
  python -m kolors_core.render kolors.json prompts.csv --out renders
  python -m kolors_core.render image.png prompts.jsonl --out renders --server http://127.0.0.1:8188
  python -m kolors_core.render kolors.json prompts.parquet --out s3://bucket/renders --ray auto --workers 2-8 --split
  python -m kolors_core.render report renders

columns of the table:
  prompt, negative, seed, steps, cfg, width, height   found in the workflow, from its sampler on
  seeds                                               several for one row: 1-4, or 3, 8, 12
  NODE.input                                          any other input, of a node's id or title: 3.denoise
"""
BOUNDS = re.compile(r"(\d+)(?:-(\d+))?$")
MOST_ERRORS = 100


def bounds(text: str) -> tuple[int, int]:
    """``4`` or ``2-8``."""
    match = BOUNDS.match(text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < low <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of workers nor a range, such as 2-8")
    return low, high


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m kolors_core.render",
        description="Draw a whole table of prompts with one workflow, on this machine or on a Ray cluster. A run that "
        "was stopped goes on with the same command.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workflow", type=Path, help="API format (.json), or an image that ComfyUI saved")
    parser.add_argument("table", help="CSV, TSV, JSON Lines or Parquet; a path or a URL")
    parser.add_argument("--out", help="where images and manifest go: a folder, or a URL such as s3://…")
    parser.add_argument("--keep", default="", metavar="COLUMNS", help="columns that set nothing, only for the report")
    parser.add_argument("--dry-run", action="store_true", help="show the first graphs, and draw nothing")
    parser.add_argument("--max-errors", type=int, default=MOST_ERRORS, help="stop when more jobs failed (default 100)")
    host = parser.add_argument_group("ComfyUI")
    host.add_argument("--comfyui", help="its folder, the same on every machine; default: the one around this package")
    host.add_argument("--options", default="", help="for its start, in one text: --options='--cpu'")
    host.add_argument("--server", help="the URL of one that runs already, in place of one of its own")
    host.add_argument("--silence", type=float, default=900.0, help="seconds without a word of it: it hangs (900)")
    cluster = parser.add_argument_group("Ray")
    cluster.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS", help="use Ray: on this machine, or that cluster; auto finds it"
    )
    cluster.add_argument("--workers", type=bounds, default=(1, 1), help="how many, or a range to scale in: 2-8")
    cluster.add_argument("--num-gpus-per-worker", type=float, help="default 1 where the cluster has any; 0: on the CPU")
    cluster.add_argument("--num-cpus-per-worker", type=float, default=1.0)
    cluster.add_argument("--split", action="store_true", help="encode prompts in workers of their own")
    cluster.add_argument("--encoders", type=bounds, default=(1, 1), help="workers for that, with --split")
    cluster.add_argument("--num-gpus-per-encoder", type=float, default=0.0, help="default 0: on the CPU")
    cluster.add_argument(
        "--decoders", type=bounds, help="workers that decode, on the CPU, with --split; else the samplers do"
    )
    given = parser.parse_args(arguments)
    if given.out is None and not given.dry_run:
        parser.error("--out says where images and manifest go.")
    if given.ray is None and (given.split or given.workers != (1, 1)):
        parser.error("--workers and --split need --ray: without it there is one worker, on this machine.")
    if given.ray is not None and given.server:
        parser.error("--server is one ComfyUI, and --ray starts many. Leave one of them out.")
    if given.decoders and not given.split:
        parser.error("--decoders needs --split.")
    return given


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that cannot show Chinese
    try:
        if arguments[:1] == ["report"]:
            return report(arguments[1:])
        given = parse(arguments)
        plan = make_plan(given.workflow, given.table, tuple(filter(None, given.keep.split(","))))
        if given.dry_run:
            show(plan)
            return 0
        options = tuple(shlex.split(given.options))
        settings = Settings(whole(given.out), given.comfyui, options, given.server, given.silence)
        return render(plan, settings, cluster_of(given), given.max_errors)
    except KolorsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What is done stays; the same command goes on with the rest.\n")
        return 130


def cluster_of(given: argparse.Namespace) -> Ray | None:
    if given.ray is None:
        return None
    return Ray(
        given.ray or None,
        given.workers,
        given.num_gpus_per_worker,
        given.num_cpus_per_worker,
        given.encoders if given.split else None,
        given.decoders,
        given.num_gpus_per_encoder,
    )


def report(arguments: list[str]) -> int:
    from .report import write_report

    parser = argparse.ArgumentParser("python -m kolors_core.render report", description="A page of all that was drawn.")
    parser.add_argument("folder", help="what --out was")
    given = parser.parse_args(arguments)
    sys.stdout.write(f"Written: {write_report(given.folder)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
