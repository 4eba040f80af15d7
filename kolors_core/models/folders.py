"""The folders in which a ComfyUI looks for models, without ComfyUI.

Source: ComfyUI's ``folder_paths.py`` and ``utils/extra_config.py`` for the folders of a kind, and for what
``extra_model_paths.yaml`` adds to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import KolorsError

#: Folders below models/ by kind; the first is where a new file goes.
KINDS = {
    "diffusion_models": ("diffusion_models", "unet"),
    "text_encoders": ("text_encoders", "clip", "LLM"),
    "checkpoints": ("checkpoints",),
    "diffusers": ("diffusers",),
    "vae": ("vae",),
    "vae_approx": ("vae_approx",),
    "clip_vision": ("clip_vision",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "ipadapter": ("ipadapter",),
    "loras": ("loras",),
    "insightface": ("insightface",),
}
#: Older names of kinds.
LEGACY = {name: kind for kind, names in KINDS.items() for name in names if name != kind}
MODELS, NODES = "models", "custom_nodes"
EXTRA = "extra_model_paths.yaml"
PACKAGE = Path(__file__).absolute().parents[2]


def find_root(given: Path | None) -> Path:
    """The folder that has models/ in it, or the models folder itself where it has another name.

    given: ComfyUI's folder, its models folder, or a --base-directory; without it, the ComfyUI that this package is
    installed in. Raises KolorsError where there is none.
    """
    if given is None:
        if PACKAGE.parent.name == NODES and _is_root(PACKAGE.parents[1]):
            return PACKAGE.parents[1]
        raise KolorsError(
            f"{PACKAGE} is not in the custom_nodes folder of a ComfyUI. Give ComfyUI's folder, or its models folder."
        )
    root = given.expanduser().absolute()
    if not root.is_dir():
        raise KolorsError(f"{root} is no folder. Give ComfyUI's folder, or its models folder.")
    if root.name == MODELS and not (root / MODELS).is_dir():
        return root.parent
    if _is_root(root) or any((root / name).is_dir() for names in KINDS.values() for name in names):
        return root
    raise KolorsError(
        f"{root} is neither ComfyUI's folder nor a folder of models: it has no folder {MODELS}, and none of "
        "diffusion_models, text_encoders, vae, checkpoints. Give ComfyUI's folder, or its models folder."
    )


def _is_root(folder: Path) -> bool:
    return (folder / MODELS).is_dir() or (folder / "folder_paths.py").is_file()


def models_folder(root: Path) -> Path:
    """The models folder of what `find_root` found."""
    alone = not _is_root(root) and any((root / name).is_dir() for names in KINDS.values() for name in names)
    return root if alone else root / MODELS


def folders(root: Path, notes: list[str] | None = None) -> dict[str, list[Path]]:
    """The folders of each kind, whether they exist or not, in the order in which ComfyUI looks; custom_nodes as well.

    notes: gets a sentence where extra_model_paths.yaml is there and cannot be read.
    """
    models = models_folder(root)
    found = {kind: [models / name for name in names] for kind, names in KINDS.items()}
    found[NODES] = [root / NODES]
    for kind, folder, first in _read_extra(root / EXTRA, [] if notes is None else notes):
        known = found.setdefault(kind, [])
        if folder not in known:
            known.insert(0 if first else len(known), folder)
    return found


def _read_extra(path: Path, notes: list[str]) -> list[tuple[str, Path, bool]]:
    """Kind, folder, and whether it comes first, of each line that the user added."""
    if not path.is_file():
        return []
    try:
        import yaml
    except ImportError:
        notes.append(f"{EXTRA} was not read: this Python has no PyYAML. Use the Python that runs ComfyUI.")
        return []
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [each for section in (content or {}).values() for each in _of_section(section or {}, path.parent)]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        notes.append(f"{EXTRA} was not read: {' '.join(str(error).split())[:200]}.")
        return []


def _of_section(section: dict[str, Any], beside: Path) -> Iterator[tuple[str, Path, bool]]:
    base = beside / os.path.expandvars(os.path.expanduser(section.get("base_path") or ""))
    for name, lines in section.items():
        if name in ("base_path", "is_default"):
            continue
        for line in filter(str.strip, lines.split("\n")):
            folder = Path(os.path.normpath(base / line.strip()))
            yield LEGACY.get(name, name), folder, bool(section.get("is_default"))


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted in each of its folders, each folder once however many links lead there.

    A folder is met in its own place before a link to it. What begins with a dot, or cannot be read, is left out.
    """
    plain, linked, seen = [folder], list[Path](), set[str]()
    while plain or linked:
        current = plain.pop() if plain else linked.pop(0)
        try:
            real = os.path.realpath(current)
            entries = sorted((entry for entry in os.scandir(current) if entry.name[0] != "."), key=lambda e: e.name)
        except (OSError, ValueError):
            continue
        if real in seen:
            continue
        seen.add(real)
        for entry in entries:
            if not os.path.isdir(entry):
                yield Path(entry.path)
        inner = [entry for entry in entries if os.path.isdir(entry)]
        linked += [Path(entry.path) for entry in inner if entry.is_symlink()]
        plain += [Path(entry.path) for entry in reversed(inner) if not entry.is_symlink()]
