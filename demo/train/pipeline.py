"""Draw with the exported files, in batches, by diffusers' own UNet, scheduler and autoencoder.

The text encoder is `kolors_core.networks.chatglm3`, which the project's tests compare with diffusers' ChatGLMModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from adapter import AdapterAttention, TinyClip, attach, build_resampler, clip_pixels
from diffusers import AutoencoderTiny, EulerDiscreteScheduler
from diffusion import SIZE_IDS, build_unet, predict
from safetensors.torch import load_file
from text import encode_short, tokenize
from torch import Tensor

from demo.random_models import taesd_name
from kolors_core.networks.chatglm3 import ChatGLM3Config, ChatGLM3Encoder
from kolors_core.networks.tokenizer import TOKENIZER_KEY, ChatGLM3Tokenizer
from kolors_core.networks.vision import IMAGE_SIZE
from kolors_core.sampling.schedule import BETA_END, BETA_START, STEPS_OFFSET, TRAIN_STEPS

FOLDERS = {
    "unet": "unet",
    "chatglm3": "text_encoder",
    "vae": "vae",
    "clip-vision": "image_encoder",
    "ip-adapter": "ip_adapter",
}  # a diffusers folder's
NAMES = {part: f"{folder}/kolors-demo-{part}.safetensors" for part, folder in FOLDERS.items()}


def scheduler() -> EulerDiscreteScheduler:
    """Kolors' scheduler_config.json."""
    return EulerDiscreteScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=STEPS_OFFSET,
    )


def vae_from(state_dict: dict[str, Tensor]) -> AutoencoderTiny:
    """diffusers' module from the stock loader's key names."""
    vae = AutoencoderTiny()
    vae.load_state_dict({key: state_dict[taesd_name(key)] for key in vae.state_dict()})
    return vae.eval()


class Pipeline:
    """The five files of `folder`, in float32 (weights as stored, rounded to half precision)."""

    def __init__(self, folder: Path, adapter: bool = True):
        def load(part: str) -> dict[str, Tensor]:
            return {
                key: tensor.float() if tensor.is_floating_point() else tensor
                for key, tensor in load_file(folder / NAMES[part]).items()
            }

        text = load("chatglm3")
        self.tokenizer = ChatGLM3Tokenizer(bytes(text.pop(TOKENIZER_KEY).tolist()), NAMES["chatglm3"])
        self.encoder = ChatGLM3Encoder(ChatGLM3Config.from_state_dict(text))
        self.encoder.load_state_dict(text, strict=False)
        self.unet = build_unet()
        self.unet.load_state_dict(load("unet"))
        self.vae = vae_from(load("vae"))
        self.adapters: list[AdapterAttention] = []
        if adapter:
            self.clip = TinyClip()
            self.clip.load_state_dict(load("clip-vision"))
            state_dict = load("ip-adapter")
            self.resampler = build_resampler(state_dict["image_proj.proj_in.weight"].shape[1])
            self.resampler.load_state_dict(from_published(state_dict))
            self.adapters = attach(self.unet)
            for number, module in enumerate(self.adapters):
                prefix = f"ip_adapter.{2 * number + 1}."
                module.to_k_ip.weight.data = state_dict[prefix + "to_k_ip.weight"]
                module.to_v_ip.weight.data = state_dict[prefix + "to_v_ip.weight"]

    @torch.no_grad()
    def tokens(self, images: Sequence[numpy.ndarray] | None, count: int) -> Tensor:
        """Image tokens (count, 16, context); without images, those of a picture of zeros, the reference's negative."""
        if images is None:
            pixels = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
        else:
            pixels = clip_pixels(torch.from_numpy(numpy.stack(images)).permute(0, 3, 1, 2).float() / 255)
        states = torch.cat([self.clip(part)[0] for part in pixels.split(16)])
        repeats = self.resampler.proj_in.in_features // states.shape[-1]  # the tower tiled to ViT-L's width
        return self.resampler(states.repeat(1, 1, repeats)).expand(count, -1, -1)

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float = 4.0,
        steps: int = 25,
        images: Sequence[numpy.ndarray] | None = None,
        weight: float = 1.0,
    ) -> numpy.ndarray:
        """Pictures uint8 (n, 128, 128, 3) of n prompts; the noise of each is that of its seed on the CPU."""
        solver = scheduler()
        solver.set_timesteps(steps)
        noise = [torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        latents = torch.cat(noise) * solver.init_noise_sigma
        guided = guidance != 1
        texts = ["" for _ in prompts] * guided + list(prompts)
        context, bias, pooled = encode_short(self.encoder, [tokenize(self.tokenizer, text) for text in texts])
        ids = torch.tensor([SIZE_IDS]).expand(len(texts), -1)
        for module in self.adapters:
            module.scale = weight if images is not None else 0.0
        if images is not None:
            parts = [self.tokens(None, len(prompts))] * guided + [self.tokens(images, len(prompts))]
            for module in self.adapters:
                module.tokens = torch.cat(parts)
        for step in solver.timesteps:
            scaled = solver.scale_model_input(latents, step)
            scaled = torch.cat([scaled, scaled]) if guided else scaled
            out = predict(self.unet, scaled, step, context, bias, pooled, ids)
            if guided:
                negative, positive = out.chunk(2)
                out = negative + guidance * (positive - negative)
            latents = solver.step(out, step, latents).prev_sample
        pixels = self.vae.decode(latents).sample / 2 + 0.5
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


#: part of a resampler's layer: diffusers' name -> the published one
RENAMES = {
    "ln0": "0.norm1",
    "ln1": "0.norm2",
    "attn.to_q": "0.to_q",
    "attn.to_out.0": "0.to_out",
    "ff.0": "1.0",
    "ff.1.net.0.proj": "1.1",
    "ff.1.net.2": "1.3",
}


def rename(key: str, table: dict[str, str]) -> str:
    """``layers.N.PART.weight`` with PART by `table`; other keys as they are."""
    if not key.startswith("layers."):
        return key
    _, number, rest = key.split(".", 2)
    part, leaf = rest.rsplit(".", 1)
    return f"layers.{number}.{table[part]}.{leaf}"


def from_published(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """IP-Adapter Plus's ``image_proj.*`` -> names of diffusers' IPAdapterPlusImageProjection."""
    ours = {theirs: name for name, theirs in RENAMES.items()}
    renamed = {}
    for key, tensor in state_dict.items():
        if not key.startswith("image_proj."):
            continue
        key = key.removeprefix("image_proj.")
        if "to_kv" in key:
            base = key.replace(".0.to_kv", ".attn.to_{}")
            for letter, part in zip("kv", tensor.chunk(2)):
                renamed[base.format(letter)] = part
        else:
            renamed[rename(key, ours)] = tensor
    return renamed
