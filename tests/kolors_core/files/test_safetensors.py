"""Tensors mapped from a safetensors file: all dtypes and shapes, and not a page of them touched."""

import json
import struct
import sys
from pathlib import Path

import pytest
import torch
from comfyui_kolors.kolors_core.files.safetensors import DTYPES, map_tensors
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def write(path, header: dict, values: bytes, padding: str = "") -> None:
    """A file by hand, since the library aligns what it writes."""
    text = (json.dumps(header) + padding).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_tensors_equal_the_librarys(tmp_path, dtype):
    tensors = {
        "matrix": torch.arange(12).reshape(3, 4).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "none": torch.empty(0, 4, dtype=dtype),
        "one": torch.zeros(1, 1, 1).to(dtype),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"by": "test"})
    found, metadata = map_tensors(tmp_path / "a.safetensors")
    assert metadata == {"by": "test"}
    assert found.keys() == tensors.keys()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        for key, tensor in found.items():
            expected = file.get_tensor(key)
            assert (tensor.dtype, tensor.shape, tensor.stride()) == (dtype, expected.shape, expected.stride())
            assert torch.equal(tensor.float(), expected.float())


@pytest.mark.parametrize("padding", range(8))
def test_values_may_start_at_any_byte(tmp_path, padding):
    values = torch.arange(5.0)
    header = {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}
    write(tmp_path / "a.safetensors", header, values.numpy().tobytes(), " " * padding)
    (found,) = map_tensors(tmp_path / "a.safetensors")[0].values()
    assert torch.equal(found, values)
    assert torch.equal(found @ found, values @ values)


def test_what_the_library_alone_knows_is_left_to_it(tmp_path):
    """A dtype of a later format: read by the library, whatever it makes of it."""
    header = {"a": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}
    write(tmp_path / "a.safetensors", header, bytes((127, 128)))
    (found,) = map_tensors(tmp_path / "a.safetensors")[0].values()
    assert found.dtype == torch.float8_e8m0fnu
    assert found.float().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("offsets", [[0, 16], [4, 24], [-4, 16], [0, 24]])
def test_offsets_that_do_not_fit_are_refused_by_the_library(tmp_path, offsets):
    header = {"a": {"dtype": "F32", "shape": [5], "data_offsets": offsets}}
    write(tmp_path / "a.safetensors", header, bytes(20))
    with pytest.raises(SafetensorError):
        map_tensors(tmp_path / "a.safetensors")


def test_the_file_keeps_what_it_has_and_can_be_written_anew(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4), "b": torch.zeros(4)}, path)
    content = path.read_bytes()
    found, _ = map_tensors(path)
    found["a"].mul_(7)
    assert found["a"].tolist() == [7.0] * 4
    assert found["b"].tolist() == [0.0] * 4
    assert path.read_bytes() == content
    save_file(found, tmp_path / "b.safetensors")  # as tensors of their own, though one mapping holds them
    assert (tmp_path / "b.safetensors").stat().st_size == len(content)
    assert torch.equal(map_tensors(tmp_path / "b.safetensors")[0]["a"], found["a"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which pages of a file a process has in RAM")
def test_mapping_touches_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({str(i): torch.ones(1 << 18) for i in range(32)}, path)
    found, _ = map_tensors(path)
    assert resident(path) <= 256  # the library's own look at the header
    found["7"].sum()
    assert 1024 <= resident(path) < 4096  # of 32 MiB


def resident(path: Path) -> int:
    """KiB of a mapped file that this process has in RAM."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total
