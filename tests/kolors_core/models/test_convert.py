"""The text encoder in int8 and int4, made of the shards that Kolors publishes."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.files.weights import open_weights
from comfyui_kolors.kolors_core.models import catalog, get
from comfyui_kolors.kolors_core.models.convert import Conversion
from comfyui_kolors.kolors_core.networks.quantization import quantize
from comfyui_kolors.kolors_core.networks.tokenizer import TOKENIZER_KEY
from safetensors import safe_open
from small_catalog import lying_in, run, save, start

SIZES = TINY.__class__(layers=7)
PLACE = "text_encoders/chatglm3-int{}.safetensors"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """An encoder as the shards of Kolors have it, in fp16, with the parts that it never runs."""
    tensors = {key: value.half() for key, value in random_chatglm3(SIZES, 480).items() if key != TOKENIZER_KEY}
    return tensors | {"output_layer.weight": torch.ones(4, SIZES.hidden).half()}


@pytest.fixture(scope="module")
def shards(tensors, tmp_path_factory) -> dict[str, bytes]:
    """Seven pickles, a layer and a part of the rest in each."""
    folder, contents = tmp_path_factory.mktemp("shards"), {}
    for number in range(1, 8):
        part = {key: value for key, value in tensors.items() if f".layers.{number - 1}." in key}
        rest = [key for key in tensors if ".layers." not in key]
        part |= {key: tensors[key] for key in rest[number - 1 :: 7]}
        torch.save({f"transformer.{key}": value.clone() for key, value in part.items()}, folder / "shard.bin")
        contents[f"shard-{number}"] = (folder / "shard.bin").read_bytes()
    return contents


@pytest.fixture
def contents(shards):
    return {**shards, "tokenizer": random_tokenizer()}


@pytest.fixture(autouse=True)
def small_size(monkeypatch):
    monkeypatch.setattr(get, "CONVERTED_SIZE", {8: 1_000_000, 4: 1_000_000})


def expected(tensors: dict[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    result: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if key.startswith(("output_layer.", "encoder.final_layernorm.")):
            continue
        if key.startswith("encoder.layers.") and tensor.ndim == 2:
            result[key], result[f"{key}_scale"] = quantize(tensor, bits)
        else:
            result[key] = tensor
    tokenizer = torch.frombuffer(bytearray(random_tokenizer()), dtype=torch.uint8)
    return result | {TOKENIZER_KEY: tokenizer}


def same(path: Path, wanted: dict[str, torch.Tensor]) -> bool:
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("bits", [8, 4])
def test_one_file_is_left_with_the_packed_layers_and_the_tokenizer(files, root, hub, tensors, bits, capsys):
    status, said = run(capsys, "get", "text-to-image", "--encoder", f"int{bits}", "--root", root)
    assert status == 0, said
    places = [catalog.BY_NAME[name].place for name in ("unet", "vae")]
    assert set(lying_in(root)) == {*places, PLACE.format(bits)}
    assert same(root / "models" / PLACE.format(bits), expected(tensors, bits))
    assert open_weights(root / "models" / PLACE.format(bits)).tensors.keys() == expected(tensors, bits).keys()
    asked = len(hub.asked)
    assert run(capsys, "get", "encoder", "--encoder", f"int{bits}", "--root", root)[0] == 0
    assert len(hub.asked) == asked


def test_never_more_than_one_shard_is_on_the_disk(files, root, monkeypatch, capsys):
    seen, add = [], Conversion.add

    def look(self, shard, name):
        seen.append([path.name for path in (root / "models").rglob("*.fetched") if "shard" not in path.name])
        add(self, shard, name)

    monkeypatch.setattr(Conversion, "add", look)
    assert run(capsys, "get", "encoder", "--encoder", "int8", "--root", root)[0] == 0
    assert [len([name for name in names if name.startswith("pytorch_model")]) for names in seen] == [1] * 7


def test_killed_between_and_within_shards_it_goes_on(files, root, hub, tensors, tmp_path):
    save(tmp_path)
    for kill in range(5):
        process = start(tmp_path, 0.02, "get", "encoder", "--encoder", "int8", "--root", root)
        deadline = time.monotonic() + 60
        while hub.count(f"text_encoder/pytorch_model-{kill + 2:05}-of-00007.bin", at="store") == 0:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (root / "models" / PLACE.format(8)).exists()
    process = start(tmp_path, 0, "get", "encoder", "--encoder", "int8", "--root", root)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert set(lying_in(root)) == {PLACE.format(8)}
    assert same(root / "models" / PLACE.format(8), expected(tensors, 8))
    whole = [hub.count(file.path, at="store") for file in catalog.SHARDS]
    assert max(whole) <= 3, "what was converted is not fetched again"


def test_a_damaged_shard_is_not_converted(files, root, hub, capsys):
    hub.fail(catalog.SHARDS[3].path, flip=3000)
    status, said = run(capsys, "get", "encoder", "--encoder", "int8", "--root", root)
    assert status == 1
    assert "pytorch_model-00004-of-00007.bin: the file that it sent " in said
    assert not (root / "models" / PLACE.format(8)).exists()
    hub.faults.clear()
    assert run(capsys, "get", "encoder", "--encoder", "int8", "--root", root)[0] == 0
    assert [hub.count(file.path, at="store") for file in catalog.SHARDS] == [1, 1, 1, 2, 1, 1, 1]


def test_the_shards_of_another_folder_are_read_where_they_are(files, root, hub, shards, tensors, tmp_path, capsys):
    old = tmp_path / "diffusers/Kolors/text_encoder"
    old.mkdir(parents=True)
    for file in catalog.SHARDS:
        (old / file.file).write_bytes(shards[file.name])
    (old / "tokenizer.model").write_bytes(random_tokenizer())
    (old / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001-of-00007.bin"}}')
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    status, said = run(capsys, "get", "encoder", "--encoder", "int4", "--root", root, "--from", old)
    assert status == 0, said
    assert same(root / "models" / PLACE.format(4), expected(tensors, 4))
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert set(lying_in(root)) == {PLACE.format(4)}
    assert not hub.asked


def test_the_shards_of_another_package_are_converted_without_the_network(files, root, hub, shards, tensors, capsys):
    old = root / "models/diffusers/Kolors/text_encoder"
    old.mkdir(parents=True)
    for file in catalog.SHARDS:
        (old / file.file).write_bytes(shards[file.name])
    (old / "tokenizer.model").write_bytes(random_tokenizer())
    assert run(capsys, "get", "encoder", "--encoder", "int8", "--root", root)[0] == 0
    assert same(root / "models" / PLACE.format(8), expected(tensors, 8))
    assert len(list(old.iterdir())) == 8
    assert not hub.asked


def test_what_is_no_shard_of_chatglm3_is_refused(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.bin")
    with pytest.raises(Exception, match=r"a\.bin in .* has nothing of ChatGLM3\. Expected one of the shards"):
        Conversion(tmp_path / "x.safetensors", 8).add(tmp_path / "a.bin", "a.bin")


def test_without_torch_the_smaller_downloads_are_named(files, root, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "comfyui_kolors.kolors_core.models.convert", None)
    status, said = run(capsys, "get", "encoder", "--encoder", "int8", "--root", root)
    assert status == 1
    assert "Run the command with ComfyUI's Python" in said and "encoder-8bit or encoder-4bit" in said
