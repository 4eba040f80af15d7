"""Read weight files by what they contain, never by what they are called, and never execute them."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import KolorsError
from .safetensors import expected_size, map_tensors
from .torch_pickle import find_danger

DEPTH = 100  # dots in the name of a part; published files have few
SHARED = 4  # times a file's size that its tensors may take; a tied embedding lies in it once and counts twice
ZIP = b"PK\x03\x04"  # how torch's zipped pickles begin
INDEX = "*.index*.json"  # Hugging Face's lists of a model's shards: .index.json, or .index.fp16.json of a variant

# First bytes of files that people put into a model folder by mistake, and what to say about each.
SIGNATURES = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"RIFF", "a WebP picture or a sound"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer: the download fetched the placeholder instead of the file"),
    (b"<!DOCTYPE", "a web page: the download saved a login or error page instead of the file"),
    (b"<html", "a web page: the download saved a login or error page instead of the file"),
    (b"\x1f\x8b", "a gzip archive"),
)


@dataclass(frozen=True)
class Weights:
    """The tensors of a model by key as they lie in its files.

    tensors: memory-mapped, on the CPU; those of a GGUF file are shapes on the meta device. metadata: the file's own,
    empty for a pickle or shards. files: where each tensor lies.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    files: dict[str, Path]

    def read(self, key: str, rows: slice = slice(None)) -> Tensor:
        """Rows of one tensor, by a mapping of their own that goes when they do, so that its pages leave the memory."""
        path = self.files[key]
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(key)[rows]
        return (_read_torch(path)[key] if head.startswith(ZIP) else self.tensors[key])[rows]


