"""Where the user's model files are: the host's folders, and the LLM folder of the earlier packs."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import folder_paths

from ..files.weights import INDEX

#: Where each kind of file can be had; printed when one is missing. Nothing is ever downloaded.
SOURCES = {
    "diffusion_models": "unet/diffusion_pytorch_model.fp16.safetensors of Kwai-Kolors/Kolors-diffusers",
    "text_encoders": "chatglm3-fp16.safetensors of Kijai/ChatGLM3-safetensors",
    "ipadapter": "ip_adapter_plus_general.bin of Kwai-Kolors/Kolors-IP-Adapter-Plus, "
    "or ipa-faceid-plus.bin of Kwai-Kolors/Kolors-IP-Adapter-FaceID-Plus",
    "controlnet": "diffusion_pytorch_model.safetensors of Kwai-Kolors/Kolors-ControlNet-Canny, -Depth or -Pose",
    "tokenizer": "text_encoder/tokenizer.model of Kwai-Kolors/Kolors",
}
MIRRORS = "huggingface.co, hf-mirror.com or modelscope.cn"


def where_to_get(kind: str) -> str:
    """A sentence that says where a kind of file can be had; empty for a kind that can be had anywhere."""
    return f"Get {SOURCES[kind]} ({MIRRORS})." if kind in SOURCES else ""


def register() -> None:
    """Tell the host of models/ipadapter, which it does not know by itself."""
    folder_paths.add_model_folder_path("ipadapter", os.path.join(folder_paths.models_dir, "ipadapter"))


def list_files(kind: str) -> list[str]:
    """Names of the weight files of a kind, as the node's dropdown shows them."""
    names = folder_paths.get_filename_list(kind)
    if kind == "ipadapter":  # the host lists every file of a kind that it does not know by itself
        names = folder_paths.filter_files_extensions(names, folder_paths.supported_pt_extensions)
    if kind == "text_encoders":
        names = sorted({*names, *_list_encoders()})
    return names


def resolve(kind: str, name: str) -> str:
    """The path behind a dropdown's name.

    Raises FileNotFoundError that says where the file belongs and where to get it.
    """
    path = folder_paths.get_full_path(kind, name)
    if path is None and kind == "text_encoders" and name in _list_encoders():
        path = next((str(folder / name) for folder in _encoder_folders() if (folder / name).is_file()), None)
    if path is None:
        folders = "\n".join(map(str, folder_paths.get_folder_paths(kind)))
        raise FileNotFoundError(
            f"{name} was not found. Put it in one of these folders:\n{folders}\n{where_to_get(kind)}"
        )
    return path


def fingerprint(kind: str, name: str) -> str:
    """Changes when the file behind a name does: path, time of change and size."""
    return describe_state(name, lambda: resolve(kind, name))


def describe_state(name: str, find: Callable[[], str | Path]) -> str:
    """The same for a file that `find` finds, or does not."""
    try:
        path = find()
        status = os.stat(path)
    except OSError:
        return f"{name} missing"
    return f"{path} {status.st_mtime_ns} {status.st_size}"


def _llm_folders() -> list[Path]:
    """models/LLM, where the earlier packs kept the encoder, as far as it exists."""
    known = folder_paths.get_folder_paths("LLM") if "LLM" in folder_paths.folder_names_and_paths else []
    folders = [Path(folder) for folder in (*known, os.path.join(folder_paths.models_dir, "LLM"))]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _encoder_folders() -> list[Path]:
    return [*map(Path, folder_paths.get_folder_paths("text_encoders")), *_llm_folders()]


def _list_encoders() -> set[str]:
    """What the host does not list by itself: indices of shards, GGUF files, and everything in models/LLM."""
    names = set()
    for folder in filter(Path.is_dir, _encoder_folders()):
        files, _ = folder_paths.recursive_search(str(folder), [".git"])
        names |= {file for file in files if fnmatch(file, INDEX) or file.endswith(".gguf")}
        if folder in _llm_folders():
            names |= set(folder_paths.filter_files_extensions(files, folder_paths.supported_pt_extensions))
    return names
