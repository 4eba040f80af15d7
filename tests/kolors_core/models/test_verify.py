"""Whether a file is whole, by its hash and by its structure."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tracemalloc
import zipfile

import pytest
from comfyui_kolors.kolors_core.files.header import read_header, shapes_of
from comfyui_kolors.kolors_core.models import verify
from comfyui_kolors.kolors_core.models.verify import find_fault, hash_of, read_index
from small_models import link, put, safetensors, torch_file

GOOD = safetensors({"a.weight": [32], "b.weight": ("I8", [64])}, metadata={"format": "pt"})
TORCH = torch_file()
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5159140240\n"


def digest(content):
    return hashlib.sha256(content).hexdigest()


def header_of(text, values=b""):
    return struct.pack("<Q", len(text)) + text + values


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", GOOD),
        ("without an ending", GOOD),
        ("a.bin", TORCH),
        ("legacy.pt", b"\x80\x02" + bytes(30)),
        ("a.gguf", b"GGUF" + bytes(30)),
        ("a.onnx", b"\x08\x07" + bytes(30)),
    ],
)
def test_a_whole_file_has_no_fault(tmp_path, name, content):
    path = put(tmp_path / name, content)
    assert find_fault(path) is None
    assert find_fault(path, len(content)) is None
    assert find_fault(path, sha256=digest(content)) is None
    assert find_fault(path, len(content), digest(content)) is None


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.safetensors", b"", "is empty (0 bytes)"),
        ("a.safetensors", bytes(9), "is too short to be a model (9 bytes)"),
        ("a.safetensors", GOOD[:-1], f"is cut short: {len(GOOD) - 1:,} of {len(GOOD):,} bytes"),
        ("a.safetensors", GOOD + b"1", f"is too long: {len(GOOD) + 1:,} bytes instead of {len(GOOD):,}"),
        ("a.safetensors", GOOD[:40], "is cut short or damaged: 40 bytes, and a header of 175"),
        ("a.safetensors", header_of(b'{"a": nothing, "b"}'), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"a": {"data_offsets": [9, 4]}}'), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"a": {"data_offsets": [-9, 4]}}'), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"a": {"data_offsets": "no"}}'), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"a": 7, "b": [1, 2, 3]}'), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"a": ' + b"[" * 9999), "is damaged: its header cannot be read"),
        ("a.safetensors", header_of(b'{"__metadata__": {}}'), "is damaged: it holds no tensors"),
        (
            "a.safetensors",
            PAGE,
            "is a web page: the download saved a login or error page instead of the file",
        ),
        (
            "a.safetensors",
            b"\xef\xbb\xbf\r\n<!doctype HTML>" + b" " * 2000,
            "is a web page: the download saved a login or error page instead of the file",
        ),
        (
            "a.bin",
            b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
            "is an XML page: the download saved an error message instead of the file",
        ),
        ("a.onnx", LFS, "is a Git LFS pointer: the download fetched the placeholder instead of the file"),
        ("a.safetensors", b"Invalid username or password.", 'is a text: "Invalid username or password."'),
        ("a.safetensors", b"Access denied. " * 9, f'is a text: "{("Access denied. " * 9)[:57]}..."'),
        ("a.safetensors", b'{"error": "Entry not found"}', "is not a weight file"),
        ("a.safetensors", b"\x89PNG\r\n\x1a\n" + bytes(30), "is a PNG image"),
        ("a.onnx", bytes(30), "is not a weight file"),
        ("a.safetensors", b"\x08\x07" + bytes(30), "is not a weight file"),
        (
            "a.bin",
            TORCH[:-30],
            "is cut short or damaged: the list of its contents, which comes last, cannot be read",
        ),
        ("a.bin.index.json", b"{", "is not the index of a model"),
        ("a.bin.index.json", b'{"weight_map": {}}', "is not the index of a model"),
        ("a.bin.index.json", b'{"weight_map": {"a": ""}}', "is not the index of a model"),
        ("a.bin.index.json", b'{"weight_map": {"a": "."}}', "is not the index of a model"),
        ("a.bin.index.json", b'{"weight_map": {"a": "b\\u0000"}}', "is not the index of a model"),
        ("a.bin.index.json", b'{"weight_map": {"a": ".."}}', "lacks 1 of its 1 files: .."),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path, name, content, fault):
    assert find_fault(put(tmp_path / name, content)) == fault


def test_an_archive_is_compared_with_what_torch_writes(tmp_path):
    path = tmp_path / "a.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"photographs")
    assert find_fault(path) == "is a ZIP archive without a model in it"
    place = TORCH.index(b"PK\x01\x02", TORCH.index(b"PK\x01\x02") + 1)  # of the second member in the list of contents
    far = TORCH[: place + 42] + struct.pack("<I", len(TORCH)) + TORCH[place + 46 :]
    assert find_fault(put(path, far)) == "is damaged: parts of its contents lie outside of it"
    large = TORCH[: place + 20] + struct.pack("<I", 2_000_000_000) + TORCH[place + 24 :]
    assert find_fault(put(path, large)) == "is damaged: parts of its contents lie outside of it"


def test_a_size_and_a_hash_are_compared(tmp_path):
    path = put(tmp_path / "a.safetensors", GOOD)
    assert find_fault(path, 2000) == f"is cut short: {len(GOOD):,} of 2,000 bytes"
    assert find_fault(path, 5) == f"is too long: {len(GOOD):,} bytes instead of 5"
    expected = f"has another content than published (sha256 {digest(GOOD)[:12]}... instead of 000000000000...)"
    assert find_fault(path, len(GOOD), "0" * 64) == expected
    short = put(tmp_path / "b.safetensors", GOOD[:-1])  # what the structure tells is better than that the hash differs
    assert find_fault(short, sha256="0" * 64) == f"is cut short: {len(GOOD) - 1:,} of {len(GOOD):,} bytes"


def test_a_hash_decides_where_there_is_no_structure(tmp_path):
    path = put(tmp_path / "tokenizer.model", b"\n\x0e\n\x05<unk>" + bytes(99))
    assert find_fault(path, 108, digest(path.read_bytes())) is None
    assert find_fault(path, 108, "0" * 64) == "is not a weight file"


def test_what_is_no_file_or_cannot_be_read(tmp_path):
    assert find_fault(tmp_path / "nothing") == "cannot be read: No such file or directory"
    assert find_fault(tmp_path) == "is not a file"
    link(tmp_path / "link", tmp_path / "nothing")
    assert find_fault(tmp_path / "link") == "is a link to a file that is not there"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert find_fault(tmp_path / "pipe") == "is not a file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path):
    path = put(tmp_path / "a.safetensors", GOOD)
    path.chmod(0)
    assert find_fault(path) == "cannot be read: Permission denied"


def test_the_disk_fails_while_a_file_is_read(tmp_path, monkeypatch):
    def fail(path, advance=None):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verify, "hash_of", fail)
    assert find_fault(put(tmp_path / "a", GOOD), sha256="0" * 64) == "cannot be read: Input/output error"


def test_the_missing_shards_of_an_index_are_named(tmp_path):
    names = [f"model-{number}-of-5.safetensors" for number in range(1, 6)]
    index = {"weight_map": {name: f"elsewhere/../{name}" for name in names}}
    path = put(tmp_path / "model.safetensors.index.json", json.dumps(index).encode())
    for name in names[:2]:
        put(tmp_path / name, GOOD)
    assert find_fault(path) == "lacks 3 of its 5 files: " + ", ".join(names[2:])
    for name in names[2:]:
        put(tmp_path / name, GOOD)
    assert find_fault(path) is None


def test_progress_is_told_and_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "CHUNK", 10)
    steps = []
    path = put(tmp_path / "a", GOOD)
    assert hash_of(path, steps.append) == digest(GOOD) == hash_of(path)
    assert sum(steps) == len(GOOD) and max(steps) == 10
    told = []
    assert find_fault(path, sha256=digest(GOOD), advance=told.append) is None
    assert told == steps


def test_a_damaged_header_asks_for_no_memory(tmp_path):
    """The length says 99 GB, 200 MB, or 50 MB; each in a file that is as long, but takes no room on the disk."""
    tracemalloc.start()
    for length, fault in (
        (99_000_000_000, "is cut short or damaged: 200,000,008 bytes, and a header of 99,000,000,000"),
        (200_000_000, "is damaged: its header cannot be read"),
        (50_000_000, "is damaged: its header cannot be read"),
    ):
        path = put(tmp_path / "a.safetensors", struct.pack("<Q", length) + b'{"a": ')
        os.truncate(path, 200_000_008)
        assert find_fault(path) == fault
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_damaged_archive_asks_for_no_memory(tmp_path):
    """Its list of contents says that it has 900 MB, and so many lie before it."""
    path = put(tmp_path / "a.bin", b"PK\x03\x04")
    os.truncate(path, 1_000_000_000)
    with path.open("ab") as file:
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 900_000_000, 100_000_000, 0))
    tracemalloc.start()
    expected = "is cut short or damaged: the list of its contents, which comes last, cannot be read"
    assert find_fault(path) == expected
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_long_index_is_not_read(tmp_path):
    path = put(tmp_path / "a.bin.index.json", b'{"weight_map": {"a": "b"}}')
    assert read_index(path) == {"a": "b"}
    put(path, path.read_bytes() + b" " * 16_000_000)
    assert read_index(path) == {} == read_index(tmp_path / "nothing")
    assert find_fault(path) == "is not the index of a model"


def test_the_format_allows_no_longer_header(tmp_path):
    path = put(tmp_path / "a.safetensors", struct.pack("<Q", 100_000_001) + b"{")
    os.truncate(path, 100_000_009)
    with pytest.raises(ValueError, match="100,000,001 bytes is longer than 100,000,000"):
        read_header(path)


def test_a_header_tells_shapes_and_dtypes(tmp_path):
    shapes = shapes_of(read_header(put(tmp_path / "a.safetensors", GOOD))[0])
    assert {key: (each.shape, each.dtype) for key, each in shapes.items()} == {
        "a.weight": ((32,), "F16"),
        "b.weight": ((64,), "I8"),
    }
