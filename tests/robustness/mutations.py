"""Ways in which a file can be damaged, each from a seeded generator; bytes in, bytes out.

Of any file's bytes, of a safetensors header, of the tensors before they are written, and of the JSON beside them; then
pickles that are meant to do harm, and paths that lead to no file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

Tensors = dict[str, Tensor]
Mutation = Callable[[bytes, Random], bytes]

HUGE = (1 << 63, (1 << 64) - 1, 1 << 40, 100_000_001)
STRANGE_NAMES = ("", " ", "a b", "模型", "🍎", "../escape", "a\u0000b", "x" * 5000, "__metadata__")
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "X9", "")


# ---- bytes ----------------------------------------------------------------------------------------------------------


def truncate(data: bytes, random: Random) -> bytes:
    """Cut anywhere, and often in the header or just before the end."""
    ends = [0, 1, 7, 8, 9, 15, 16, 64, len(data) - 1, len(data) - 4, random.randrange(len(data))]
    return data[: random.choice([*ends, random.randrange(1, min(len(data), 4096))])]


def flip_bytes(data: bytes, random: Random) -> bytes:
    """Change one to eight bytes among the first 4096, where headers lie."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(min(len(changed), 4096))] = random.randrange(256)
    return bytes(changed)


def flip_far_bytes(data: bytes, random: Random) -> bytes:
    """Change bytes anywhere: weights, or the directory at the end of a zip."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 64)):
        place = random.randrange(len(changed)) if random.random() < 0.5 else -1 - random.randrange(min(len(data), 2048))
        changed[place] = random.randrange(256)
    return bytes(changed)


def append_bytes(data: bytes, random: Random) -> bytes:
    return data + random.randbytes(random.choice([1, 8, 4096]))


def replace_with_noise(data: bytes, random: Random) -> bytes:
    return random.choice([b"", b"\x80\x02", b"PK\x03\x04", b"\x08\0\0\0\0\0\0\0{}      "]) + random.randbytes(200)


# ---- the safetensors header -----------------------------------------------------------------------------------------


def resize_header(data: bytes, random: Random) -> bytes:
    """Another length of the header than it has."""
    (length,) = struct.unpack("<Q", data[:8])
    wrong = random.choice([*HUGE, 0, 1, length - 1, length + 1, length + 8, len(data), len(data) - 8])
    return struct.pack("<Q", max(0, wrong)) + data[8:]


def edit_header(change: Callable[[dict[str, Any], str, Random], None]) -> Mutation:
    """A mutation that edits the entry of one tensor, or the header around it."""

    def mutate(data: bytes, random: Random) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        names = [name for name in header if name != "__metadata__"]
        change(header, random.choice(names), random)
        return with_header(json.dumps(header).encode(), data[8 + length :])

    mutate.__name__ = change.__name__
    return mutate


def with_header(header: bytes, body: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body


@edit_header
def change_dtype(header, name, random):
    header[name]["dtype"] = random.choice(DTYPES)


@edit_header
def change_shape(header, name, random):
    shape = header[name]["shape"]
    header[name]["shape"] = random.choice(
        [shape[::-1], [], [0], [*shape, 0], [-1], [1 << 62, 4], [*shape, 1], [1, *shape], [str(n) for n in shape], None]
    )


@edit_header
def change_offsets(header, name, random):
    """Overlapping, reversed, negative, beyond the end, of the wrong type."""
    start, end = header[name]["data_offsets"]
    header[name]["data_offsets"] = random.choice(
        [
            [0, end - start],
            [end, start],
            [-1, end],
            [start, end + 8],
            [start, 1 << 62],
            [start + 1, end + 1],
            [],
            ["0", "8"],
        ]
    )


@edit_header
def drop_field(header, name, random):
    del header[name][random.choice(["dtype", "shape", "data_offsets"])]


@edit_header
def add_field(header, name, random):
    header[name][random.choice(["dtype ", "extra", "shape2"])] = 1


@edit_header
def strange_entry(header, name, random):
    header[name] = random.choice([None, 1, "x", [], {}, {"dtype": {}}])


@edit_header
def strange_metadata(header, name, random):
    deep = "[" * 100_000 + "]" * 100_000
    configs = [deep, "{", "[]", "null", "1", '{"kv_channels": "x"}', '{"kv_channels": -1}', '{"kv_channels": 1e99}']
    configs += ['{"num_attention_heads": 0}', '{"layernorm_epsilon": []}']
    entries = [deep, "[{}]", '[{"padding": 1e9, "extra": {}}]', '[{"padding": 9, "extra": []}]']
    entries += [
        '[{"padding": 4000000, "extra": {}}]',
        '[{"padding": NaN, "extra": {}}]',
        '[{"padding": -9, "extra": {}}]',
    ]
    entries += ['[{"padding": 9, "extra": {"pooled_output": 5}}]', "[" + '{"padding": 60000, "extra": {}},' * 99 + "0]"]
    header["__metadata__"] = random.choice(
        [{"config": text} for text in configs]
        + [{"format": "kolors-conditioning-1", "entries": text} for text in entries]
        + [{"format": "kolors-image-prompt-1", "weights": text} for text in (deep, "[", "[1, 2]", "[NaN]", '["x"]')]
        + [{"lora_adapter_metadata": text} for text in (deep, '{"unet.lora_alpha": "x"}', "[]", '{"unet.r": 0}')]
        + [{"format": "x"}, {"a": 1}, [], None, "x", {"🍎": "模型"}]
    )


@edit_header
def repeat_offsets(header, name, random):
    """Another tensor's bytes for this one."""
    other = random.choice([key for key in header if key != "__metadata__"])
    header[name] = dict(header[other])


