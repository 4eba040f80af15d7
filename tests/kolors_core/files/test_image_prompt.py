"""Image prompts as files: exact, as diffusers and IPAdapter_plus keep them, and other files named."""

import json
import os

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files import safetensors
from comfyui_kolors.kolors_core.files.conditioning import is_conditioning, load_conditioning, save_conditioning
from comfyui_kolors.kolors_core.files.image_prompt import (
    EMBEDS,
    STATES,
    ImagePrompt,
    is_image_prompt,
    load_image_prompt,
    save_image_prompt,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WIDTH = 8


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states(kinds=2, images=2, number=STATES, width=WIDTH):
    return random(kinds, images, number, width)


def image_prompt(images=2, negatives=1, weights=None):
    prompt = ImagePrompt.of(random(images, STATES, WIDTH), random(negatives, STATES, WIDTH, seed=1))
    return prompt if weights is None else ImagePrompt(prompt.images, prompt.negatives, torch.tensor(weights))


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "negatives"), [(1, 1), (3, 1), (3, 3)])
@pytest.mark.parametrize("weights", [None, 0.1])
def test_what_was_saved_comes_back_bit_equal(tmp_path, images, negatives, weights):
    original = image_prompt(images, negatives, None if weights is None else [weights] * images)
    save_image_prompt(tmp_path / "a.safetensors", original)
    found = load_image_prompt(tmp_path / "a.safetensors")
    for name in ("images", "negatives", "weights"):
        assert torch.equal(getattr(found, name), getattr(original, name))
    assert is_image_prompt(tmp_path / "a.safetensors") and not is_conditioning(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_negatives_are_saved_beside_the_images_that_they_belong_to(tmp_path):
    original = image_prompt(3, 2)
    save_image_prompt(tmp_path / "a.safetensors", original)
    negatives, images = load_file(tmp_path / "a.safetensors")[EMBEDS]
    assert torch.equal(images, original.images)
    assert torch.equal(negatives, original.negatives[[0, 1, 0]])


def test_the_file_says_what_it_is(tmp_path):
    save_image_prompt(tmp_path / "a.safetensors", image_prompt(2))
    save_image_prompt(tmp_path / "b.safetensors", image_prompt(2, weights=[1.0, 0.25]))
    expected = {"format": "kolors-image-prompt-1", "content": "negatives, then 2 image(s), of 577 CLIP states of 8"}
    for name, more in (("a", {}), ("b", {"weights": "[1.0, 0.25]"})):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            assert list(file.keys()) == [EMBEDS]
            assert file.metadata() == expected | more


def test_half_precision_is_smaller_and_near(tmp_path):
    original = image_prompt()
    save_image_prompt(tmp_path / "a.safetensors", original)
    save_image_prompt(tmp_path / "b.safetensors", original, torch.float16)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.51 * (tmp_path / "a.safetensors").stat().st_size
    found = load_image_prompt(tmp_path / "b.safetensors")
    assert found.images.dtype == torch.float32
    assert torch.equal(found.images, original.images.half().float())


@pytest.mark.parametrize(("value", "dtype"), [(1e5, torch.float16), (float("nan"), torch.float32)])
def test_what_a_file_cannot_keep_is_named(tmp_path, value, dtype):
    prompt = image_prompt()
    prompt.images[0, 0, 0] = value
    with pytest.raises(KolorsError, match=rf"values that are no numbers in {str(dtype)[6:]}. Save it with .* fp32"):
        save_image_prompt(tmp_path / "a.safetensors", prompt, dtype)
    assert not list(tmp_path.iterdir())


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    def fill_the_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_image_prompt(tmp_path / "a.safetensors", image_prompt())
    assert list(tmp_path.iterdir()) == []


# --- what others write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("content", [lambda embeds: [embeds], lambda embeds: embeds, lambda embeds: (embeds,)])
def test_diffusers_saves_a_list_with_torch(tmp_path, dtype, legacy, content):
    embeds = states().to(dtype)
    torch.save(content(embeds), tmp_path / "a.ipadpt", _use_new_zipfile_serialization=not legacy)
    found = load_image_prompt(tmp_path / "a.ipadpt")
    assert torch.equal(found.negatives, embeds[0].float()) and torch.equal(found.images, embeds[1].float())
    assert found.weights.tolist() == [1.0, 1.0]
    assert is_image_prompt(tmp_path / "a.ipadpt")


@pytest.mark.parametrize("name", [EMBEDS, "embeds"])
def test_diffusers_embeds_in_any_safetensors_file(tmp_path, name):
    save_file({name: states()}, tmp_path / "a.safetensors")
    assert torch.equal(load_image_prompt(tmp_path / "a.safetensors").images, states()[1])
    assert is_image_prompt(tmp_path / "a.safetensors") is (name == EMBEDS)


@pytest.mark.parametrize("shape", [(2, STATES, WIDTH), (1, 2, STATES, WIDTH)])
def test_a_file_without_a_negative_gets_one_or_is_named(tmp_path, shape):
    torch.save(random(*shape), tmp_path / "a.ipadpt")
    negative = random(1, STATES, WIDTH, seed=1)
    found = load_image_prompt(tmp_path / "a.ipadpt", lambda: negative)
    assert torch.equal(found.images, random(*shape).reshape(2, STATES, WIDTH)) and found.negatives is negative
    with pytest.raises(KolorsError, match=r"a.ipadpt in .* without a negative. Connect clip_vision to 'Load Kolors"):
        load_image_prompt(tmp_path / "a.ipadpt")
    with pytest.raises(KolorsError, match=r"CLIP states of \[577, 8\]; the connected .* have \[577, 9\]"):
        load_image_prompt(tmp_path / "a.ipadpt", lambda: random(1, STATES, 9))


def test_a_negative_that_is_there_is_not_made(tmp_path):
    save_image_prompt(tmp_path / "a.safetensors", image_prompt())
    load_image_prompt(tmp_path / "a.safetensors", lambda: pytest.fail("made for nothing"))


# --- what is no image prompt -----------------------------------------------------------------------------------------

OURS = {"format": "kolors-image-prompt-1"}
DEEP = "[" * 100_000


def with_value(value):
    damaged = states()
    damaged[1, 0, 5, 5] = value
    return damaged


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({EMBEDS: with_value(float("nan"))}, OURS, "damaged image prompt: it holds values that are no numbers"),
        ({EMBEDS: with_value(float("inf"))}, {}, "damaged image prompt: it holds values that are no numbers"),
        ({EMBEDS: states(3)}, OURS, r"holds \[3, 2, 577, 8\] CLIP states, not .* Expected \(2, images, 577, width\)"),
        ({EMBEDS: states(4)}, {}, "num_images_per_prompt=1"),
        ({EMBEDS: states(2, 2, 257, 12)}, {}, r"holds \[2, 2, 257, 12\] CLIP states, not those of Kolors"),
        ({EMBEDS: states(images=0)}, OURS, r"holds \[2, 0, 577, 8\] CLIP states"),
        ({EMBEDS: states(width=0)}, OURS, r"holds \[2, 2, 577, 0\] CLIP states"),
        ({EMBEDS: random(2, 1, 768)}, {}, r"holds \[1, 2, 1, 768\] CLIP states"),
        ({EMBEDS: random(2, 768)}, {}, r"is an unknown model \(1 tensors: ip_adapter_image_embeds\). Expected an im"),
        ({EMBEDS: states().int()}, OURS, "Expected an image prompt"),
        ({}, OURS, "Expected an image prompt"),
        ({"unet.a.lora_A.weight": random(4, 4), "unet.a.lora_B.weight": random(4, 4)}, {}, "is a LoRA. Expected an"),
        ({"vision_model.a": random(4, 4), "b": random(4)}, {}, "is a CLIP vision model. Expected an image prompt"),
        *(
            ({EMBEDS: states()}, OURS | {"weights": text}, r"damaged image prompt: .* weights .*Save it again")
            for text in (
                "[",
                "[1]",
                "[1, NaN]",
                "[1, 2, 3]",
                '["a", 1]',
                "{}",
                "[[1, 1]]",
                "1",
                "[1, 1e999]",
                DEEP,
            )
        ),
    ],
)
def test_another_or_damaged_file_is_named(tmp_path, tensors, metadata, words):
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    with pytest.raises(KolorsError, match=rf"(?s)a.safetensors in .*{words}"):
        load_image_prompt(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([states(), states()], r"holds the image prompts of 2 adapters. Expected one. .*torch.save\(\[embeds\[0\]\]"),
        ([], "without weights"),
        ([1, 2], "without weights"),
        ({"image_proj": {"latents": random(4, 4)}, "ip_adapter": {"1": random(4)}}, "is an IP-Adapter. Expected an im"),
        (states().to_sparse(), "sparse"),
        (torch.ones(1, 1, 1, 1).expand(2, 900, STATES, 1024), "its tensors would take"),
        ([slice(1)], "wants to run code or holds more than tensors"),
    ],
)
def test_another_pickle_is_named(tmp_path, content, words):
    torch.save(content, tmp_path / "a.ipadpt")
    with pytest.raises(KolorsError, match=rf"a.ipadpt in .*{words}"):
        load_image_prompt(tmp_path / "a.ipadpt")


