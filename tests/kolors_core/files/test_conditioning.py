"""Conditionings as files: exact, small, and other files named."""

import json
import os

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files import safetensors
from comfyui_kolors.kolors_core.files.conditioning import (
    is_conditioning,
    load_conditioning,
    save_conditioning,
)
from safetensors.torch import load_file, save_file

HIDDEN = 64


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def padded(padding, tokens, prompts=1):
    """States as the encoder gives them: equal padded rows, then tokens."""
    return torch.cat((random(prompts, 1, HIDDEN).expand(-1, padding, -1), random(prompts, tokens, HIDDEN, seed=1)), 1)


def conditioning(padding=240, tokens=16):
    extra = {"pooled_output": random(1, HIDDEN, seed=2), "width": 768, "strength": 0.5, "area": (64, 64, 0, 8)}
    return [[padded(padding, tokens), extra], [padded(100, 412), {"pooled_output": random(1, HIDDEN, seed=3)}]]


@pytest.mark.parametrize(("padding", "tokens"), [(240, 16), (0, 256), (1, 255), (254, 2)])
def test_what_was_saved_comes_back_bit_equal(tmp_path, padding, tokens):
    original = conditioning(padding, tokens)
    save_conditioning(tmp_path / "a.safetensors", original)
    found = load_conditioning(tmp_path / "a.safetensors")
    assert len(found) == len(original)
    for (states, extra), (expected, expected_extra) in zip(found, original):
        assert torch.equal(states, expected)
        assert extra.keys() == expected_extra.keys()
        assert torch.equal(extra["pooled_output"], expected_extra["pooled_output"])
    assert (
        found[0][1]["width"] == 768 and found[0][1]["strength"] == 0.5 and list(found[0][1]["area"]) == [64, 64, 0, 8]
    )
    assert is_conditioning(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_padding_is_stored_once(tmp_path):
    save_conditioning(tmp_path / "a.safetensors", conditioning()[:1])
    assert load_file(tmp_path / "a.safetensors")["0.states"].shape == (1, 17, HIDDEN)


def test_half_precision_is_smaller_and_near(tmp_path):
    save_conditioning(tmp_path / "a.safetensors", conditioning())
    save_conditioning(tmp_path / "b.safetensors", conditioning(), torch.float16)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.6 * (tmp_path / "a.safetensors").stat().st_size
    ((found, _), *_), ((expected, _), *_) = load_conditioning(tmp_path / "b.safetensors"), conditioning()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.half().float())


def test_what_a_file_cannot_keep_is_named(tmp_path):
    with pytest.raises(KolorsError, match="holds 'control', a object, which a file cannot keep"):
        save_conditioning(tmp_path / "a.safetensors", [[padded(2, 2), {"control": object()}]])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["other", "broken", "cut", "text", "missing", "entries", "huge"])
def test_another_or_damaged_file_is_named(tmp_path, case):
    path = tmp_path / "a.safetensors"
    save_conditioning(path, conditioning())
    if case == "other":
        save_file({"a": torch.ones(2)}, path)
    elif case == "broken":
        save_file({"0.pooled": torch.ones(2)}, path, {"format": "kolors-conditioning-1", "entries": "[{]"})
    elif case == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif case == "text":
        path.write_text("hello")
    elif case == "missing":
        path.unlink()
    else:
        padding = 10**15 if case == "huge" else 4
        entries = json.dumps([{"padding": padding, "extra": {}}, {"padding": 4, "extra": {}}])
        save_file({"0.states": torch.ones(1, 2, 3)}, path, {"format": "kolors-conditioning-1", "entries": entries})
    with pytest.raises((KolorsError, FileNotFoundError), match=r"a.safetensors .*(in|from)"):
        load_conditioning(path)
    assert is_conditioning(path) is (case in ("broken", "cut", "entries", "huge"))


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    """Nor is half of it, under any name."""

    def fill_the_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_conditioning(tmp_path / "a.safetensors", conditioning())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1 << 16, 3])
def test_padded_rows_of_many_entries_together_cannot_fill_the_memory(tmp_path, count):
    """A file of 5 MB asked for 400 GB."""
    path = tmp_path / "a.safetensors"
    tensors = {f"{index}.states": torch.ones(1, 2, 4096) for index in range(100)}
    entries = json.dumps([{"padding": count, "extra": {}}] * 100)
    save_file(tensors, path, {"format": "kolors-conditioning-1", "entries": entries})
    if count == 3:
        assert len(load_conditioning(path)) == 100
    else:
        with pytest.raises(KolorsError, match="6,553,600 padded tokens"):
            load_conditioning(path)


@pytest.mark.parametrize("shape", [(1, 4), (4, 4, 4, 4), (0, 4, 4), (1, 4, 0)])
def test_states_of_another_shape_are_named_before_they_are_sampled(tmp_path, shape):
    path = tmp_path / "a.safetensors"
    entries = json.dumps([{"padding": 0, "extra": {}}])
    save_file({"0.states": torch.ones(shape)}, path, {"format": "kolors-conditioning-1", "entries": entries})
    with pytest.raises(KolorsError, match="damaged conditioning file"):
        load_conditioning(path)


def test_a_pooled_state_of_another_shape_is_named_before_it_is_sampled(tmp_path):
    path = tmp_path / "a.safetensors"
    entries = json.dumps([{"padding": 0, "extra": {}}])
    tensors = {"0.states": torch.ones(1, 4, 4), "0.pooled_output": torch.ones(1, 1, 4)}
    save_file(tensors, path, {"format": "kolors-conditioning-1", "entries": entries})
    with pytest.raises(KolorsError, match=r"a pooled_output of \[1, 1, 4\]"):
        load_conditioning(path)


@pytest.mark.parametrize("name", ["pooled_output", "control", "hooks", "mask"])
def test_a_plain_value_in_the_place_of_an_object_is_named(tmp_path, name):
    path = tmp_path / "a.safetensors"
    entries = json.dumps([{"padding": 0, "extra": {name: 5}}])
    save_file({"0.states": torch.ones(1, 4, 4)}, path, {"format": "kolors-conditioning-1", "entries": entries})
    with pytest.raises(KolorsError, match=f"{name} as plain text"):
        load_conditioning(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    """The dropdown looks into every file of the input folder: a pipe there stopped the whole server."""
    os.mkfifo(tmp_path / "a.safetensors")
    assert not is_conditioning(tmp_path / "a.safetensors")
