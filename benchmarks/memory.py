"""Memory of drawing, beside diffusers' pipeline: `python3 dev.py bench memory`.

UNet and text encoder of the middle size, float32 on the CPU: what a process has in RAM at most above what it had before
it loaded them, mapped files included, while it loads and draws two guided steps, over size and batch, in processes of
their own. With a C library that gives back at once what is freed, which tells what is needed; at the sizes that the
page shows also with it as it is, which keeps some of that, more of it on our side. Linux alone tells such peaks. Writes
memory.json.
"""

from __future__ import annotations

import argparse
import json
import statistics

import _memory
import _sides
from _alone import run_alone, settle
from _report import argument_parser, save, table
from _rows import compared
from _sides import MID, random_models
from comfyui_kolors.kolors_core.host import unet
from load import draw, load_text_encoder, load_unet, write_files

SIDES = (16, 32, 64, 128)
BATCHES = (1, 2, 4, 8)
STEPS = 2
#: The cases on the page, and of how many processes each is the median; of every other one it is one.
ON_PAGE, ROUNDS = ((32, 1), (128, 1)), 3
#: How glibc treats what is freed.
LIBRARIES = {"gives back": {"MALLOC_MMAP_THRESHOLD_": "65536"}, "as it is": {}}
NAMES = {"gives back": "Loading and drawing, memory needed", "as it is": "Loading and drawing, memory held"}


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
            on_page = (cells, batch) in ON_PAGE
            result[f"{8 * cells} px, batch {batch}"] = {
                library: {side: measure(side, folder, cells, batch, variables, ROUNDS if on_page else 1)
                          for side in ("ours", "diffusers")}
                for library, variables in LIBRARIES.items() if on_page or library == "gives back"
            }  # fmt: skip
    rows = [
        (case, library, *(f"{peaks[side]:.0f}" for side in ("ours", "diffusers")),
         f"{peaks['ours'] / peaks['diffusers']:.3f}")
        for case, found in result.items() for library, peaks in found.items()
    ]  # fmt: skip
    print(table(("Peak, MiB", "the C library", "ours", "diffusers", "ratio"), rows))
    page_rows = [
        compared(f"{NAMES[library]}, {case}", peaks["ours"], peaks["diffusers"], "MiB")
        for case, found in result.items()
        if len(found) > 1 or args.quick
        for library, peaks in found.items()
    ]
    save("memory", {"peaks": result}, args.results, page_rows)


if __name__ == "__main__":
    main()
