"""The small trained Kolors: its files in the repository, and where ComfyUI looks for them."""

from __future__ import annotations

import hashlib
import shutil

from . import places
from .places import Setup
from .process import run_logged
from .progress import Progress, SetupError, Step, digest

# The trained miniature, by its folders under models/. The tower in demo/models is narrower than ComfyUI's loader knows.
DEMO_FILES = places.ROOT / "demo" / "models"
DEMO_MODELS = {
    "diffusion_models": "kolors-demo-unet.safetensors",
    "text_encoders": "kolors-demo-chatglm3.safetensors",
    "vae": "kolors-demo-vae.safetensors",
    "ipadapter": "kolors-demo-ip-adapter.safetensors",
    "clip_vision": "kolors-demo-clip-vision.pt",
}
DEMO_TOWER = "kolors-demo-clip-vision.safetensors"


def make_models(setup: Setup, progress: Progress) -> None:
    """Copies the trained miniature into the models folder, the vision tower in the size that ComfyUI's loader knows."""
    script, small, models = (
        places.ROOT / "demo" / "expand_clip_vision.py",
        DEMO_FILES / DEMO_TOWER,
        setup.base / "models",
    )
    targets = {kind: models / kind / name for kind, name in DEMO_MODELS.items()}
    tower = targets.pop("clip_vision")
    copies = {DEMO_FILES / target.name: target for target in targets.values()}
    for file in (script, small, *copies):
        if not file.is_file():
            raise SetupError(f"{file} is missing; the demo needs it. Restore it from the repository.")
    stamp = models / ".demo-stamp"
    if not all(target.is_file() for target in (tower, *copies.values())):
        stamp.unlink(missing_ok=True)

    def work(step: Step) -> None:
        for source, target in copies.items():
            shutil.copyfile(source, target)
        todo = "This is a fault of this pack; please report it."
        run_logged(step, [setup.python, script, small, tower], places.LOGS / "models.log", todo)

    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (script, small, *copies)]
    progress.once("Demo models", stamp, digest(hashes), work)
