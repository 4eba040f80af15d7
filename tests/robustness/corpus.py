"""Good small files of every kind that the pack reads, as the starting points of damaged ones."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import sentencepiece
import torch
from comfyui_kolors.demo.random_models import (
    TINY,
    random_chatglm3,
    random_control_net,
    random_face_adapter,
    random_ip_adapter,
    random_tokenizer,
    random_unet,
    random_vae,
)
from comfyui_kolors.kolors_core.networks.quantization import quantize
from control_nets import random_control_lora
from image_prompts import nested
from loras import metadata_of, random_pairs, written
from mutations import to_bytes, torch_bytes
from torch import Tensor

#: As small as the topology allows: what is damaged does not depend on the size, and a thousand files are read.
SIZES = replace(TINY, layers=2, depth=(1, 1), context=64)
IMAGE_WIDTH = 64  # of the vision tower that the adapters read
TOKENIZER = random_tokenizer()
PIECES = sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER).vocab_size()

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Good:
    """A file that loads and works, and what lies beside it.

    read: takes `Readers` and a path; loads the file and uses what came out once. tensors: empty where the file has
    none, then `data` is its content. file: its name, any name if empty. beside: other files of the folder by name.
    """

    name: str
    tensors: Tensors
    read: Callable
    suffix: str = ".safetensors"
    metadata: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    file: str = ""
    beside: dict[str, bytes] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.data or to_bytes(self.tensors, self.suffix, self.metadata)


class Readers:
    """The pack's functions behind the nodes: each gets a path, loads the file, and uses what it loaded once."""

    def __init__(self, folder: Path):
        import loaders
        from comfyui_kolors.kolors_core.host import control_net, lora, unet
        from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
        from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt
        from safetensors.torch import save_file

        unet.register()
        self.loaders, self.adapters, self.control_nets, self.loras = loaders, ip_adapter, control_net, lora
        self.image_prompts = image_prompt
        save_file(unet_tensors(), folder / "model.safetensors")
        self.model = loaders.load_unet(folder / "model.safetensors")
        save_file(random_ip_adapter(SIZES, IMAGE_WIDTH, depth=1), folder / "adapter.safetensors")
        self.plus = ip_adapter.load_ip_adapter(folder / "adapter.safetensors")
        self.prompt = [[torch.randn(1, 20, SIZES.hidden), {"pooled_output": torch.randn(1, SIZES.hidden)}]]
        self.picture = torch.randn(1, 30, IMAGE_WIDTH)

    def sample(self, model, positive=None) -> Tensor:
        import comfy.sample

        latent = torch.zeros(1, 4, 8, 8)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
        positive = positive or self.prompt
        options = {"disable_pbar": True, "seed": 1}
        return comfy.sample.sample(
            model, noise, 1, 1.0, "euler", "normal", positive, self.prompt, latent.clone(), **options
        )

    def unet(self, path):
        self.sample(self.loaders.load_unet(path))

    def encoder(self, path):
        clip = self.loaders.load_text_encoder(path)
        clip.encode_from_tokens_scheduled(clip.tokenize("a red apple"))

    def packed_encoder(self, path):
        clip = self.loaders.load_text_encoder(path, "int4")
        clip.encode_from_tokens_scheduled(clip.tokenize("a red apple"))

    def checkpoint(self, path):
        model, clip, vae = self.loaders.load_checkpoint(path)
        positive = clip.encode_from_tokens_scheduled(clip.tokenize("a red apple")) if clip else None
        latent = self.sample(model, positive)
        if getattr(vae, "first_stage_model", None) is not None:
            vae.decode(latent)

    def adapter(self, path):
        adapter = self.adapters.load_ip_adapter(path)
        faces = [torch.randn(1, 512)] * 2 if adapter.config.is_face else None
        tokens = self.adapters.encode_states(adapter, [self.picture] * 2, faces)
        self.sample(self.adapters.apply(self.model, adapter, tokens, self.adapters.Influence(1.0, 0.0, 1.0)))

    def control_net(self, path):
        control_net = self.control_nets.load_control_net(path, self.model)
        hint = control_net.copy().set_cond_hint(torch.rand(1, 3, 64, 64), 1.0, (0.0, 1.0))
        self.sample(self.model, [[states, extra | {"control": hint}] for states, extra in self.prompt])

    def lora(self, path):
        self.sample(self.loras.apply_lora(self.model, None, path, 1.0, 1.0)[0])

    def conditioning(self, path):
        from comfyui_kolors.kolors_core.files.conditioning import load_conditioning

        self.sample(self.model, load_conditioning(path))

    def image_prompt(self, path):
        prompt, influence = self.image_prompts.load(path), self.adapters.Influence(1.0, 0.0, 1.0)
        self.sample(self.adapters.apply_image_prompt(self.model, self.plus, prompt, influence))

    def tokenizer(self, path):
        from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer

        tokenizer = ChatGLM3Tokenizer.from_file(path)
        tokenizer.decode(tokenizer.encode_weighted([("a red ", 1.0), ("一只苹果", 1.2)]).ids)


