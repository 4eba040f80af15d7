"""The folders around the host: its base directory, with this pack linked into it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from . import places
from .places import MODEL_FOLDERS, PACK_NAME, Setup
from .progress import Progress, SetupError


def make_base(progress: Progress, base: Path | None = None) -> Path:
    """ComfyUI's base directory, with this pack linked into its custom_nodes; that of all commands, or another."""
    base = base or places.DEV / "base"
    with progress.step("Folders") as step:
        for name in ["custom_nodes", "input", "output", "user", "temp", *(f"models/{kind}" for kind in MODEL_FOLDERS)]:
            (base / name).mkdir(parents=True, exist_ok=True)
        link_pack(base / "custom_nodes" / PACK_NAME, places.ROOT)
        step.outcome = "in place"
    return base


def link_pack(link: Path, target: Path) -> None:
    """Makes `link` lead to `target`. The link lies inside its own target, so nothing may walk into it recursively."""
    if link.exists() and link.samefile(target):
        return
    if os.path.lexists(link):
        try:
            link.unlink() if link.is_symlink() else link.rmdir()  # rmdir takes a Windows junction, but no full folder
        except OSError as error:
            raise SetupError(f"{link} should link to {target} ({error}). Move it away and run this again.") from None
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        # Windows without the privilege to make symbolic links: a directory junction
        subprocess.run(["cmd", "/c", "mklink", "/J", link, target], check=True, stdout=subprocess.DEVNULL)


def skip_tutorial(setup: Setup) -> None:
    """Where the front end has no settings yet: keeps its browser of templates from covering the first workflow."""
    settings = setup.base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")


def model_paths_yaml(folder: Path) -> str:
    """ComfyUI's configuration of one more root with its usual folder names. A JSON string is a YAML string as well."""
    lines = [f"  {kind}: {kind}" for kind in MODEL_FOLDERS]
    return "\n".join(["extra:", f"  base_path: {json.dumps(str(folder), ensure_ascii=False)}", *lines, ""])
