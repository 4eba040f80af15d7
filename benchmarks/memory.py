"""Memory of drawing, beside diffusers' pipeline: `python3 dev.py bench memory`.

UNet and text encoder of the middle size, float32 on the CPU: what a process has in RAM at most above what it had before
it loaded them, mapped files included, while it loads and draws two guided steps, over size and batch; every figure is
of a process of its own. Linux alone tells such peaks. Writes results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import _memory
import _sides
import torch
from _report import save, table
from _sides import MID, random_models, random_prompts, sample, sample_reference
from load import load_ours, load_theirs, write_files

SIDES = (16, 32, 64, 128)
BATCHES = (1, 2, 4, 8)
STEPS = 2


def draw_in_this_process(side: str, folder: str, cells: int, batch: int) -> float:
    """MiB at most."""
    from comfyui_kolors.kolors_core.host import unet
    from reference import build_pipeline, build_scheduler

    unet.register()
    torch.nn.Linear(8, 8)(torch.ones(1, 8))  # the libraries' own memory
    before = _memory.start()
    if side == "ours":
        model, _ = load_ours(_sides.Path(folder))
        width = model.model.diffusion_model.encoder_hid_proj.in_features
        sample(model, random_prompts(width), cells, STEPS, batch)
    else:
        network, _ = load_theirs(_sides.Path(folder))
        pipe = build_pipeline(network, build_scheduler("euler"))
        sample_reference(pipe, random_prompts(network.encoder_hid_proj.in_features), cells, STEPS, batch)
    return _memory.peak() - before


def run_alone(side: str, folder: _sides.Path, cells: int, batch: int) -> float:
    command = [sys.executable, __file__, "--draw", side, str(folder), str(cells), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--results", type=_sides.Path, help="where to (default: benchmarks/results)")
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
                side: run_alone(side, folder, cells, batch) for side in ("ours", "diffusers")
            }
    rows = [
        (case, f"{peaks['ours']:.0f}", f"{peaks['diffusers']:.0f}", f"{peaks['ours'] / peaks['diffusers']:.3f}")
        for case, peaks in result.items()
    ]
    print(table(("Peak, MiB", "ours", "diffusers", "ratio"), rows))
    save("memory", {"peaks": result}, args.results)


if __name__ == "__main__":
    main()
