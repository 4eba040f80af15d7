"""The tensors of a model, whatever they lie in: read by what a file contains, never by its name, never executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import BadFile, naming, shorten
from .header import INDEX, SAFETENSORS, SMALLEST, TORCH, describe_signature, read_index
from .safetensors import read_safetensors
from .torch_pickle import read_torch

ALL = slice(None)  # rows of a tensor


@dataclass(frozen=True)
class Weights:
    """The tensors of a model by key.

    tensors: memory-mapped, on the CPU; those of a GGUF file are shapes on the meta device.
    metadata: the file's own; empty for a pickle or shards.
    read_rows: rows of one tensor as values of their own, which leave the memory when they go.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    read_rows: Callable[[str, slice], Tensor]

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Weights:
        """Of tensors that are in memory already."""
        return cls(tensors, {}, lambda key, rows: tensors[key][rows])

    def read(self, key: str, rows: slice = ALL) -> Tensor:
        """Rows of one tensor."""
        return self.read_rows(key, rows)

    def rename(self, names: Mapping[str, str], defaults: dict[str, Tensor] | None = None) -> Weights:
        """Some of the tensors under other names, `names` by new name, and `defaults` for what is not among them."""
        renamed = Weights.of((defaults or {}) | {new: self.tensors[old] for new, old in names.items()})

        def read_rows(key: str, rows: slice) -> Tensor:
            return self.read(names[key], rows) if key in names else renamed.tensors[key][rows]

        return Weights(renamed.tensors, self.metadata, read_rows)


def open_weights(path: str | Path) -> Weights:
    """The tensors of a safetensors file or of a torch pickle (weights only).

    If `path` is a shard that an index beside it lists, or is that index, all shards are read.
    Raises FileNotFoundError, or KolorsError where the file is empty, cut short, of another kind, or wants to run code.
    """
    path = Path(path)
    with naming(path):
        shards = find_shards(path)
    if not shards:
        return open_file(path)
    owners = {key: part for part in map(open_file, shards) for key in part.tensors}
    tensors = {key: part.tensors[key] for key, part in owners.items()}
    return Weights(tensors, {}, lambda key, rows: owners[key].read(key, rows))


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of `open_weights`."""
    weights = open_weights(path)
    return weights.tensors, weights.metadata


def find_shards(path: Path) -> list[Path]:
    """All files of the sharded model that `path` is a part of by a Hugging Face index beside it, or is the index of.

    Empty where there is none. Raises BadFile where one of them is missing.
    """
    for index in sorted(filter(Path.is_file, path.parent.glob(INDEX))):
        names = set(read_index(index).values())
        if names and (path.name in names or path == index):
            missing = sorted(name for name in names if not path.with_name(name).is_file())
            if missing:
                raise BadFile(
                    f"belongs to a model of {len(names)} files; missing there: {', '.join(missing)}. "
                    "Download the missing files into the same folder, or take a single-file version of the model."
                )
            return [path.with_name(name) for name in sorted(names)]
    return []


def open_file(path: Path) -> Weights:
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not in {path.parent}.")
    with naming(path):
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
        if size < SMALLEST:
            raise BadFile(f"is empty ({size} bytes). Expected a weight file. Download it again.")
        if SAFETENSORS.match(head):
            return Weights(*read_safetensors(path))
        if TORCH.match(head):
            return Weights(*read_torch(path))
        raise BadFile(
            f"is {describe_signature(head)} ({size:,} bytes). Expected a .safetensors file, "
            "or a .bin, .pt or .ckpt file of torch. Put the right file there."
        )


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Check that `found` holds every tensor of `expected` (meta tensors do) in its shape.

    Raises BadFile with the count and the first names of what is missing or of another shape.
    """
    missing = [key for key in expected if key not in found]
    wrong = [
        f"{key} is {list(found[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    for names, problem in ((missing, "missing"), (wrong, "of the wrong shape")):
        if names:
            raise BadFile(
                f"is an incomplete {what}: {len(names)} of {len(expected)} tensors are {problem} "
                f"({shorten(names)}). Download it again, or the file that belongs to this model."
            )
