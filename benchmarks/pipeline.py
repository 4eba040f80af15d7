"""A whole picture, prompt to latents, beside diffusers' pipeline: `python3 dev.py bench pipeline`.

Ten guided steps at 256 x 256 pixels, float32 on the CPU, two threads, random weights of the middle size. A picture of
prompts that neither side has seen, and a second one of the same prompts: the host keeps what it has encoded, as it does
for a node whose inputs are unchanged, while diffusers' pipeline encodes anew unless the caller keeps the states. Where
the time goes is told by stage, with previews as the server makes them and without. Writes results/pipeline.json.
"""

from __future__ import annotations

import argparse
import time

import _sides
import torch
from _report import save, table
from _sides import CFG, MID, SEED, WORDS, Prompts, Sides, build, check_equal, sample, sample_reference
from _timing import compare

SIZE = {}  # of the conditioning: the latent's own


@torch.inference_mode()
def encode(sides: Sides, text: str, negative: str = ""):
    """CONDITIONING of both prompts by the node's own function."""
    from comfyui_kolors.kolors_core.host.conditioning import encode_prompt

    return [encode_prompt(sides.clip, prompt, 256, SIZE) for prompt in (text, negative)]


def as_prompts(conditioning) -> Prompts:
    contexts, pooled = zip(*((context, options["pooled_output"]) for [[context, options]] in conditioning))
    return Prompts(contexts, pooled)


@torch.inference_mode()
def draw_reference(sides: Sides, text: str, cells: int, steps: int) -> torch.Tensor:
    return sides.pipe(
        text, negative_prompt="", height=8 * cells, width=8 * cells, num_inference_steps=steps, guidance_scale=CFG,
        output_type="latent", generator=torch.Generator().manual_seed(SEED),
    ).images  # fmt: skip


def measure_pictures(sides: Sides, cells: int, steps: int, rounds: int) -> dict[str, dict]:
    """Costs of a first and of a second picture; every text is a new one, so that nothing is remembered by chance."""
    texts = iter(f"{WORDS}, {number}" for number in range(10_000))
    kept = as_prompts(encode(sides, WORDS))
    error = check_equal(sample(sides.model, kept, cells, steps), draw_reference(sides, WORDS, cells, steps))
    states = Prompts(kept.contexts, kept.pooled)
    costs = compare(
        {
            "diffusers": lambda: draw_reference(sides, next(texts), cells, steps),
            "ours": lambda: sample(sides.model, as_prompts(encode(sides, next(texts))), cells, steps),
            "ours, same prompts": lambda: sample(sides.model, kept, cells, steps),
            "diffusers, states kept": lambda: sample_reference(sides.pipe, states, cells, steps),
        },
        rounds,
    )
    return {name: cost.json() | {"error": error} for name, cost in costs.items()}


def measure_previews(sides: Sides, cells: int, steps: int, rounds: int) -> dict[str, dict]:
    """Costs of a run without previews and with those of the host's linear map of latents, at every step."""
    import comfy.latent_formats
    import latent_preview

    prompts = as_prompts(encode(sides, WORDS))
    previewer = latent_preview.Latent2RGBPreviewer(comfy.latent_formats.SDXL().latent_rgb_factors)
    pictures = [torch.randn(1, 4, cells, cells)] * steps
    costs = compare(
        {
            "sampling": lambda: sample(sides.model, prompts, cells, steps),
            "previews": lambda: [previewer.decode_latent_to_preview_image("JPEG", x0) for x0 in pictures],
        },
        rounds,
    )
    return {name: cost.json() for name, cost in costs.items()}


def profile_first_picture(sides: Sides, cells: int, steps: int) -> dict[str, float]:
    """Seconds of processor time of each stage of a first picture, from files to latents."""
    from comfyui_kolors.demo.random_models import TEXT_ENCODER_FILE, UNET_FILE
    from comfyui_kolors.kolors_core.host import loaders
    from comfyui_kolors.kolors_core.host.conditioning import encode_prompt

    stages, started = {}, time.process_time()

    def stage(name: str) -> None:
        nonlocal started
        stages[name] = time.process_time() - started
        started = time.process_time()

    with torch.inference_mode():
        clip = loaders.load_text_encoder(str(sides.folder / TEXT_ENCODER_FILE))
        stage("load the text encoder")
        conditioning = [encode_prompt(clip, prompt, 256, SIZE) for prompt in (WORDS, "")]
        stage("encode two prompts")
        model = loaders.load_unet(str(sides.folder / UNET_FILE))
        stage("load the UNet")
        sample(model, as_prompts(conditioning), cells, 1)
        stage("first step")
        sample(model, as_prompts(conditioning), cells, steps - 1)
        stage("other steps")
    return stages


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--results", type=_sides.Path, help="where to (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    sizes, cells, steps, rounds = (_sides.random_models.TINY, 8, 2, 1) if args.quick else (MID, 32, 10, 7)
    with build(sizes) as sides:
        stages = profile_first_picture(sides, cells, steps)
        pictures = measure_pictures(sides, cells, steps, rounds)
        previews = measure_previews(sides, cells, steps, rounds)
    rows = [
        (name, f"{cost['wall'] * 1000:.0f}", f"{cost['cpu'] * 1000:.0f}", f"{cost['ratio']:.3f}")
        for name, cost in pictures.items()
    ]
    print(table((f"{steps} steps at {8 * cells} px", "ms", "ms of processor time", "by diffusers'"), rows))
    print(f"previews: {previews['previews']['cpu'] / previews['sampling']['cpu'] * 100:.1f} % of sampling")
    whole = sum(stages.values())
    rows = [(name, f"{s * 1000:.0f}", f"{s / whole * 100:.0f} %") for name, s in stages.items()]
    print("\n" + table(("First picture, from files", "ms of processor time", "share"), rows))
    save("pipeline", {"pictures": pictures, "previews": previews, "stages": stages}, args.results)


if __name__ == "__main__":
    main()