def repeat_name(data: bytes, random: Random) -> bytes:
    """The same key twice in the header, which JSON allows."""
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length].decode().rstrip()
    name = random.choice([key for key in json.loads(text) if key != "__metadata__"])
    entry = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})[1:-1]
    return with_header(f"{text[:-1]},{entry}}}".encode(), data[8 + length :])


def deep_header(data: bytes, random: Random) -> bytes:
    """JSON nested deeper than parsers like."""
    depth = random.choice([100, 1000, 100_000])
    return with_header(b'{"a":' + b"[" * depth + b"]" * depth + b"}", b"\0" * 64)


def no_text_header(data: bytes, random: Random) -> bytes:
    """A header that is not UTF-8."""
    (length,) = struct.unpack("<Q", data[:8])
    header = bytearray(data[8 : 8 + length])
    header[random.randrange(2, length)] = random.choice([0xFF, 0xC0, 0x80])
    return data[:8] + bytes(header) + data[8 + length :]


BYTES: tuple[Mutation, ...] = (
    truncate,
    truncate,
    flip_bytes,
    flip_bytes,
    flip_far_bytes,
    append_bytes,
    replace_with_noise,
)
HEADERS: tuple[Mutation, ...] = (
    resize_header, change_dtype, change_shape, change_offsets, drop_field, add_field, strange_entry, strange_metadata,
    repeat_offsets, repeat_name, deep_header, no_text_header,
)  # fmt: skip


# ---- tensors --------------------------------------------------------------------------------------------------------


def drop_one(tensors: Tensors, name: str, random: Random) -> None:
    del tensors[name]


def drop_many(tensors: Tensors, name: str, random: Random) -> None:
    prefix = name[: random.randrange(1, len(name))]
    for key in [key for key in tensors if key.startswith(prefix)][1:]:
        del tensors[key]


def keep_few(tensors: Tensors, name: str, random: Random) -> None:
    for key in random.sample(list(tensors), max(0, len(tensors) - 3)):
        del tensors[key]


def rename(tensors: Tensors, name: str, random: Random) -> None:
    tensors[random.choice([name.upper(), name + ".x", "x." + name, name.replace(".", "_")])] = tensors.pop(name)


def add_strange(tensors: Tensors, name: str, random: Random) -> None:
    tensors[random.choice(STRANGE_NAMES[:-1]) + str(random.random())] = torch.zeros(3)


def transpose(tensors: Tensors, name: str, random: Random) -> None:
    tensors[name] = tensors[name].movedim(0, -1).contiguous() if tensors[name].ndim else tensors[name]


def resize(tensors: Tensors, name: str, random: Random) -> None:
    """Another first or last dimension, or number of dimensions."""
    tensor = tensors[name]
    shapes = [
        (0,),
        (),
        (1,),
        (*tensor.shape[:-1], 3),
        (3, *tensor.shape[1:]),
        (*tensor.shape, 1),
        (0, *tensor.shape[1:]),
    ]
    tensors[name] = torch.zeros(random.choice(shapes)).to(tensor.dtype)


def cast(tensors: Tensors, name: str, random: Random) -> None:
    """One tensor, or all, of another dtype."""
    dtypes = [torch.int64, torch.bool, torch.float64, torch.int8, torch.uint8, torch.float8_e5m2, torch.complex64]
    dtype = random.choice(dtypes)
    for key in [name] if random.random() < 0.7 else list(tensors):
        tensors[key] = tensors[key].float().to(dtype)


