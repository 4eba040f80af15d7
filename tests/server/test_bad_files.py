"""What users put into the model folders by mistake: each is named in words, and the server goes on."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy
import pytest
import sentencepiece
import torch
from client import ENCODER, UNET, KolorsGraph, PromptError
from comfyui_kolors.demo import random_models
from other_models import SOURCES, CreateFile, kl_vae, lora
from PIL import Image
from safetensors.torch import load_file

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("goes_on")]

PIECES = 480  # of the tiny tokenizer

Tensors = dict[str, torch.Tensor]


# ---- loaders and files ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loader:
    """A loader node, the input that takes a file's name, and the models folder of the name."""

    node: str
    input: str
    folder: str

    def place(self, server, name: str) -> Path:
        return server.base / "models" / self.folder / name

    def load(self, server, name: str) -> None:
        """Run the plain graph with this loader's output in it."""
        graph = KolorsGraph()
        defaults = {} if self.folder == "checkpoints" else {"weight_dtype": "default"}
        loaded = graph.add(self.node, **{self.input: str(Path(name))}, **defaults)
        if self.folder == "text_encoders":
            graph.clip = loaded
        else:
            graph.model = loaded
        server.latent(graph, graph.sample())

    def refuse(self, server, path: Path, kind: str = "KolorsError") -> str:
        """The message about the file, once its parts that are the same for every file are checked."""
        name = path.relative_to(self.place(server, "")).as_posix()
        with pytest.raises(PromptError) as failure:
            self.load(server, name)
        message = str(failure.value)
        assert (failure.value.kind, failure.value.node) == (kind, self.node), message
        assert path.name in message
        assert str(path.parent) in message
        return message


UNET_LOADER = Loader("KolorsUNETLoader", "unet_name", "diffusion_models")
ENCODER_LOADER = Loader("KolorsChatGLM3Loader", "text_encoder_name", "text_encoders")
CHECKPOINT_LOADER = Loader("KolorsCheckpointLoader", "ckpt_name", "checkpoints")


def good_unet() -> Tensors:
    return random_models.random_unet(random_models.TINY).state_dict()


def good_encoder(sizes=random_models.TINY) -> Tensors:
    """A ChatGLM3 without a tokenizer."""
    return random_models.random_chatglm3(sizes, PIECES)


def with_tokenizer(server, encoder: Tensors) -> Tensors:
    return encoder | {"spiece_model": load_file(ENCODER_LOADER.place(server, ENCODER))["spiece_model"]}


# ---- another model --------------------------------------------------------------------------------------------------


