"""Memory of drawing, beside diffusers' pipeline: `python3 dev.py bench memory`.

UNet and text encoder of the middle size, float32 on the CPU: what a process has in RAM at most above what it had before
it loaded them, mapped files included, while it loads and draws two guided steps, over size and batch; medians of
processes of their own. Once with a C library that gives back at once what is freed, which tells what is needed, and
once as it is, which keeps some of that, more of it on our side. Linux alone tells such peaks. Writes
results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import statistics

import _memory
import _sides
from _alone import run_alone, settle
from _report import argument_parser, save, table
from _sides import MID, random_models
from comfyui_kolors.kolors_core.host import unet
from load import draw, load_text_encoder, load_unet, write_files

SIDES = (16, 32, 64, 128)
BATCHES = (1, 2, 4, 8)
STEPS = 2
ROUNDS = 3
#: How glibc treats what is freed.
LIBRARIES = {"gives back": {"MALLOC_MMAP_THRESHOLD_": "65536"}, "as it is": {}}


def draw_in_this_process(side: str, folder: str, cells: int, batch: int) -> float:
    """MiB at most."""
    unet.register()
    settle()
    before = _memory.start()
    network, _encoder = (load(side, _sides.Path(folder)) for load in (load_unet, load_text_encoder))
    draw(side, network, cells, STEPS, batch)
    return _memory.peak() - before


def measure(side: str, folder: _sides.Path, cells: int, batch: int, variables: dict[str, str], rounds: int) -> float:
    return statistics.median(
        run_alone(__file__, "--draw", side, folder, cells, batch, **variables) for _ in range(rounds)
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--draw", nargs=4, metavar=("SIDE", "FOLDER", "CELLS", "BATCH"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.draw:
        side, folder, cells, batch = args.draw
        print(json.dumps(draw_in_this_process(side, folder, int(cells), int(batch))))
        return
    cases = [(8, 1)] if args.quick else [(cells, 1) for cells in SIDES] + [(32, batch) for batch in BATCHES[1:]]
    result = {}
    with _sides.tempfile.TemporaryDirectory() as name:
        folder = _sides.Path(name)
        write_files(folder, random_models.TINY if args.quick else MID)
        for cells, batch in cases:
            result[f"{8 * cells} px, batch {batch}"] = {
                library: {side: measure(side, folder, cells, batch, variables, 1 if args.quick else ROUNDS)
                          for side in ("ours", "diffusers")}
                for library, variables in LIBRARIES.items()
            }  # fmt: skip
    rows = [
        (case, *(text for peaks in found.values() for text in (
            f"{peaks['ours']:.0f}", f"{peaks['diffusers']:.0f}", f"{peaks['ours'] / peaks['diffusers']:.3f}")))
        for case, found in result.items()
    ]  # fmt: skip
    print(table(("Peak, MiB", "ours", "diffusers", "ratio", "ours, as it is", "diffusers", "ratio"), rows))
    save("memory", {"peaks": result}, args.results)


if __name__ == "__main__":
    main()
