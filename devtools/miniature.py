"""The small trained Kolors: what the nodes call it, and its vision encoder in the size that ComfyUI's loader knows."""

from __future__ import annotations

import hashlib

from . import places
from .places import Setup
from .process import run_logged
from .progress import Progress, SetupError, Step, digest

# The package lists its files in demo/models, as one checkpoint and one by one.
DEMO_CHECKPOINT = "kolors-demo"
DEMO_ADAPTER = "kolors-demo/ip_adapter/kolors-demo-ip-adapter.safetensors"
DEMO_TOWER = "kolors-demo-clip-vision.pt"
SMALL_TOWER = "demo/models/kolors-demo/image_encoder/kolors-demo-clip-vision.safetensors"  # narrower than any known


def make_tower(setup: Setup, progress: Progress) -> None:
    """Writes the miniature's vision encoder into the models folder."""
    script, small = places.ROOT / "demo" / "expand_clip_vision.py", places.ROOT / SMALL_TOWER
    models = setup.base / "models"
    tower, stamp = models / "clip_vision" / DEMO_TOWER, models / ".demo-stamp"
    for file in (script, small):
        if not file.is_file():
            raise SetupError(f"{file} is missing; the demo needs it. Restore it from the repository.")
    if not tower.is_file():
        stamp.unlink(missing_ok=True)

    def work(step: Step) -> None:
        todo = "This is a fault of this pack; please report it."
        run_logged(step, [setup.python, script, tower], places.LOGS / "models.log", todo)

    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (script, small)]
    progress.once("Demo model", stamp, digest(hashes), work)