def unet_tensors(channels: int = 4) -> Tensors:
    return dict(random_unet(SIZES, channels).state_dict())


def encoder_tensors(bits: int | None = None) -> Tensors:
    tensors = random_chatglm3(SIZES, PIECES)
    if bits:
        for key in [key for key in tensors if key.startswith("encoder.layers") and tensors[key].ndim == 2]:
            tensors[key], tensors[f"{key}_scale"] = quantize(tensors[key], bits)
    return tensors | {"spiece_model": torch.frombuffer(bytearray(TOKENIZER), dtype=torch.uint8)}


def without_tokenizer(tensors: Tensors, prefix: str = "") -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items() if key != "spiece_model"}


def conditioning_tensors() -> tuple[Tensors, dict[str, str]]:
    from comfyui_kolors.kolors_core.files.conditioning import FORMAT

    tensors = {"0.states": torch.randn(1, 20, SIZES.hidden), "0.pooled_output": torch.randn(1, SIZES.hidden)}
    entries = json.dumps([{"padding": 237, "extra": {"width": 64, "height": 64}}])
    return tensors, {"format": FORMAT, "entries": entries}


def image_prompt_tensors() -> tuple[Tensors, dict[str, str]]:
    from comfyui_kolors.kolors_core.files.image_prompt import EMBEDS, FORMAT, STATES

    return {EMBEDS: torch.randn(2, 1, STATES, IMAGE_WIDTH)}, {"format": FORMAT, "weights": "[0.5]"}


def sharded(encoder: Tensors, suffix: str, index: str) -> tuple[str, dict[str, bytes]]:
    """(first shard's name, all files by name) of an encoder in two files, as Hugging Face's folders have it."""
    names = [f"model-0000{number}-of-00002{suffix}" for number in (1, 2)]
    places = {key: names[key.startswith("encoder.layers.1")] for key in encoder}
    files = {name: to_bytes({k: t for k, t in encoder.items() if places[k] == name}, suffix, {}) for name in names}
    files[index] = json.dumps({"metadata": {}, "weight_map": places}).encode()
    files["config.json"] = json.dumps({"num_layers": SIZES.layers, "kv_channels": SIZES.head_dim}).encode()
    return names[0], files | {"tokenizer.model": TOKENIZER}


def gguf_bytes() -> bytes:
    from gguf_files import write

    with TemporaryDirectory() as folder:
        path, _ = write(Path(folder, "encoder.gguf"), "Q8_0", sizes=SIZES)
        return Path(path).read_bytes()


