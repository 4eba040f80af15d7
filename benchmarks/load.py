"""Load to ready, time and memory, beside diffusers: `python3 dev.py bench load`.

UNet and text encoder of the middle size from float32 files that the system has in its cache, each side in processes of
its own, in turn; the imports come before. Memory is what the process has in RAM at most above what it had before, files
that it maps included; "kept" is what stays, and "first step" the most of one guided step at 256 pixels as well. Then
text encoders of more and more layers, in one process, over the size of their file. Writes load.json and load.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from functools import partial

import _memory
import _sides
import loaders
import torch
from _alone import run_alone, settle
from _report import Curve, argument_parser, plot, save, table
from _rows import compared
from _sides import MID, Sizes, random_models, random_prompts, sample, sample_reference
from _timing import compare
from comfyui_kolors.kolors_core.host import unet
from diffusers import UNet2DConditionModel
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from reference import build_chatglm3, build_pipeline, build_scheduler
from safetensors.torch import save_file

ROUNDS = 5
CELLS = 32
#: Text encoders of so many layers of this width: files of 50 to 800 MB.
WIDE, LAYERS = replace(MID, hidden=1024, ffn=3424), (1, 4, 16)


def write_files(folder: _sides.Path, sizes: Sizes) -> None:
    """The files of both sides, of the same weights."""
    random_models.write(folder, sizes)
    random_models.random_unet(sizes).save_pretrained(folder / "unet")
    write_reference_encoder(folder, sizes)


def write_reference_encoder(folder: _sides.Path, sizes: Sizes) -> None:
    """The folder of the text encoder for diffusers."""
    _, pieces = _sides.reference_tokenizer(folder)
    encoder = build_chatglm3(sizes, pieces)
    encoder.config.architectures = [type(encoder).__name__]
    encoder.save_pretrained(folder / "text_encoder")


def load_unet(side: str, folder: _sides.Path):
    if side == "ours":
        return loaders.load_unet(str(folder / random_models.UNET_FILE))
    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()


def load_text_encoder(side: str, folder: _sides.Path):
    if side == "ours":
        return loaders.load_text_encoder(str(folder / random_models.TEXT_ENCODER_FILE))
    return ChatGLMModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval()


def draw(side: str, network, cells: int, steps: int, batch: int = 1) -> None:
    """Guided steps on random states."""
    if side == "ours":
        sample(network, random_prompts(network.model.diffusion_model.encoder_hid_proj.in_features), cells, steps, batch)
    else:
        pipe = build_pipeline(network, build_scheduler("euler"))
        sample_reference(pipe, random_prompts(network.encoder_hid_proj.in_features), cells, steps, batch)


def load_in_this_process(side: str, folder: str) -> dict[str, float]:
    """Load one side; seconds, and MiB of memory."""
    unet.register()
    settle()
    before = _memory.start()
    wall, cpu = time.perf_counter(), time.process_time()
    network, _encoder = (load(side, _sides.Path(folder)) for load in (load_unet, load_text_encoder))
    result = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    result |= {"peak": _memory.peak() - before, "kept": _memory.resident() - before}
    draw(side, network, CELLS, 1)
    return result | {"first step": _memory.peak() - before}


def measure_growth(sizes: Sizes, layers: tuple[int, ...], rounds: int) -> Curve:
    """Costs of loading a text encoder over the size of its file, in MiB."""
    costs, files = {"ours": [], "diffusers": []}, []
    for count in layers:
        with _sides.tempfile.TemporaryDirectory() as name:
            folder = _sides.Path(name)
            write_encoder(folder, replace(sizes, layers=count))
            runs = {side: partial(load_text_encoder, side, folder) for side in ("diffusers", "ours")}
            for side, cost in compare(runs, rounds).items():
                costs[side].append(cost)
            files.append(round((folder / random_models.TEXT_ENCODER_FILE).stat().st_size / 2**20, 2))
    return Curve("MiB of the file", files, costs)


def write_encoder(folder: _sides.Path, sizes: Sizes) -> None:
    """The text encoder's files of both sides."""
    path, tokenizer = folder / random_models.TEXT_ENCODER_FILE, random_models.random_tokenizer()
    path.parent.mkdir(parents=True)
    _, pieces = _sides.reference_tokenizer(folder)
    save_file(random_models.random_chatglm3(sizes, pieces) | random_models.tokenizer_tensors(tokenizer), path)
    write_reference_encoder(folder, sizes)


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--load", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.load:
        print(json.dumps(load_in_this_process(*args.load)))
        return
    found: dict[str, list[dict[str, float]]] = {"diffusers": [], "ours": []}
    with _sides.tempfile.TemporaryDirectory() as name:
        folder = _sides.Path(name)
        write_files(folder, random_models.TINY if args.quick else MID)
        for _ in range(1 if args.quick else ROUNDS):
            for side, runs in found.items():
                runs.append(run_alone(__file__, "--load", side, folder))
        files = sum(
            (folder / name).stat().st_size for name in (random_models.UNET_FILE, random_models.TEXT_ENCODER_FILE)
        )
    medians = {side: {k: statistics.median(run[k] for run in runs) for k in runs[0]} for side, runs in found.items()}
    ratios = {key: medians["ours"][key] / medians["diffusers"][key] for key in medians["ours"]}
    keys = ("seconds", "cpu", "peak", "kept", "first step")
    rows = [(side, *(f"{costs[key]:.2f}" if key in keys[:2] else f"{costs[key]:.0f}" for key in keys))
            for side, costs in medians.items()]  # fmt: skip
    rows.append(("ratio", *(f"{ratios[key]:.3f}" for key in keys)))
    headings = (f"Loading {files / 2**20:.0f} MiB", "s", "s of processor time", "peak, MiB", "kept, MiB",
                "with a first step, MiB")  # fmt: skip
    print(table(headings, rows))
    growing = (random_models.TINY, (1, 4), 1) if args.quick else (WIDE, LAYERS, 3)
    curve = measure_growth(*growing)
    print(f"\n{curve.table()}\n{curve.growth()}")
    ours, theirs = medians["ours"], medians["diffusers"]
    page_rows = [
        compared("Loading text encoder and UNet", ours["seconds"], theirs["seconds"]),
        compared("Loading text encoder and UNet, memory", ours["peak"], theirs["peak"], "MiB"),
        curve.row("Loading a text encoder, over the size of the file"),
    ]
    report = {"medians": medians, "ratios": ratios, "file": files / 2**20, "curve": curve.json()}
    save("load", report, args.results, page_rows)
    plot("load", [curve], args.results)


if __name__ == "__main__":
    main()
