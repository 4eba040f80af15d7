"""A whole picture, prompt to latents, beside diffusers' pipeline: `python3 dev.py bench pipeline`.

Ten guided steps at 256 x 256 pixels, float32 on the CPU, two threads, random weights of the middle size. A picture of
prompts that neither side has seen, and a second one of the same prompts: the host keeps what it has encoded, as it does
for a node whose inputs are unchanged, while diffusers' pipeline encodes anew unless the caller keeps the states. Where
the first picture of a process spends its time is told by stage; and what a preview at every step costs beside sampling.
Writes pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import _sides
import torch
from _alone import run_alone, settle
from _report import argument_parser, save, table
from _rows import Row, compared, timed
from _sides import CFG, MID, SEED, WORDS, Prompts, Sides, build, check_equal, sample, sample_reference
from _timing import HEADINGS, Cost, compare
from comfyui_kolors.kolors_core.host import unet
from comfyui_kolors.kolors_core.host.text_encoder.conditioning import encode_prompt
from load import load_text_encoder, load_unet, write_files
from reference import build_pipeline, build_scheduler

SIZE = {}  # of the conditioning: the latent's own


@torch.inference_mode()
def encode(clip, text: str, negative: str = "") -> Prompts:
    """Both prompts by the node's own function."""
    conditioning = [encode_prompt(clip, prompt, 256, SIZE) for prompt in (text, negative)]
    return Prompts(*zip(*((context, options["pooled_output"]) for [[context, options]] in conditioning)))


@torch.inference_mode()
def encode_reference(pipe, text: str, negative: str = "") -> Prompts:
    """The same by diffusers."""
    context, other, pooled, other_pooled = pipe.encode_prompt(text, negative_prompt=negative)
    return Prompts((context, other), (pooled, other_pooled))


@torch.inference_mode()
def draw_reference(pipe, text: str, cells: int, steps: int) -> torch.Tensor:
    return pipe(
        text, negative_prompt="", height=8 * cells, width=8 * cells, num_inference_steps=steps, guidance_scale=CFG,
        output_type="latent", generator=torch.Generator().manual_seed(SEED),
    ).images  # fmt: skip


def measure_pictures(sides: Sides, cells: int, steps: int, rounds: int) -> tuple[dict[str, Cost], float]:
    """Costs of a first and of a second picture, and the error between the two sides.

    Every text is a new one, so that nothing is remembered by chance.
    """
    texts = iter(f"{WORDS}, {number}" for number in range(10_000))
    kept = encode(sides.clip, WORDS)
    error = check_equal(sample(sides.model, kept, cells, steps), draw_reference(sides.pipe, WORDS, cells, steps))
    runs = {
        "diffusers": lambda: draw_reference(sides.pipe, next(texts), cells, steps),
        "ours": lambda: sample(sides.model, encode(sides.clip, next(texts)), cells, steps),
        "ours, same prompts": lambda: sample(sides.model, kept, cells, steps),
        "diffusers, states kept": lambda: sample_reference(sides.pipe, kept, cells, steps),
    }
    return compare(runs, rounds), error


def measure_previews(sides: Sides, cells: int, steps: int, rounds: int) -> dict[str, Cost]:
    """Costs of a run without previews and of those of the host's linear map of latents, at every step."""
    import comfy.latent_formats
    import latent_preview

    prompts = encode(sides.clip, WORDS)
    previewer = latent_preview.Latent2RGBPreviewer(comfy.latent_formats.SDXL().latent_rgb_factors)
    pictures = [torch.randn(1, 4, cells, cells)] * steps
    runs = {
        "sampling": lambda: sample(sides.model, prompts, cells, steps),
        "previews": lambda: [previewer.decode_latent_to_preview_image("JPEG", x0) for x0 in pictures],
    }
    return compare(runs, rounds)


def draw_in_this_process(side: str, folder: str, cells: int, steps: int) -> dict[str, float]:
    """Seconds of each stage of the first picture of a process, from files to latents."""
    unet.register()
    settle()
    stages, started = {}, time.perf_counter()

    def stage(name: str) -> None:
        nonlocal started
        stages[name], started = time.perf_counter() - started, time.perf_counter()

    path = _sides.Path(folder)
    encoder = load_text_encoder(side, path)
    stage("load the text encoder")
    network = load_unet(side, path)
    stage("load the UNet")
    if side == "diffusers":
        pipe = build_pipeline(network, build_scheduler("euler"))
        pipe.register_modules(text_encoder=encoder, tokenizer=_sides.reference_tokenizer(path)[0])
        started = time.perf_counter()
    prompts = encode(encoder, WORDS) if side == "ours" else encode_reference(pipe, WORDS)
    stage("encode two prompts")
    for name, count in (("first step", 1), ("other steps", steps - 1)):
        if side == "ours":
            sample(network, prompts, cells, count)
        else:
            sample_reference(pipe, prompts, cells, count)
        stage(name)
    return stages


def measure_first_picture(sizes, cells: int, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of the stages on each side, of processes of their own, in turn."""
    found = {"diffusers": [], "ours": []}
    with _sides.tempfile.TemporaryDirectory() as folder:
        write_files(_sides.Path(folder), sizes)
        for _ in range(rounds):
            for side, runs in found.items():
                runs.append(run_alone(__file__, "--draw", side, folder, cells, steps))
    return {side: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            for side, runs in found.items()}  # fmt: skip


def stage_rows(stages: dict[str, dict[str, float]]) -> list[tuple]:
    ours, theirs = (times | {"whole": sum(times.values())} for times in (stages["ours"], stages["diffusers"]))
    return [
        (name, f"{seconds * 1000:.0f}", f"{seconds / ours['whole']:.0%}", f"{theirs[name] * 1000:.0f}",
         f"{seconds / theirs[name]:.3f}")
        for name, seconds in ours.items()
    ]  # fmt: skip


def page_rows(pictures: dict[str, Cost], stages: dict[str, dict[str, float]], cells: int, steps: int) -> list[Row]:
    ours, theirs = (sum(stages[side].values()) for side in ("ours", "diffusers"))
    work = f"{steps} steps at {8 * cells} px"
    return [
        timed(f"From prompt to latents, {work}", pictures["ours"], pictures["diffusers"]),
        timed(f"Another image of the same prompt, {work}", pictures["ours, same prompts"], pictures["diffusers"]),
        compared(f"First image of a process, from files, {work}", ours, theirs),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--draw", nargs=4, metavar=("SIDE", "FOLDER", "CELLS", "STEPS"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.draw:
        side, folder, cells, steps = args.draw
        print(json.dumps(draw_in_this_process(side, folder, int(cells), int(steps))))
        return
    sizes, cells, steps, rounds = (_sides.random_models.TINY, 8, 2, 1) if args.quick else (MID, 32, 10, 5)
    stages = measure_first_picture(sizes, cells, steps, rounds)
    with build(sizes) as sides:
        pictures, error = measure_pictures(sides, cells, steps, rounds)
        previews = measure_previews(sides, cells, steps, rounds)
    rows = [(name, *cost.cells()) for name, cost in pictures.items()]
    print(table((f"{steps} steps at {8 * cells} px", *HEADINGS), rows))
    print(f"previews: {previews['previews'].ratio * 100:.1f} % of sampling")
    headings = ("First picture of a process, from files", "ours, ms", "share", "diffusers, ms", "ratio")
    print("\n" + table(headings, stage_rows(stages)))
    report = {"pictures": pictures, "error": error, "previews": previews, "stages": stages}
    save("pipeline", report, args.results, page_rows(pictures, stages, cells, steps))


if __name__ == "__main__":
    main()
