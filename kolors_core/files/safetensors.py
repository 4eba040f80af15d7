"""Map the tensors of a safetensors file without reading one of them; and write one whole or not at all.

The library checks the file. Its own tensors are mapped too, but making one reads its first value, and with it a page of
every tensor from the disk, spread over the whole file. Source: the format's description in its repository.
"""

# What safe_open gives has no types, and torch's storages have few.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import BadFile
from .header import expected_size, read_header

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str], Callable[[str, slice], Tensor]]:
    """The tensors, mapped, the metadata, and a function that reads rows by a mapping of their own.

    Raises BadFile where the file is damaged.
    """
    try:
        tensors, metadata = map_tensors(path)
    except Exception as error:  # SafetensorError, and whatever torch says of an unknown dtype
        raise BadFile(
            f"is a damaged safetensors file of {path.stat().st_size:,} bytes{expected_size(path)}. "
            f"Download it again. ({error})"
        ) from error

    def read_rows(key: str, rows: slice) -> Tensor:
        with safe_open(path, framework="pt") as file:  # a mapping that goes with the rows: its pages leave the memory
            return file.get_tensor(key)[rows]

    return tensors, metadata, read_rows


def map_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by key, memory-mapped on the CPU, and the metadata. What is written to them stays in this process.

    Raises SafetensorError where the file is damaged, and another error where torch does not know a dtype.
    """
    with safe_open(path, framework="pt") as file:
        header, start = read_header(path)
        content: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)
        tensors: dict[str, Tensor] = {}
        for key in file.keys():  # noqa: SIM118 - the handle itself cannot be iterated
            dtype, shape = DTYPES.get(header[key]["dtype"]), header[key]["shape"]
            if dtype is None:
                tensors[key] = file.get_tensor(key)
            else:
                first, end = (start + offset for offset in header[key]["data_offsets"])
                tensors[key] = torch.empty(0, dtype=dtype).set_(content[first:end]).view(shape)
        return tensors, file.metadata() or {}


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, partial, metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
