"""How close to diffusers: `python3 dev.py bench parity`.

Final latents of the sampler bridge and of diffusers' Kolors pipelines from the same first noise, on small random
models, as relative L2 errors, on the CPU in float32. Writes the table between the markers in docs/parity.md
and docs/zh/parity.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401 - makes the pack and the host importable

BEGIN, END = "<!-- parity table -->", "<!-- /parity table -->"
HEADINGS = {
    "docs/parity.md": ("Preset", "10 steps, cfg 5", "25 steps, cfg 6.5", "Image to image, 25 steps at 0.6"),
    "docs/zh/parity.md": ("预设", "10 步，cfg 5", "25 步，cfg 6.5", "图生图，25 步，强度 0.6"),
}


def measure_parity() -> dict[str, list[float]]:
    """Relative L2 error of the final latents per preset: two runs from noise, one from a picture."""
    import loaders
    import torch
    from comfyui_kolors.demo.random_models import TINY, random_unet
    from comfyui_kolors.kolors_core.host import sampling, unet
    from reference import relative_error
    from safetensors.torch import save_file
    from sampling_runs import ours, theirs

    unet.register()
    reference = random_unet(TINY)
    with tempfile.TemporaryDirectory() as folder:
        save_file(reference.state_dict(), Path(folder) / "unet.safetensors")
        model = loaders.load_unet(Path(folder) / "unet.safetensors")
    image = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5)) * 0.5
    runs = (
        {"steps": 10, "cfg": 5.0},
        {"steps": 25, "cfg": 6.5},
        {"steps": 25, "cfg": 5.0, "denoise": 0.6, "image": image},
    )
    return {
        preset: [relative_error(ours(sampling, model, preset, **run), theirs(reference, preset, **run)) for run in runs]
        for preset in sampling.SOLVERS
    }


def write_table(errors: dict[str, list[float]]) -> None:
    """Print the table, and put it between the markers of each page."""
    for name, headings in HEADINGS.items():
        rows = [headings, ("---",) * len(headings)]
        rows += [(f"`{preset}`", *(f"{error:.1e}" for error in values)) for preset, values in errors.items()]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
        print(f"{name}:\n{table}\n")


if __name__ == "__main__":
    write_table(measure_parity())