@pytest.mark.parametrize("case", ["cut", "header", "text", "empty", "missing"])
def test_a_damaged_file_is_named(tmp_path, case):
    path = tmp_path / "a.safetensors"
    save_image_prompt(path, image_prompt())
    if case == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif case == "header":
        path.write_bytes(path.read_bytes().replace(b'"shape"', b'"shapX"'))
    elif case == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if case == "empty" else b"hello" * 10)
    with pytest.raises((KolorsError, FileNotFoundError), match=r"a.safetensors .*in "):
        load_image_prompt(path)
    assert is_image_prompt(path) is (case in ("cut", "header"))


def test_a_shape_larger_than_the_file_is_named(tmp_path):
    header = {EMBEDS: {"dtype": "F32", "shape": [2, 10**6, STATES, 1024], "data_offsets": [0, 64]}}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 64)
    with pytest.raises(KolorsError, match=r"a.safetensors in .* damaged safetensors"):
        load_image_prompt(tmp_path / "a.safetensors")


def test_a_conditioning_and_an_image_prompt_in_each_others_place_are_named(tmp_path):
    save_conditioning(tmp_path / "prompt.safetensors", [[random(1, 4, 8), {}]])
    save_image_prompt(tmp_path / "image.safetensors", image_prompt())
    with pytest.raises(KolorsError, match=r"prompt.safetensors in .* is a conditioning. .* Use 'Load Kolors Cond"):
        load_image_prompt(tmp_path / "prompt.safetensors")
    with pytest.raises(KolorsError, match=r"image.safetensors in .* holds no conditioning"):
        load_conditioning(tmp_path / "image.safetensors")
    assert not is_image_prompt(tmp_path / "prompt.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["a.safetensors", "a.ipadpt"])
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert not is_image_prompt(tmp_path / name)
