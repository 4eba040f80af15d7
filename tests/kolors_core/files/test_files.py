"""Reading weight files: by content, with clear errors, and never executing anything."""

import codecs
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from comfyui_kolors.kolors_core.errors import BadFile, KolorsError
from comfyui_kolors.kolors_core.files.config import read_config
from comfyui_kolors.kolors_core.files.torch_pickle import check_size
from comfyui_kolors.kolors_core.files.weights import check_tensors, read_state_dict
from safetensors.torch import save, save_file

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def assert_read(path, metadata=None):
    state_dict, found = read_state_dict(path)
    assert state_dict.keys() == TENSORS.keys()
    assert all(torch.equal(state_dict[key], tensor) for key, tensor in TENSORS.items())
    assert found == (metadata or {})


@pytest.mark.parametrize("name", ["a.safetensors", "b.bin", "名字 with space 🐱.sft"])
def test_safetensors_under_any_name(tmp_path, name):
    save_file(TENSORS, tmp_path / name, metadata={"config": "{}"})
    assert_read(tmp_path / name, {"config": "{}"})


@pytest.mark.parametrize("name", ["a.bin", "b.ckpt", "c.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_torch_files_under_any_name(tmp_path, name, zipped, nested):
    content = {"state_dict": TENSORS, "epoch": 3} if nested else TENSORS
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_read(tmp_path / name)


class Attack:
    """A pickle that would create a file when it is loaded carelessly."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("name", ["evil.bin", "evil.ckpt", "evil.safetensors"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_with_code_is_named_and_not_executed(tmp_path, name, plain):
    content = {"weight": torch.ones(2), "evil": Attack(tmp_path / "canary")}
    if plain:
        (tmp_path / name).write_bytes(pickle.dumps({"evil": Attack(tmp_path / "canary")}))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(KolorsError, match=f"{name} in .* is a pickle that wants to run code"):
        read_state_dict(tmp_path / name)
    assert not (tmp_path / "canary").exists()
    pickle.loads(pickle.dumps(Attack(tmp_path / "canary")))  # the canary does sing when the code runs
    assert (tmp_path / "canary").exists()


BAD_FILES = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG image"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "is a JPEG image"),
    "html": (b"<!DOCTYPE html><html>" + bytes(100), "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
    "gguf": (b"GGUF" + bytes(100), "is a GGUF file"),
    "zeros": (bytes(1000), "is not a weight file"),
    "text": (b"hello world, this is not a model", "is not a weight file"),
    "huge header": (struct.pack("<Q", 2**60) + b"{" + bytes(100), "damaged safetensors file of 109 bytes, too short"),
    "broken header": (struct.pack("<Q", 8) + b"{broken}" + bytes(20), "damaged safetensors file.*unreadable header"),
    "deep header": (struct.pack("<Q", 10**5) + b'{"a":' + b"[" * (10**5 - 5) + bytes(9), "damaged safetensors file"),
    "truncated zip": (b"PK\x03\x04" + bytes(100), "is a damaged torch file"),
    "truncated pickle": (b"\x80\x02}q\x00" + bytes(20), "wants to run code or holds more than tensors|damaged torch"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named(tmp_path, case):
    content, message = BAD_FILES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(KolorsError, match=message) as error:
        read_state_dict(path)
    assert "model.safetensors" in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("keep", [9, 20, 100, -1, -10])
def test_a_truncated_file_names_both_sizes(tmp_path, keep):
    whole = save({"x": torch.ones(100)})
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[:keep])
    with pytest.raises(KolorsError, match=r"cut\.safetensors in .*(damaged|empty).*Download it again") as error:
        read_state_dict(path)
    if keep < 0:
        assert f"file of {len(whole) + keep:,} bytes; its header asks for {len(whole):,}" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is not in"):
        read_state_dict(tmp_path / "gone.safetensors")


def test_a_torch_file_without_weights(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.ckpt")
    with pytest.raises(KolorsError, match="without weights"):
        read_state_dict(tmp_path / "a.ckpt")


def test_configuration_is_found_in_order(tmp_path):
    path = tmp_path / "model.safetensors"
    assert read_config(path, {}) == {}
    (tmp_path / "config.json").write_text(json.dumps({"from": "folder"}))
    assert read_config(path, {}) == {"from": "folder"}
    (tmp_path / "model.json").write_text(json.dumps({"from": "name"}))
    assert read_config(path, {}) == {"from": "name"}
    assert read_config(path, {"config": '{"from": "metadata"}'}) == {"from": "metadata"}


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, ""])
def test_a_bad_configuration_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(KolorsError, match=r"config\.json in"):
        read_config(tmp_path / "model.safetensors", {})


def test_missing_and_misshapen_tensors_are_counted_and_named():
    expected = {f"layer.{i}": torch.empty(2, 3, device="meta") for i in range(6)}
    good = {f"layer.{i}": torch.zeros(2, 3) for i in range(6)}
    check_tensors(expected, good | {"extra": torch.zeros(1)}, "thing")
    with pytest.raises(BadFile, match=r"incomplete thing: 5 of 6 tensors are missing \(layer.1.*and 2 more"):
        check_tensors(expected, {"layer.0": good["layer.0"]}, "thing")
    with pytest.raises(BadFile, match=r"1 of 6 tensors are of the wrong shape \(layer.2 is \[3\] instead of"):
        check_tensors(expected, good | {"layer.2": torch.zeros(3)}, "thing")


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model.safetensors.index.fp16.json"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_any_shard_brings_the_whole_model(tmp_path, kind, index):
    names = [f"model-0000{i}-of-00002.{kind}" for i in (1, 2)]
    for name, (key, tensor) in zip(names, TENSORS.items()):
        save = save_file if kind == "safetensors" else torch.save
        save({key: tensor}, tmp_path / name)
    (tmp_path / "other.index.json").write_text("{broken")
    assert read_state_dict(tmp_path / names[0])[0].keys() == {"a.weight"}
    (tmp_path / index).write_text(json.dumps({"weight_map": dict(zip(TENSORS, names))}))
    for name in (*names, index):
        assert_read(tmp_path / name)
    (tmp_path / names[1]).unlink()
    with pytest.raises(KolorsError, match=f"belongs to a model of 2 files; missing there: {names[1]}"):
        read_state_dict(tmp_path / names[0])


def test_an_index_cannot_point_out_of_its_folder(tmp_path):
    (tmp_path / "models").mkdir()
    save_file({"secret": torch.ones(1)}, tmp_path / "outside.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "models" / "a.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "secret": "../outside.safetensors"}}
    (tmp_path / "models" / "model.index.json").write_text(json.dumps(index))
    with pytest.raises(KolorsError, match=r"missing there: outside\.safetensors"):
        read_state_dict(tmp_path / "models" / "a.safetensors")


def test_what_begins_like_a_zip_and_is_none_is_named(tmp_path):
    """Python's own look at the end of such a file may raise."""
    path = tmp_path / "model.bin"
    locator = b"PK\x06\x07" + bytes(12) + b"\x09\x00\x00\x00"  # of an archive on nine disks
    path.write_bytes(b"PK\x03\x04" + bytes(100) + locator + b"PK\x05\x06" + bytes(18))
    with pytest.raises(KolorsError, match=r"model\.bin in .* is a damaged torch file"):
        read_state_dict(path)


def test_a_compressed_torch_file_is_refused_before_it_is_unpacked(tmp_path):
    """Of a zip bomb torch unpacked the pickle, whatever its size."""
    torch.save(TENSORS, tmp_path / "plain.bin")
    with zipfile.ZipFile(tmp_path / "plain.bin") as plain, zipfile.ZipFile(tmp_path / "a.bin", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(KolorsError, match=r"^a\.bin in \S+ is a compressed archive"):
        read_state_dict(tmp_path / "a.bin")
    assert_read(tmp_path / "plain.bin")


@pytest.mark.parametrize("zipped", [True, False])
def test_nested_parts_are_read_down_to_a_depth(tmp_path, zipped):
    """The names of a hundred thousand parts in each other would fill the memory."""
    content, deep = {**TENSORS}, {}
    content["deep"] = deep
    for level in range(150):
        deep["x" if level == 50 else "y"] = torch.zeros(1)
        deep["p"] = deep = {}
    deep["x"] = torch.zeros(1)
    torch.save(content, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    names = [name for name in read_state_dict(tmp_path / "a.bin")[0] if name.endswith(".x")]
    assert [name.count(".p") for name in names] == [50]


class EncodedAnew:
    """Bytes that a pickle makes anew of one text each time."""

    TEXT = "x" * 9999

    def __reduce__(self):
        return codecs.encode, (self.TEXT, "latin1")


FILLERS = {"bytearray": bytearray(9), "bytes, again and again": [EncodedAnew() for _ in range(200)]}


@pytest.mark.parametrize("value", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_fills_the_memory_is_refused_before_it_is_read(tmp_path, value, zipped):
    """torch reads bytearray(n) from a few bytes, of any n, and fills the memory with zeros."""
    torch.save({**TENSORS, "x": value}, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(KolorsError, match=r"holds more than tensors. It was not executed"):
        read_state_dict(tmp_path / "a.bin")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_number_that_stands_for_a_terabyte_is_refused(tmp_path, zipped):
    content = {"a": torch.zeros(1).expand(1 << 38)}
    torch.save(content, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(KolorsError, match="its tensors would take 1,099,511,627,776"):
        read_state_dict(tmp_path / "a.bin")


def test_tensors_may_take_four_times_a_files_size_and_no_more(tmp_path):
    """A tied embedding lies in a file once and counts twice."""
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    check_size(4000, tmp_path / "a.bin")
    with pytest.raises(BadFile, match=r"^has 1,000 bytes, but its tensors would take 4,001\."):
        check_size(4001, tmp_path / "a.bin")


@pytest.mark.parametrize(("times", "fits"), [(3, True), (5, False)])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_under_several_names_counts_under_each(tmp_path, zipped, times, fits):
    tied = torch.randn(10_000)  # beside which the rest of the file is small
    torch.save(dict.fromkeys("abcde"[:times], tied), tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    if fits:
        assert all(torch.equal(tensor, tied) for tensor in read_state_dict(tmp_path / "a.bin")[0].values())
    else:
        with pytest.raises(KolorsError, match=r"but its tensors would take 200,000\."):
            read_state_dict(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "nest", [b"N" + b"\x85" * 200_000, b"N" * 200_001 + b"\x86" * 200_000, b"N" + b"N\x86" * 200_000]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_tuples_deeper_than_the_stack_are_refused_before_they_are_read(tmp_path, nest, zipped):
    """torch takes the hash of a key; that of such a tuple ended the whole process."""
    torch.save({"a": 1}, tmp_path / "plain.bin", _use_new_zipfile_serialization=zipped)
    content = b"\x80\x02}" + nest + b"K\x01s."
    if zipped:
        with zipfile.ZipFile(tmp_path / "plain.bin") as plain, zipfile.ZipFile(tmp_path / "a.bin", "w") as deep:
            for name in plain.namelist():
                deep.writestr(name, content if name.endswith(".pkl") else plain.read(name))
    else:
        with (tmp_path / "plain.bin").open("rb") as plain:
            for _ in range(3):
                pickle.load(plain)
            (tmp_path / "a.bin").write_bytes((tmp_path / "plain.bin").read_bytes()[: plain.tell()] + content)
    with pytest.raises(KolorsError, match="holds more than tensors"):
        read_state_dict(tmp_path / "a.bin")


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.zeros(2, device="meta")], ids=["sparse", "meta"])
def test_tensors_without_plain_values_are_named(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "a.bin")
    with pytest.raises(KolorsError, match="in which a is sparse, quantized or without values"):
        read_state_dict(tmp_path / "a.bin")


def test_a_dictionary_in_itself_is_read_once(tmp_path):
    """It ended in a RecursionError; one that stands twice in each of 60 others would have taken for ever."""
    content = dict(TENSORS)
    content["self"] = content
    for _ in range(60):
        content = {"x": content, "y": content}
    torch.save({"state_dict": content}, tmp_path / "a.bin")
    state_dict, _ = read_state_dict(tmp_path / "a.bin")
    assert sorted(key.rpartition("x.")[2] for key in state_dict) == sorted(TENSORS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_among_the_indices_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors.index.json")
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert_read(tmp_path / "model.safetensors")
