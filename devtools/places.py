"""Where things are: the repository, what is made in `.dev/`, and what a finished set-up consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".dev"
LOGS = DEV / "logs"
PACK_NAME = "comfyui-kolors"
MODEL_FOLDERS = ["diffusion_models", "text_encoders", "vae", "checkpoints"]
MODEL_FOLDERS += ["controlnet", "ipadapter", "clip_vision", "loras"]


@dataclass(frozen=True)
class Setup:
    """Where everything is once the set-up is done."""

    python: Path
    comfyui: Path
    base: Path
    pack: Path = ROOT