def poison(tensors: Tensors, name: str, random: Random) -> None:
    """Values that are not finite."""
    if tensors[name].is_floating_point():
        largest = torch.finfo(tensors[name].dtype).max
        tensors[name] = torch.full_like(
            tensors[name], random.choice([float("nan"), float("inf"), -float("inf"), largest])
        )


def swap(tensors: Tensors, name: str, random: Random) -> None:
    other = random.choice(list(tensors))
    tensors[name], tensors[other] = tensors[other], tensors[name]


TENSORS = (drop_one, drop_many, keep_few, rename, add_strange, transpose, resize, cast, poison, swap)


# ---- JSON beside the file -------------------------------------------------------------------------------------------

#: Values in the place of a good one.
STRANGE_VALUES = (None, [], {}, "x", -1, 0, 1e308, 1 << 70, True, [[]], {"a": {"b": 1}}, "../../escape", "模型🍎")


def change_json(data: bytes, random: Random) -> bytes:
    """One value of a JSON object, or the object, replaced; no JSON at all; JSON that parsers choke on."""
    content = json.loads(data)
    key = random.choice(list(content))
    if random.random() < 0.6:
        content[key] = random.choice(STRANGE_VALUES)
        return json.dumps(content).encode()
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return random.choice(
        [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"kv_channels": 1e400}', b'{"num_layers": 1000000000000}', deep,
         b"[" * 100_000, json.dumps(content).encode("utf-16"), b"\xef\xbb\xbf" + data, b"9" * 10_000]
    )  # fmt: skip


# ---- pickles --------------------------------------------------------------------------------------------------------


class RunsCode:
    """Creates a file when it is unpickled, in one of several ways."""

    def __init__(self, canary: str, way: int):
        self.canary, self.way = canary, way

    def __reduce__(self):
        return (
            (open, (self.canary, "w")),
            (os.mkdir, (self.canary,)),
            (eval, (f"open({self.canary!r}, 'w')",)),
            (exec, (f"open({self.canary!r}, 'w')",)),
            (os.system, (f"echo > {self.canary}",)),
        )[self.way]


def pickles(canary: str) -> Iterator[tuple[str, bytes]]:
    """Files of torch that hold code, unknown classes, what is no dictionary, or far more than they weigh."""
    for way in range(5):
        for name, content in {
            "code": {"a": RunsCode(canary, way)},
            "code behind weights": {"a": torch.zeros(2), "b": RunsCode(canary, way)},
            "code in state_dict": {"state_dict": {"x": RunsCode(canary, way)}},
        }.items():
            yield f"{name} {way}, zipped", torch_bytes(content)
            yield f"{name} {way}, bare", torch_bytes(content, False)
            yield f"{name} {way}, plain pickle", pickle.dumps(content)
    strange = {
        "a list": [torch.zeros(2)], "a number": 5, "nothing": None, "no tensors": {"a": {"b": "c"}},
        "numbers as names": {1: torch.zeros(2)}, "an empty dictionary": {}, "a tensor": torch.zeros(3),
        "a module": torch.nn.Linear(2, 2), "a set": {1, 2}, "deep": nest(500),
        "sparse": {"a": torch.eye(3).to_sparse()}, "a generator": {"a": torch.Generator().get_state()},
        "strange names": {name: torch.zeros(2) for name in STRANGE_NAMES},
        "meta": {"a": torch.zeros(2, device="meta")},
        "views": {"a": torch.zeros(8)[::2], "b": torch.zeros(1).expand(9)},
        "a number repeated": {"a": torch.zeros(1).expand(1 << 40)},
        "a dictionary in itself": endless(), "a dictionary twice in each": doubling(60),
    }  # fmt: skip
    for name, content in strange.items():
        for zipped in (True, False):
            with contextlib.suppress(RecursionError):  # too deep to write
                yield f"{name}, {'zipped' if zipped else 'bare'}", torch_bytes(content, zipped)
    yield "a zip bomb among the weights", zip_bomb("archive/data/0")
    yield "a zip bomb as the pickle", zip_bomb("archive/data.pkl")
    yield "an array of zeros, bare", legacy(FILLED)
    yield "an array of zeros, zipped", with_pickle(FILLED)
    yield "a text that doubles, zipped", with_pickle(DOUBLED)
    deep_tuple = b"\x80\x02}N" + b"\x85" * 1_000_000 + b"K\x01s."
    yield "tuples deeper than the stack, zipped", with_pickle(deep_tuple)
    yield "tuples deeper than the stack, bare", legacy(deep_tuple)
    yield (
        "dictionaries deeper than the stack",
        with_pickle(b"\x80\x02" + b"}X\x01\0\0\0a" * 100_000 + b"N" + b"s" * 100_000 + b"."),
    )
    yield "weights in a compressed zip", compressed(torch_bytes({"a": torch.zeros(100)}))
    yield "a zip without a pickle", zip_bytes({"a.txt": b"hello"})
    yield "a zip with a path that climbs", zip_bytes({"../../escape/data.pkl": b"\x80\x02}."})
    yield "a storage that is missing", without_storages(torch_bytes({"a": torch.zeros(100)}))
    yield "a storage that is too short", shorten_storages(torch_bytes({"a": torch.zeros(100)}))
    yield "a plain pickle of a dictionary", pickle.dumps({"a": 1})
    yield "endless memo", b"\x80\x04" + b"h\x00" * 1000 + b"."
    yield "many marks", b"\x80\x02" + b"(" * 100_000 + b"."
    yield "a long string", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x."
    yield "many bytes", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x."


