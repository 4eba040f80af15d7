"""Where the user's files are: the host's model folders, the LLM folder of the earlier packs, and the tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PureWindowsPath

import folder_paths
import numpy
import torch
from torch import Tensor

from ..errors import KolorsError
from ..files import INDEX
from ..files.conditioning import is_conditioning
from ..networks.tokenizer import ChatGLM3Tokenizer

TOKENIZER_FILE = "tokenizer.model"
TOKENIZER_KEY = "spiece_model"  # the host's name for a tokenizer stored among the tensors

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
        source = f" Get {SOURCES[kind]} ({MIRRORS})." if kind in SOURCES else ""
        raise FileNotFoundError(
            f"{name} was not found. It belongs into one of these folders:\n{folders}\n{source.strip()}"
        )
    return path


def fingerprint(kind: str, name: str) -> str:
    """Changes when the file behind a name does: path, time of change and size."""
    return _fingerprint(name, lambda: resolve(kind, name))


def conditioning_fingerprint(name: str) -> str:
    """The same for a conditioning file."""
    return _fingerprint(name, lambda: find_conditioning(name))


def _fingerprint(name: str, find: Callable[[], str | Path]) -> str:
    try:
        path = find()
        status = os.stat(path)
    except OSError:
        return f"{name} missing"
    return f"{path} {status.st_mtime_ns} {status.st_size}"


def find_tokenizer(path: str, embedding_rows: int, stored: Tensor | None = None) -> ChatGLM3Tokenizer:
    """The tokenizer of an encoder: `stored` in its file, beside it, anywhere in text_encoders, or of another pack.

    A damaged one, or one of another vocabulary than the `embedding_rows`, is passed over.
    Raises KolorsError that names the places and says where to get the file.
    """
    if stored is not None and stored.dtype in (torch.uint8, torch.int8):
        return ChatGLM3Tokenizer(stored.cpu().numpy().astype(numpy.uint8).tobytes(), f"{TOKENIZER_KEY} in {path}")
    passed_over = []
    for candidate in dict.fromkeys(_tokenizer_candidates(Path(path).parent)):
        try:
            tokenizer = ChatGLM3Tokenizer.from_file(candidate)
        except KolorsError:
            passed_over.append(f"{candidate} (damaged)")
            continue
        if tokenizer.fits(embedding_rows):
            return tokenizer
        passed_over.append(f"{candidate} ({tokenizer.vocab_size:,} tokens, the encoder has {embedding_rows:,})")
    found = f" Found, but of no use: {'; '.join(passed_over)}." if passed_over else ""
    raise KolorsError(
        f"No tokenizer for {path}.{found} Put {TOKENIZER_FILE} (1,018,370 bytes) beside it, or anywhere in "
        f"{folder_paths.get_folder_paths('text_encoders')[0]}. Get {SOURCES['tokenizer']} ({MIRRORS})."
    )


def _tokenizer_candidates(folder: Path) -> Iterator[Path]:
    if (folder / TOKENIZER_FILE).is_file():
        yield folder / TOKENIZER_FILE
    for root in folder_paths.get_folder_paths("text_encoders"):
        files, _ = folder_paths.recursive_search(root, [".git"]) if os.path.isdir(root) else ([], {})
        yield from (Path(root, file) for file in sorted(files) if os.path.basename(file) == TOKENIZER_FILE)
    for root in folder_paths.get_folder_paths("custom_nodes"):
        yield from sorted(Path(root).glob(f"*/configs/tokenizer/{TOKENIZER_FILE}"))


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


def next_conditioning(prefix: str) -> Path:
    """A path in the output folder for one more conditioning file: ``<prefix>_00001_.safetensors``.

    Raises KolorsError where the prefix leads out of that folder.
    """
    output = folder_paths.get_output_directory()
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    except Exception as error:  # the host's own refusal has no type
        raise KolorsError(
            f"The file name {prefix} leads out of {output} or cannot be a path. Expected a name, with folders if you "
            "like, inside of it, such as conditioning/kolors."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_.safetensors"


def list_conditionings() -> list[str]:
    """Names of the conditioning files of the input folder, and of the output folder with the host's mark for it."""
    names = []
    for folder, mark in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), " [output]")):
        files, _ = folder_paths.recursive_search(folder, [".git"]) if os.path.isdir(folder) else ([], {})
        ours = (file for file in files if file.endswith(".safetensors") and is_conditioning(Path(folder, file)))
        names += sorted(file + mark for file in ours)
    return names


def find_conditioning(name: str) -> Path:
    """The path behind a name of `list_conditionings`.

    Raises FileNotFoundError that says where it was looked for; so does a name that leads out of these folders.
    """
    given = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    leads_out = bool(given.anchor) or ".." in given.parts
    if leads_out or not folder_paths.exists_annotated_filepath(name):
        raise FileNotFoundError(
            f"{name} was not found in {folder_paths.get_input_directory()} or {folder_paths.get_output_directory()}. "
            "Save a conditioning with 'Save Kolors Conditioning', or copy the file there."
        )
    return Path(folder_paths.get_annotated_filepath(name))
