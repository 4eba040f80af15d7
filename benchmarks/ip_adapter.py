"""What an IP-Adapter costs per step, beside diffusers' own: `python3 dev.py bench ip_adapter`.

Guided sampling at 256 x 256 pixels with the mid-size random model, float32 on the CPU, two threads: none, one and two
adapters, ours in the host's sampling stack and diffusers' pipeline, in turn. The overhead is what the adapters add.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import conftest  # noqa: F401 - makes the pack and the host importable
import torch

STEPS = 5
CELLS = 32  # latent cells along a side
ADAPTERS = (0, 1, 2)


@torch.no_grad()
def measure() -> dict[str, dict[int, float]]:
    """Seconds per step by side and number of adapters."""
    import sampling_runs
    from _timing import alternate
    from comfyui_kolors.demo.random_models import MID, random_ip_adapter, random_unet
    from comfyui_kolors.kolors_core.host import ip_adapter, loaders, sampling, unet
    from comfyui_kolors.kolors_core.vision import to_pil
    from image_prompts import TOWER, host_tower, picture, reference_pipeline, theirs
    from reference import build_pipeline, build_scheduler
    from safetensors.torch import save_file

    unet.register()
    sampling_runs.TINY = MID  # the width of its prompts
    image = picture()
    reference = random_unet(MID)
    weights = [random_ip_adapter(MID, TOWER["hidden_size"], seed=seed) for seed in range(max(ADAPTERS))]
    models, pipes, options = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        save_file(reference.state_dict(), Path(folder) / "unet.safetensors")
        tower = host_tower(Path(folder))
        adapters = []
        for index, state_dict in enumerate(weights):
            save_file(state_dict, Path(folder) / f"{index}.safetensors")
            adapters.append(ip_adapter.load_ip_adapter(Path(folder) / f"{index}.safetensors"))
        model = loaders.load_unet(Path(folder) / "unet.safetensors")
        for count in ADAPTERS:
            models[count] = model
            for adapter in adapters[:count]:
                tokens = ip_adapter.encode_images(adapter, tower, image)
                models[count] = ip_adapter.apply(models[count], adapter, tokens, 0.5, 0.0, 1.0)
            pipes[count] = reference_pipeline(reference, weights[:count]) if count else None
    pipes[0] = build_pipeline(reference, build_scheduler("euler"))
    pipes[0].set_ip_adapter_scale = lambda scale: None
    for count in ADAPTERS[1:]:
        # Encoded beforehand: this is about steps.
        pictures = [[to_pil(image[0])]] * count
        embeds = pipes[count].prepare_ip_adapter_image_embeds(pictures, None, "cpu", 1, True)
        options[count] = {"ip_adapter_image_embeds": embeds}
    shape, size = (1, 4, CELLS, CELLS), (8 * CELLS, 8 * CELLS)

    def ours_run(count):
        return lambda: sampling_runs.ours(sampling, models[count], "euler", STEPS, shape=shape)

    def theirs_run(count):
        return lambda: theirs(pipes[count], [0.5] * count, steps=STEPS, size=size, **options.get(count, {}))

    runs = {("ours", count): ours_run(count) for count in ADAPTERS}
    runs |= {("diffusers", count): theirs_run(count) for count in ADAPTERS}
    seconds = alternate(runs)
    return {side: {count: seconds[side, count] / STEPS for count in ADAPTERS} for side in ("ours", "diffusers")}


def print_table(seconds: dict[str, dict[int, float]]) -> None:
    print("| Adapters | ours, ms per step | diffusers, ms per step | ours adds | diffusers adds |")
    print("|---|---|---|---|---|")
    for count in ADAPTERS:
        ours, theirs = (seconds[side][count] * 1000 for side in ("ours", "diffusers"))
        added = [f"{(seconds[side][count] / seconds[side][0] - 1) * 100:.1f} %" for side in ("ours", "diffusers")]
        print(f"| {count} | {ours:.1f} | {theirs:.1f} | {added[0]} | {added[1]} |")


if __name__ == "__main__":
    print_table(measure())