#: A pickle of one entry whose value is bytearray(2 ** 30), and of one that is encoded in hexadecimal 40 times.
FILLED = b"\x80\x02}X\x01\0\0\0acbuiltins\nbytearray\nJ\0\0\0\x40\x85Rs."
DOUBLED = b"\x80\x02}X\x01\0\0\0a" + b"c_codecs\nencode\n" * 40 + b"U\x01x" + b"X\x03\0\0\0hex\x86R" * 40 + b"s."


def torch_bytes(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def with_pickle(content: bytes) -> bytes:
    """A torch file with `content` as its pickle."""
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"a": torch.zeros(1)}))) as file:
        members = {name: content if name.endswith(".pkl") else file.read(name) for name in file.namelist()}
    return zip_bytes(members, zipfile.ZIP_STORED)


def legacy(content: bytes) -> bytes:
    """The same in torch's older form: number, version and machine come first, the names of the storages last."""
    start = io.BytesIO(torch_bytes({}, zipped=False))
    for _ in range(3):
        pickle.load(start)
    return start.getvalue()[: start.tell()] + content + pickle.dumps([], 2)


def nest(depth: int) -> dict:
    content: dict = {"a": torch.zeros(1)}
    for _ in range(depth):
        content = {"a": content}
    return content


def endless() -> dict:
    content: dict = {"a": torch.zeros(1)}
    content["b"] = content
    return content


def doubling(depth: int) -> dict:
    """2 ** depth ways lead to the one tensor."""
    content: dict = {"a": torch.zeros(1)}
    for _ in range(depth):
        content = {"a": content, "b": content}
    return content


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def zip_bomb(name: str) -> bytes:
    """A megabyte, of which one member would unpack to one gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        if not name.endswith(".pkl"):
            file.writestr("archive/data.pkl", b"\x80\x02}.")
        with file.open(name, "w", force_zip64=True) as member:
            for _ in range(1024):
                member.write(bytes(1 << 20))
        file.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def compressed(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return zip_bytes({name: file.read(name) for name in file.namelist()})


def without_storages(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return zip_bytes({name: file.read(name) for name in file.namelist() if "/data/" not in name})


def shorten_storages(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return zip_bytes({name: file.read(name)[: 16 if "/data/" in name else None] for name in file.namelist()})


def to_bytes(tensors: Tensors, suffix: str, metadata: dict[str, str]) -> bytes:
    """A file's bytes as its ending asks."""
    return save(tensors, metadata or None) if suffix == ".safetensors" else torch_bytes(tensors)


# ---- paths ----------------------------------------------------------------------------------------------------------


def link_outside(path: Path, data: bytes, outside: Path) -> None:
    """A symbolic link to the file, which lies in another folder; that is how many people keep their models."""
    outside.write_bytes(data)
    path.symlink_to(outside)


def link_to_nothing(path: Path, data: bytes, outside: Path) -> None:
    path.symlink_to(outside)


def link_in_a_circle(path: Path, data: bytes, outside: Path) -> None:
    outside.symlink_to(path)
    path.symlink_to(outside)


def link_to_a_folder(path: Path, data: bytes, outside: Path) -> None:
    path.symlink_to(outside.parent)


def link_to_a_device(path: Path, data: bytes, outside: Path) -> None:
    """One that can be read without end."""
    path.symlink_to("/dev/zero")


def folder(path: Path, data: bytes, outside: Path) -> None:
    path.mkdir()


def pipe(path: Path, data: bytes, outside: Path) -> None:
    """What waits for ever when it is opened."""
    os.mkfifo(path)


PATHS = (link_outside, link_to_nothing, link_in_a_circle, link_to_a_folder, link_to_a_device, folder, pipe)
