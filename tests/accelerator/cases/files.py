"""The random models of the cases: each function writes its file where it is missing, and returns the path."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import folder_paths
import gguf_files
import sentencepiece
import torch
from control_nets import random_control_lora
from loras import RANK, random_pairs, written
from safetensors.torch import load_file, save_file
from torch import Tensor

from .pack import control_net, random_models

FOLDER = Path(folder_paths.models_dir)
TINY, MID = random_models.TINY, random_models.MID
#: A UNet for the tiny encoder whose matrices have more than 16 KB, below which hosts treat a layer in another way.
WIDER = random_models.Sizes(channels=(64, 128, 256), depth=(1, 1))
TOWER_WIDTH = 64  # of the small vision tower
SDXL_LABEL_WIDTH = 2816

StateDict = dict[str, Tensor]


def safetensors(make: Callable[[], StateDict]) -> Callable[[], str]:
    @cache
    def path() -> str:
        file = FOLDER / f"{make.__name__}.safetensors"
        if not file.is_file():
            save_file({key: tensor.contiguous() for key, tensor in make().items()}, file)
        return str(file)

    return path


@cache
def _trio() -> Path:
    random_models.write(FOLDER)
    return FOLDER


def unet() -> str:
    return str(_trio() / random_models.UNET_FILE)


def encoder() -> str:
    return str(_trio() / random_models.TEXT_ENCODER_FILE)


def vae() -> str:
    return str(_trio() / random_models.VAE_FILE)


@safetensors
def guided_unet() -> StateDict:
    return random_models.random_unet(TINY, guidance_width=256).state_dict()


def halved(path: str) -> StateDict:
    return {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in load_file(path).items()}


@safetensors
def encoder_fp16() -> StateDict:
    return halved(encoder())


@safetensors
def unet_fp16() -> StateDict:
    return halved(unet())


@safetensors
def unet_inpainting() -> StateDict:
    return random_models.random_unet(TINY, 9).state_dict()


@safetensors
def other_unet() -> StateDict:
    return random_models.random_unet(TINY, seed=1).state_dict()


@safetensors
def middle_encoder() -> StateDict:
    """Its layers are larger than 16 KB; hosts patch smaller ones in another way."""
    model = random_models.random_tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size()
    tokenizer = torch.frombuffer(bytearray(model), dtype=torch.uint8)
    return random_models.random_chatglm3(MID, pieces) | {"spiece_model": tokenizer}


@cache
def encoder_gguf() -> str:
    file = FOLDER / "encoder.gguf"
    if not file.is_file():
        gguf_files.write(file)
    return str(file)


@safetensors
def kolors_control_net() -> StateDict:
    return random_models.random_control_net(TINY).state_dict()


@safetensors
def sdxl_control_net() -> StateDict:
    return random_models.random_control_net(TINY, label_width=SDXL_LABEL_WIDTH).state_dict()


@safetensors
def control_lora() -> StateDict:
    whole = random_models.random_control_net(TINY, label_width=SDXL_LABEL_WIDTH)
    return random_control_lora(control_net.to_sd_names(whole.state_dict()))


@safetensors
def ip_adapter() -> StateDict:
    return random_models.random_ip_adapter(TINY, TOWER_WIDTH)


@safetensors
def other_ip_adapter() -> StateDict:
    return random_models.random_ip_adapter(TINY, TOWER_WIDTH, seed=1)


@safetensors
def face_adapter() -> StateDict:
    return random_models.random_face_adapter(TINY, TOWER_WIDTH)


@safetensors
def unet_lora() -> StateDict:
    return random_unet_lora(TINY)


@safetensors
def wider_unet() -> StateDict:
    return random_models.random_unet(WIDER).state_dict()


@safetensors
def wider_unet_lora() -> StateDict:
    return random_unet_lora(WIDER)


def random_unet_lora(sizes: random_models.Sizes) -> StateDict:
    pairs = random_pairs(random_models.random_unet(sizes))
    return written(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight")


@safetensors
def encoder_lora() -> StateDict:
    return random_encoder_lora(TINY, 0.2)


@safetensors
def middle_encoder_lora() -> StateDict:
    return random_encoder_lora(MID, 0.1)


def random_encoder_lora(sizes: random_models.Sizes, scale: float) -> StateDict:
    """Of the projection to queries, keys and values in each layer."""
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "lora_A.weight": (RANK, sizes.hidden),
        "lora_B.weight": (sizes.hidden + 2 * sizes.groups * sizes.head_dim, RANK),
    }
    return {
        f"base_model.model.encoder.layers.{layer}.self_attention.query_key_value.{part}": scale
        * torch.randn(shape, generator=generator)
        for layer in range(sizes.layers)
        for part, shape in shapes.items()
    }