def sdxl_unet() -> Tensors:
    """SDXL's topology and its widths where they tell it from Kolors, small elsewhere."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 1, 1),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return unet.state_dict()


def sd15_checkpoint() -> Tensors:
    attention = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2"
    return {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        "model.diffusion_model.time_embed.0.weight": torch.zeros(8, 320),
        f"{attention}.to_k.weight": torch.zeros(320, 768),
        f"{attention}.to_q.weight": torch.zeros(320, 320),
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": torch.zeros(77, 768),
        "first_stage_model.decoder.conv_in.weight": torch.zeros(8, 4, 3, 3),
    }


OTHER_MODELS = {
    "SDXL UNet": (UNET_LOADER, sdxl_unet, ["a UNet of SDXL", "2048", "Expected a Kolors UNet", "Get unet/"]),
    "SD1.5 checkpoint as UNet": (
        UNET_LOADER,
        sd15_checkpoint,
        ["of SD1.5", "with SD keys", "768", "Expected a Kolors UNet", "Get unet/"],
    ),
    "SD1.5 checkpoint": (
        CHECKPOINT_LOADER,
        sd15_checkpoint,
        ["of SD1.5", "with SD keys", "768", "Expected a Kolors UNet", "Get unet/"],
    ),
    "VAE as UNet": (UNET_LOADER, kl_vae, ["a VAE", "Expected a Kolors UNet", "Get unet/"]),
    "tiny VAE as UNet": (UNET_LOADER, random_models.random_vae, ["a VAE", "Expected a Kolors UNet", "Get unet/"]),
    "VAE as encoder": (ENCODER_LOADER, kl_vae, ["a VAE", "Expected a ChatGLM3 text encoder", "Get chatglm3-fp16"]),
    "diffusers LoRA": (UNET_LOADER, lambda: lora("diffusers"), ["a LoRA", "Expected a Kolors UNet", "Get unet/"]),
    "PEFT LoRA": (UNET_LOADER, lambda: lora("peft"), ["a LoRA", "Expected a Kolors UNet", "Get unet/"]),
    "kohya LoRA": (UNET_LOADER, lambda: lora("kohya"), ["a LoRA", "Expected a Kolors UNet", "Get unet/"]),
    "encoder as UNet": (UNET_LOADER, good_encoder, ["a ChatGLM3 text encoder", "Expected a Kolors UNet", "Get unet/"]),
    "UNet as encoder": (ENCODER_LOADER, good_unet, ["a Kolors UNet", "Expected a ChatGLM3", "Get chatglm3-fp16"]),
}


@pytest.mark.parametrize("case", OTHER_MODELS)
def test_another_model_is_named(server, put, case):
    loader, make, words = OTHER_MODELS[case]
    message = loader.refuse(server, put(loader.folder, "another-model.safetensors", make()))
    assert [word for word in words if word not in message] == [], message
    assert "Use the" in message or SOURCES in message


# ---- not a model at all ---------------------------------------------------------------------------------------------


def png() -> bytes:
    file = BytesIO()
    Image.fromarray(numpy.zeros((8, 8, 3), dtype=numpy.uint8)).save(file, "PNG")
    return file.getvalue()


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5159140240\n"
NO_MODELS = {
    "empty file": (b"", ["is empty", "0 bytes", "Download it again"]),
    "renamed PNG": (png(), ["a PNG image", "Expected a .safetensors file", "Put the right file there"]),
    "Git LFS pointer": (LFS_POINTER, ["a Git LFS pointer", "placeholder", "Expected a .safetensors file"]),
    "HTML page": (
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        ["a web page", "Expected a .safetensors file"],
    ),
    "GGUF file": (b"GGUF" + bytes(60), ["GGUF file"]),  # of which the encoder's loader reads good ones
}


@pytest.mark.parametrize("loader", [UNET_LOADER, ENCODER_LOADER, CHECKPOINT_LOADER], ids=lambda loader: loader.node)
@pytest.mark.parametrize("case", NO_MODELS)
def test_what_is_no_model_is_named(server, put, loader, case):
    content, words = NO_MODELS[case]
    message = loader.refuse(server, put(loader.folder, "no-model.safetensors", content))
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "bare"])
@pytest.mark.parametrize(
    ("loader", "name"),
    [(UNET_LOADER, "code.bin"), (ENCODER_LOADER, "code.bin"), (CHECKPOINT_LOADER, "code.ckpt")],
    ids=["unet", "encoder", "checkpoint"],
)
def test_pickle_with_code_is_named_and_not_executed(server, put, tmp_path, loader, name, zipped):
    canary = tmp_path / "canary"
    file = tmp_path / name
    torch.save(
        {"conv_in.weight": torch.zeros(2), "code": CreateFile(canary)}, file, _use_new_zipfile_serialization=zipped
    )
    assert zipfile.is_zipfile(file) is zipped
    message = loader.refuse(server, put(loader.folder, name, file.read_bytes()))
    for word in ("a pickle that wants to run code", "was not executed", "Use the .safetensors file"):
        assert word in message
    assert not canary.exists()
    torch.load(file, weights_only=False)
    assert canary.exists(), "the code would have done nothing anywhere"


# ---- a part of a model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "source"), [(UNET_LOADER, UNET), (ENCODER_LOADER, ENCODER)], ids=["unet", "encoder"]
)
def test_truncated_file_is_named_with_both_sizes(server, put, loader, source):
    whole = loader.place(server, source).read_bytes()
    message = loader.refuse(server, put(loader.folder, "truncated.safetensors", whole[: len(whole) // 2]))
    for word in ("damaged safetensors", f"{len(whole) // 2:,}", f"{len(whole):,}", "Download it again"):
        assert word in message


@pytest.mark.parametrize(
    "key",
    [
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "down_blocks.2.resnets.1.conv2.weight",
        "mid_block.attentions.0.proj_in.weight",
        "mid_block.resnets.0.conv1.bias",
        "up_blocks.0.resnets.0.norm1.weight",
        "up_blocks.2.resnets.2.conv2.weight",
        "conv_norm_out.weight",
    ],
)
def test_unet_without_one_tensor_is_named_incomplete(server, put, key):
    refuse_incomplete(server, put, UNET_LOADER, key)


def test_checkpoint_without_one_tensor_is_named_incomplete(server, put):
    refuse_incomplete(server, put, CHECKPOINT_LOADER, "mid_block.attentions.0.proj_in.weight")


def refuse_incomplete(server, put, loader: Loader, key: str) -> None:
    unet = good_unet()
    del unet[key]
    message = loader.refuse(server, put(loader.folder, "incomplete.safetensors", unet))
    for word in ("an incomplete Kolors UNet", "Download it again"):
        assert word in message, message


@pytest.mark.parametrize("layer", [0, 1])
def test_encoder_without_one_layer_is_named_incomplete(server, put, layer):
    encoder = {key: value for key, value in good_encoder().items() if not key.startswith(f"encoder.layers.{layer}.")}
    path = put(ENCODER_LOADER.folder, "incomplete.safetensors", with_tokenizer(server, encoder))
    message = ENCODER_LOADER.refuse(server, path)
    for word in ("an incomplete ChatGLM3 text encoder", f"encoder.layers.{layer}.", "missing", "Download it again"):
        assert word in message, message


@pytest.mark.parametrize("shard", [1, 2])
def test_one_shard_of_an_encoder_is_named_incomplete(server, put, shard):
    """The layers of the first shard have no gap, but the config.json beside it counts more of them."""
    rest = ("encoder.layers.2.", "encoder.final_layernorm.", "output_layer.")
    encoder = {key: value for key, value in good_encoder().items() if key.startswith(rest) is (shard == 2)}
    put(ENCODER_LOADER.folder, "sharded/config.json", json.dumps({"num_layers": 3, "kv_channels": 16}).encode())
    put(ENCODER_LOADER.folder, "sharded/tokenizer.model", random_models.random_tokenizer())
    message = ENCODER_LOADER.refuse(
        server, put(ENCODER_LOADER.folder, f"sharded/model-0000{shard}-of-00002.safetensors", encoder)
    )
    assert re.search("incomplete|part of", message), message


# ---- models that do not belong together -----------------------------------------------------------------------------


def test_encoder_of_another_width_is_named_by_the_sampler(server, put):
    sizes = random_models.Sizes(hidden=32, head_dim=16, groups=1)
    put(ENCODER_LOADER.folder, "narrow.safetensors", with_tokenizer(server, good_encoder(sizes)))
    with pytest.raises(PromptError) as failure:
        ENCODER_LOADER.load(server, "narrow.safetensors")
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KSampler")
    words = ("needs text embeddings of width 64", "width 32", "Load Kolors ChatGLM3 Text Encoder")
    for word in (*words, "belongs to this UNet"):
        assert word in str(failure.value)


def test_missing_tokenizer_is_named(server, put):
    message = ENCODER_LOADER.refuse(server, put(ENCODER_LOADER.folder, "no-tokenizer.safetensors", good_encoder()))
    for word in ("No tokenizer", "Put tokenizer.model (1,018,370 bytes) beside it", "Get text_encoder/", SOURCES):
        assert word in message


def test_tokenizer_of_another_vocabulary_is_named(server, put):
    path = put(
        ENCODER_LOADER.folder,
        "other-vocabulary/encoder.safetensors",
        random_models.random_chatglm3(random_models.TINY, 1000),
    )
    tokenizer = put(ENCODER_LOADER.folder, "other-vocabulary/tokenizer.model", random_models.random_tokenizer())
    message = ENCODER_LOADER.refuse(server, path)
    tokens = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).vocab_size() + 9
    for word in ("No tokenizer", f"{tokens} tokens", "1,024", "Put tokenizer.model", SOURCES):
        assert word in message
    assert message.count(str(tokenizer)) == 1, message


def test_tokenizer_beside_the_encoder_is_taken(server, put):
    """The counterpart of the two tests above: the same encoder with its own tokenizer loads."""
    put(ENCODER_LOADER.folder, "with-tokenizer/encoder.safetensors", good_encoder())
    put(ENCODER_LOADER.folder, "with-tokenizer/tokenizer.model", random_models.random_tokenizer())
    ENCODER_LOADER.load(server, "with-tokenizer/encoder.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
@pytest.mark.parametrize("loader", [UNET_LOADER, ENCODER_LOADER, CHECKPOINT_LOADER], ids=lambda loader: loader.node)
def test_link_that_leads_nowhere_is_a_missing_file(server, put, tmp_path, loader):
    path = put(loader.folder, "link.safetensors", b"")
    path.unlink()
    path.symlink_to(tmp_path / "moved-away.safetensors")
    with pytest.raises(PromptError, match=r"link\.safetensors was not found") as refusal:
        loader.load(server, path.name)
    assert refusal.value.kind == "validation" and str(path.parent) in str(refusal.value)