def good_files() -> list[Good]:
    """One of every kind and layout."""
    from comfyui_kolors.kolors_core.host.control_net import to_sd_names
    from comfyui_kolors.kolors_core.host.unet_file import extract_unet

    unet = unet_tensors()
    sd_unet = {f"model.diffusion_model.{key}": value for key, value in extract_unet(unet)[0].items()}
    half = {key: value.half() for key, value in unet.items()}
    encoder = encoder_tensors()
    encoder_keys = {key: f"chatglm3.transformer.{key}" for key in encoder} | {"spiece_model": "spiece_model"}
    checkpoint = sd_unet | {f"text_encoders.{encoder_keys[key]}": value for key, value in encoder.items()}
    checkpoint |= {f"first_stage_model.{key}": value for key, value in random_vae().items()}
    control_net = dict(random_control_net(SIZES).state_dict())
    sdxl = to_sd_names(dict(random_control_net(SIZES, label_width=2816).state_dict()))
    plus, face = random_ip_adapter(SIZES, IMAGE_WIDTH, depth=1), random_face_adapter(SIZES, IMAGE_WIDTH, depth=1)
    pairs = random_pairs(random_unet(SIZES))
    diffusers_lora = written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    peft_lora = written(pairs, "base_model.model.{}".format, ".lora_A.weight", ".lora_B.weight")
    kohya_lora = written(pairs, lambda m: "lora_unet_" + m.replace(".", "_"), ".lora_down.weight", ".lora_up.weight", 4)
    config = {"config": json.dumps({"kv_channels": SIZES.head_dim, "num_layers": SIZES.layers})}
    no_tokenizer = without_tokenizer({k: t for k, t in encoder.items() if not k.startswith("rotary")})
    beside = {"config.json": config["config"].encode(), "tokenizer.model": TOKENIZER}
    conditioning, entries = conditioning_tensors()
    image_prompt, weights = image_prompt_tensors()
    goods = [
        Good("unet in diffusers layout", unet, Readers.unet),
        Good("unet in fp16", half, Readers.unet),
        Good("unet as a pickle", unet, Readers.unet, ".bin"),
        Good("inpainting unet", unet_tensors(9), Readers.unet),
        Good("unet in sd layout", sd_unet, Readers.unet),
        Good("encoder", encoder, Readers.encoder),
        Good("encoder in fp16", {k: t.half() if t.is_floating_point() else t for k, t in encoder.items()},
             Readers.encoder),
        Good("encoder to be packed", encoder, Readers.packed_encoder),
        Good("encoder with a config in it", encoder, Readers.encoder, metadata=config),
        Good("encoder with files beside it", no_tokenizer, Readers.encoder, beside=beside),
        Good("encoder with the prefix transformer.", without_tokenizer(encoder, "transformer."), Readers.encoder,
             beside=beside),
        Good("encoder in 8 bits", encoder_tensors(8), Readers.encoder),
        Good("encoder in 4 bits", encoder_tensors(4), Readers.encoder),
        Good("encoder as a pickle", encoder, Readers.encoder, ".bin"),
        Good("checkpoint", checkpoint, Readers.checkpoint),
        Good("checkpoint as a pickle", checkpoint, Readers.checkpoint, ".ckpt"),
        Good("control net", control_net, Readers.control_net),
        Good("sdxl control net", sdxl, Readers.control_net),
        Good("control lora", random_control_lora(sdxl), Readers.control_net),
        Good("ip-adapter", plus, Readers.adapter),
        Good("ip-adapter as a pickle", nested(plus), Readers.adapter, ".bin"),
        Good("face adapter", face, Readers.adapter),
        Good("lora of diffusers", diffusers_lora, Readers.lora, metadata=metadata_of(8)),
        Good("lora of peft", peft_lora, Readers.lora, file="adapter_model.safetensors",
             beside={"adapter_config.json": json.dumps({"r": 4, "lora_alpha": 8}).encode()}),
        Good("lora of kohya", kohya_lora, Readers.lora, ".ckpt"),
        Good("conditioning", conditioning, Readers.conditioning, metadata=entries),
        Good("image prompt", image_prompt, Readers.image_prompt, metadata=weights),
        Good("image prompt as a pickle", image_prompt, Readers.image_prompt, ".ipadpt"),
        Good("image prompt of diffusers", {}, Readers.image_prompt, ".ipadpt",
             data=torch_bytes([*image_prompt.values()])),
        Good("tokenizer", {}, Readers.tokenizer, ".model", data=TOKENIZER),
    ]  # fmt: skip
    for suffix, index in ((".safetensors", "model.safetensors.index.json"), (".bin", "pytorch_model.bin.index.json")):
        name, files = sharded(without_tokenizer(encoder), suffix, index)
        goods.append(
            Good(f"shards of {suffix}", {}, Readers.encoder, suffix, data=files.pop(name), file=name, beside=files)
        )
    if importlib.util.find_spec("gguf"):
        goods.append(Good("encoder as gguf", {}, Readers.encoder, ".gguf", data=gguf_bytes()))
    return goods
