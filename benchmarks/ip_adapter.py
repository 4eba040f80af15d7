"""What IP-Adapters cost per step, beside diffusers' own: `python3 dev.py bench ip_adapter`.

Guided sampling at 256 x 256 pixels, float32 on the CPU, two threads, random weights of the middle size, in turn in one
process: none to three adapters of a picture each, encoded beforehand. What the adapters add is their share of the step.
Writes results/ip_adapter.json and results/ip_adapter.png.
"""

from __future__ import annotations

import _sides  # noqa: F401 - before torch, whose threads it sets
from _report import Curve, argument_parser, plot, save, table
from _sides import MID, Sides, build, check_equal, random_models, random_prompts, sample, sample_reference
from _timing import compare
from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import TOWER, host_tower, picture, reference_pipeline
from safetensors.torch import save_file

WEIGHT = 0.5


def apply_ours(sides: Sides, weights: list, image):
    """The MODEL with 0, 1, ... adapters."""
    tower = host_tower(sides.folder)
    models = [sides.model]
    for index, state_dict in enumerate(weights):
        path = sides.folder / f"adapter{index}.safetensors"
        save_file(state_dict, path)
        adapter = ip_adapter.load_ip_adapter(path)
        models.append(
            ip_adapter.apply(
                models[-1],
                adapter,
                ip_adapter.image_tokens(adapter, image_prompt.encode(tower, image)),
                ip_adapter.Influence(WEIGHT, 0.0, 1.0),
            )
        )
    return models


def apply_theirs(sides: Sides, weights: list, image):
    """(pipeline, options of a run) with 0, 1, ... adapters."""
    pipes = [(sides.pipe, {})]
    for count in range(1, len(weights) + 1):
        pipe = reference_pipeline(sides.pipe.unet, weights[:count])
        pipe.set_ip_adapter_scale([WEIGHT] * count)
        pictures = [[to_pil(image[0])]] * count
        pipes.append(
            (pipe, {"ip_adapter_image_embeds": pipe.prepare_ip_adapter_image_embeds(pictures, None, "cpu", 1, True)})
        )
    return pipes


def measure(sides: Sides, most: int, cells: int, steps: int, rounds: int) -> tuple[Curve, list[float]]:
    """Costs per step over the number of adapters, and the errors between the two sides."""
    weights = [random_models.random_ip_adapter(sides.sizes, TOWER["hidden_size"], seed=seed) for seed in range(most)]
    models, pipes = apply_ours(sides, weights, picture()), apply_theirs(sides, weights, picture())
    prompts, counts = random_prompts(sides.sizes.hidden), range(most + 1)

    def ours(count: int):
        return sample(models[count], prompts, cells, steps)

    def theirs(count: int):
        pipe, options = pipes[count]
        return sample_reference(pipe, prompts, cells, steps, **options)

    errors = [check_equal(ours(count), theirs(count)) for count in counts]
    runs = {("diffusers", count): lambda count=count: theirs(count) for count in counts}
    runs |= {("ours", count): lambda count=count: ours(count) for count in counts}
    costs = compare(runs, rounds)
    by_side = {side: [costs[side, count].per(steps) for count in counts] for side in ("ours", "diffusers")}
    return Curve("adapters", list(counts), by_side), errors


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    args = parser.parse_args(arguments)
    sizes, most, cells, steps, rounds = (random_models.TINY, 1, 8, 2, 1) if args.quick else (MID, 3, 32, 5, 9)
    with build(sizes) as sides:
        curve, errors = measure(sides, most, cells, steps, rounds)
    seconds = {side: curve.seconds(side) for side in curve.costs}
    rows = [
        (count, *(f"{times[count] * 1000:.1f}" for times in seconds.values()),
         *(f"{(times[count] / times[0] - 1) * 100:.1f} %" for times in seconds.values()))
        for count in curve.values
    ]  # fmt: skip
    print(table(("Adapters", "ours, ms per step", "diffusers, ms per step", "ours adds", "diffusers adds"), rows))
    save("ip_adapter", {"curve": curve.json(), "errors": errors}, args.results)
    plot("ip_adapter", [curve], args.results)


if __name__ == "__main__":
    main()