def open_weights(path: str | Path) -> Weights:
    """The tensors of a safetensors file or of a torch pickle (weights only), and how to read one at a time.

    Of a file that an index beside it names as a shard, or of such an index, all shards.
    Raises FileNotFoundError, or KolorsError where the file is empty, cut short, of another kind, or wants to run code.
    """
    path = Path(path)
    shards = find_shards(path)
    parts = {shard: _read_file(shard) for shard in shards or [path]}
    tensors = {key: tensor for part, _ in parts.values() for key, tensor in part.items()}
    files = {key: shard for shard, (part, _) in parts.items() for key in part}
    return Weights(tensors, {} if shards else parts[path][1], files)


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of `open_weights`."""
    weights = open_weights(path)
    return weights.tensors, weights.metadata


def find_shards(path: Path) -> list[Path]:
    """All files of the sharded model that `path` is a part of by a Hugging Face index beside it, or is the index of.

    Empty where there is none. Raises KolorsError where one of them is missing.
    """
    for index in sorted(filter(Path.is_file, path.parent.glob(INDEX))):
        try:
            names = {Path(name).name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
            continue  # not the index of this model, or of no use
        if path.name in names or path == index:
            missing = sorted(name for name in names if not path.with_name(name).is_file())
            if missing:
                raise KolorsError(
                    f"{locate(path)} belongs to a model of {len(names)} files; missing there: {', '.join(missing)}. "
                    "Download the missing files into the same folder, or take a single-file version of the model."
                )
            return [path.with_name(name) for name in sorted(names)]
    return []


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not in {path.parent}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if size < 16:
        raise KolorsError(f"{locate(path)} is empty ({size} bytes). Expected a weight file. Download it again.")
    if head[8:9] == b"{":
        return _read_safetensors(path, size)
    if head.startswith((ZIP, b"\x80")):
        return _read_torch(path), {}
    raise KolorsError(
        f"{locate(path)} is {describe_signature(head)} ({size:,} bytes). Expected a .safetensors file, "
        "or a .bin, .pt or .ckpt file of torch. Put the right file there."
    )


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return map_tensors(path)
    except Exception as error:  # SafetensorError, and whatever torch says of an unknown dtype
        raise KolorsError(
            f"{locate(path)} is a damaged safetensors file of {size:,} bytes{expected_size(path)}. "
            f"Download it again. ({error})"
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        danger = find_danger(path)
    except Exception as error:  # a damaged file is read as whatever it says
        raise KolorsError(f"{locate(path)} is a damaged torch file. Download it again. ({error!r})") from error
    if danger:
        raise KolorsError(f"{locate(path)} {danger}, or use the .safetensors file of the same model.")
    try:
        with path.open("rb") as file:
            misnamed = path.suffix == ".safetensors"  # torch goes by this name, and maps only what it opens itself
            mapped = file.read(len(ZIP)) == ZIP and not misnamed
            file.seek(0)
            content = torch.load(file if misnamed else path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise KolorsError(
            f"{locate(path)} is a pickle that wants to run code or holds more than tensors. It was not executed. "
            "Expected plain weights. Use the .safetensors file of the same model."
        ) from error
    except Exception as error:
        raise KolorsError(f"{locate(path)} is a damaged torch file. Download it again. ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = _flatten(content)
    if not tensors:
        raise KolorsError(f"{locate(path)} is a torch file without weights. Expected a dictionary of tensors.")
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise KolorsError(
                f"{locate(path)} is a torch file in which {key} is sparse, quantized or without values. Expected plain "
                "tensors. Use the .safetensors file of the same model."
            )
    check_size(sum(tensor.nbytes for tensor in tensors.values()), path)
    return tensors


def check_size(needed: int, path: str | Path) -> None:
    """Check that tensors of `needed` bytes can be those of a file, which may repeat some.

    Raises KolorsError where they are so many times larger that reading them is meant to fill the memory.
    """
    size = Path(path).stat().st_size
    if needed > SHARED * size:
        raise KolorsError(
            f"{locate(path)} has {size:,} bytes, but its tensors would take {needed:,}. Expected a file that holds "
            "what its tensors take. Download it again from where the model was published."
        )


def _flatten(content: Any) -> dict[str, Tensor]:
    """The tensors of nested dictionaries, their keys joined by dots: IP-Adapter .bin files hold one per part.

    A dictionary that is in the file once and referred to often, perhaps by itself, is read once.
    """
    tensors: dict[str, Tensor] = {}
    parts, seen = [("", content)], set()
    for prefix, part in parts:
        if not isinstance(part, dict) or id(part) in seen or prefix.count(".") > DEPTH:
            continue
        seen.add(id(part))
        for key, value in part.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{key}"] = value
            elif isinstance(key, str):
                parts.append((f"{prefix}{key}.", value))
    return tensors


def read_config(path: str | Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The model's JSON configuration: ``config`` in the metadata, else ``<stem>.json`` or ``config.json`` beside it."""
    path = Path(path)
    if "config" in metadata:
        return _parse_config(metadata["config"], f"the metadata of {locate(path)}")
    for candidate in (path.with_suffix(".json"), path.with_name("config.json")):
        if candidate.is_file():
            return read_json(candidate)
    return {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file. Raises KolorsError where it holds something else."""
    return _parse_config(path.read_text(encoding="utf-8", errors="replace"), locate(path))


def _parse_config(text: str, source: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KolorsError(
            f"The configuration in {source} is not valid JSON ({error}). Mend it or remove it."
        ) from error
    if not isinstance(config, dict):
        raise KolorsError(f"The configuration in {source} is a {type(config).__name__}. Expected a JSON object.")
    return config


def describe_signature(head: bytes) -> str:
    """Name a file kind by its first bytes."""
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    return "not a weight file"


def locate(path: str | Path) -> str:
    """A file and its folder, for messages."""
    path = Path(path)
    return f"{path.name} in {path.parent}"


def check_tensors(expected: dict[str, Tensor], found: dict[str, Tensor], what: str, path: str | Path) -> None:
    """Check that `found` holds every tensor of `expected` (meta tensors do) in its shape.

    Raises KolorsError with the count and the first names of what is missing or of another shape.
    """
    missing = [key for key in expected if key not in found]
    wrong = [
        f"{key} is {list(found[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    for names, problem in ((missing, "missing"), (wrong, "of the wrong shape")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise KolorsError(
                f"{locate(path)} is an incomplete {what}: {len(names)} of {len(expected)} tensors are {problem} "
                f"({', '.join(names[:3])}{more}). Download it again, or the file that belongs to this model."
            )
