"""What the pack computes, case by case: the same on the CPU, as the reference, and on the device.

A case returns tensors by name. Its tolerance is a relative L2 distance from what the CPU gives in float32. It is for
import after `enter_host`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import comfy.sd
import comfy.utils
import loaders
import torch
from comfyui_kolors.demo import random_models as make
from comfyui_kolors.kolors_core.host import control_net, sampling
from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt
from comfyui_kolors.kolors_core.host.ip_adapter.face import encode_faces
from comfyui_kolors.kolors_core.host.lora import apply_lora
from comfyui_kolors.kolors_core.host.text_encoder.conditioning import encode_prompt
from control_nets import random_control_lora
from image_prompts import TOWER, host_tower, nested, picture
from kit_common import ROOT
from loras import random_pairs, written
from safetensors.torch import save_file
from sampling_runs import conditioning
from sentencepiece import SentencePieceProcessor

import nodes

PROMPTS = ("红苹果，黄色背景", "a (penguin:1.3) on a pink background")
STORAGES = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2", "int8", "int4")
UNETS = {
    "fp32": 2e-3,
    "fp16": 0.1,
    "bf16": 0.3,
    "fp8_e4m3fn": 0.6,
    "fp8_e5m2": 0.9,
    "fp8_e4m3fn_fast": 0.9,
    "default": 0.1,
}
PRESETS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde_karras", "unipc", "deis", "lcm")
CONTROLS = {"ControlNet": "control", "ControlNet of SDXL": "control-sdxl", "Control-LoRA": "control-lora"}
EXACT = 2e-3  # float32 on both sides, other kernels
CONTROLLED = 5e-3
HALF = 0.1  # half precision on a GPU
SEED = 3


@dataclass(frozen=True)
class Case:
    run: Callable[[], dict[str, torch.Tensor]]
    tolerance: float = EXACT
    on_cpu: bool = True  # False: only the device runs it


class Models:
    """The trained miniature and the tiny random Kolors, each loaded when it is first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict = {}

    def kept(self, key, make):
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def demo(self, part: str) -> str:
        (path,) = (ROOT / "demo/models").rglob(f"kolors-demo-{part}.safetensors")
        return str(path)

    def unet(self, dtype: str = "fp32"):
        return self.kept(("unet", dtype), lambda: loaders.load_unet(self.demo("unet"), dtype))

    def clip(self, storage: str = "fp32"):
        return self.kept(("clip", storage), lambda: loaders.load_text_encoder(self.demo("chatglm3"), storage))

    @cached_property
    def vae(self):
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(self.demo("vae")))

    @cached_property
    def tiny_files(self) -> Path:
        """Random files of every kind; the UNet is diffusers' own, so that names are the published ones."""
        folder = self.folder
        make.write(folder)
        network = make.random_unet(make.TINY)
        save_file(network.state_dict(), folder / "unet.safetensors")
        save_file(make.random_unet(make.TINY, in_channels=9).state_dict(), folder / "inpaint.safetensors")
        save_file(make.random_control_net(make.TINY).state_dict(), folder / "control.safetensors")
        sdxl = make.random_control_net(make.TINY, label_width=2816).state_dict()
        save_file(sdxl, folder / "control-sdxl.safetensors")
        save_file(random_control_lora(control_net.to_sd_names(sdxl)), folder / "control-lora.safetensors")
        save_file(make.random_ip_adapter(make.TINY, TOWER["hidden_size"]), folder / "plus.safetensors")
        torch.save(nested(make.random_face_adapter(make.TINY, TOWER["hidden_size"])), folder / "face.bin")
        peft = (".lora_A.weight", ".lora_B.weight")
        save_file(written(random_pairs(network), "unet.{}".format, *peft), folder / "lora.safetensors")
        tokenizer = make.random_tokenizer()
        encoder = make.random_chatglm3(make.MID, SentencePieceProcessor(model_proto=tokenizer).vocab_size())
        encoder |= make.tokenizer_tensors(tokenizer)
        save_file(encoder, folder / "encoder.safetensors")
        generator = torch.Generator().manual_seed(9)
        sizes, encoder = make.MID, {}  # hosts patch layers of at most 16 KB in another way
        for layer in range(sizes.layers):
            for name, out, into in (
                ("mlp.dense_4h_to_h", sizes.hidden, sizes.ffn),
                ("mlp.dense_h_to_4h", 2 * sizes.ffn, sizes.hidden),
            ):
                key = f"text_encoder.encoder.layers.{layer}.{name}"
                encoder[f"{key}.lora_A.weight"] = torch.randn(4, into, generator=generator) * 0.05
                encoder[f"{key}.lora_B.weight"] = torch.randn(out, 4, generator=generator) * 0.05
        save_file(encoder, folder / "lora-encoder.safetensors")
        return folder

    def tiny(self, name: str = "unet", dtype: str = "fp32"):
        return self.kept(
            ("tiny", name, dtype), lambda: loaders.load_unet(self.tiny_files / f"{name}.safetensors", dtype)
        )

    def mid_clip(self, storage: str):
        path = str(self.tiny_files / "encoder.safetensors")
        return self.kept(("mid clip", storage), lambda: loaders.load_text_encoder(path, storage))

    @cached_property
    def tower(self):
        return host_tower(self.folder)


def states(clip, text: str):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def flat(conditioning) -> torch.Tensor:
    ((context, extra),) = conditioning
    return torch.cat([context.flatten(), extra["pooled_output"].flatten()]).float()


def draw(models: Models, model, preset="euler", steps=10, size=(16, 16), batch=1, cfg=4.0, clip="fp32", image=None,
         denoise=1.0, seed=SEED, pair=None):  # fmt: skip
    """Final latents of the miniature by the node's own function."""
    pair = pair or [states(models.clip(clip), text) for text in (PROMPTS[0], "")]
    latent = {"samples": torch.zeros(batch, 4, *size) if image is None else image}
    return sampling.sample(model, seed, steps, cfg, preset, *pair, latent, denoise)["samples"]


def tiny_sample(model, pair=None, preset="euler", steps=6, batch=1, latent=None, cfg=5.0):
    latent = latent or {"samples": torch.zeros(batch, 4, 16, 16)}
    return sampling.sample(model, 7, steps, cfg, preset, *(pair or conditioning()), latent, 1.0)["samples"]


def cases(models: Models) -> dict[str, Case]:
    """All cases by name, the most telling first."""
    found: dict[str, Case] = {}

    def add(name: str, run, tolerance: float = EXACT, on_cpu: bool = True) -> None:
        """run: gives tensors by name, or one alone."""

        def named() -> dict[str, torch.Tensor]:
            value = run()
            return value if isinstance(value, dict) else {"value": value}

        found[name] = Case(named, tolerance, on_cpu)

    # ---- the miniature ----
    for storage in STORAGES:
        add(f"text {storage}", lambda s=storage: {t: flat(states(models.clip(s), t)) for t in (*PROMPTS, "")})

    def drawn(dtype):
        latent = draw(models, models.unet(dtype), steps=25, clip="fp32" if dtype == "fp32" else "default")
        return {"latent": latent, "picture": models.vae.decode(latent).float()}

    def image_to_image():
        image = draw(models, models.unet(), steps=6)
        return draw(models, models.unet(), "dpmpp_2m_karras", 12, image=image, denoise=0.6, seed=5)

    for dtype, tolerance in UNETS.items():
        add(f"picture, UNet {dtype}", lambda d=dtype: drawn(d), tolerance, dtype != "fp8_e4m3fn_fast")
    for preset in PRESETS:
        add(f"preset {preset}", lambda p=preset: draw(models, models.unet(), p, 12))
    add("image to image", image_to_image)
    add("batch of 3, 192 x 128, cfg 1", lambda: draw(models, models.unet(), steps=6, size=(16, 24), batch=3, cfg=1.0))
    add("VAE encode", lambda: models.vae.encode(square()), HALF)  # bf16 on a GPU
    add("Kolors Prompt Encode, 512 tokens and sizes", lambda: flat(long_prompt(models)))

    # ---- random models of every other kind ----
    add("LoRA on the UNet", lambda: tiny_sample(lora(models)))
    add("LoRA on an fp16 UNet", lambda: tiny_sample(lora(models, "fp16")), HALF)
    add("LoRA on an fp8 UNet", lambda: tiny_sample(lora(models, "fp8_e4m3fn")), 0.9)
    for storage in ("fp16", "fp8_e4m3fn", "int8", "int4"):
        run = lambda s=storage: flat(states(encoder_lora(models, s), PROMPTS[0]))  # noqa: E731
        add(f"LoRA on the encoder in {storage}", run, 0.2 if storage.startswith("fp8") else 1e-2)
    add("IP-Adapter", lambda: tiny_sample(adapter(models)))
    part = {"start": 0.1, "end": 0.8, "kind": "style and composition"}
    add("IP-Adapter, mask, part of the schedule, style", lambda: tiny_sample(adapter(models, mask=disc(), **part)))
    add("IP-Adapter, one picture per latent", lambda: tiny_sample(adapter(models, images=2, each=True), batch=2))
    add("FaceID", lambda: tiny_sample(face(models)))
    for title, name in CONTROLS.items():
        run = lambda name=name: tiny_sample(models.tiny(), controlled(models, name))  # noqa: E731
        add(title, run, CONTROLLED)
    both = ("control", "control-sdxl")
    run = lambda: tiny_sample(adapter(models), controlled(models, *both))  # noqa: E731
    add("two ControlNets and an IP-Adapter", run, CONTROLLED)
    add("inpainting, 9 channels", lambda: inpaint(models, "inpaint", True), HALF)
    add("inpainting, 4 channels with a mask", lambda: inpaint(models, "unet", False), HALF)
    add("stock KSampler", lambda: stock(models))
    add("half merged with itself", lambda: tiny_sample(merged(models)))
    add("saved and loaded in one file", lambda: tiny_sample(saved(models)), HALF)
    add("UNet of SDXL's schedule", lambda: tiny_sample(sdxl_schedule(models)))
    return found


def square():
    return picture(128, 128)


def disc():
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    return ((y - 50) ** 2 + (x - 71) ** 2 < 37**2).float()[None]


def long_prompt(models):
    size = {"width": 1024, "height": 768, "crop_w": 8, "target_width": 512}
    return encode_prompt(models.clip(), "，".join([PROMPTS[0]] * 60), 512, size)


def lora(models, dtype="fp32"):
    return apply_lora(models.tiny(dtype=dtype), None, str(models.tiny_files / "lora.safetensors"), 0.8, 0.0)[0]


def encoder_lora(models, storage):
    path = str(models.tiny_files / "lora-encoder.safetensors")
    return apply_lora(models.tiny(), models.mid_clip(storage), path, 1.0, 0.7)[1]


def adapter(models, start=0.0, end=1.0, kind="linear", mask=None, images=1, each=False):
    loaded = models.kept("plus", lambda: ip_adapter.load_ip_adapter(models.tiny_files / "plus.safetensors"))
    pictures = torch.cat([picture(seed=seed + 1) for seed in range(images)])
    influence = ip_adapter.Influence(0.8, start, end, kind, mask, each)
    return ip_adapter.apply_image_prompt(models.tiny(), loaded, image_prompt.encode(models.tower, pictures), influence)


def face(models):
    loaded = models.kept("face", lambda: ip_adapter.load_ip_adapter(models.tiny_files / "face.bin"))
    embedding = torch.randn(1, 512, generator=torch.Generator().manual_seed(1)) * 20
    tokens = encode_faces(loaded, models.tower, (embedding, picture(336, 336)))
    return ip_adapter.apply(models.tiny(), loaded, tokens, ip_adapter.Influence(0.8, 0.0, 1.0))


def controlled(models, *names):
    pair = conditioning()
    for name in names:
        path = str(models.tiny_files / f"{name}.safetensors")
        loaded = models.kept(name, lambda path=path: control_net.load_control_net(path, models.tiny()))
        pair = nodes.ControlNetApplyAdvanced().apply_controlnet(*pair, loaded, picture(128, 128), 0.7, 0.0, 0.9)
    return pair


def inpaint(models, unet, in_model):
    if in_model:
        *pair, latent = nodes.InpaintModelConditioning().encode(*conditioning(), square(), models.vae, disc(), True)
    else:
        pair, latent = conditioning(), {"samples": models.vae.encode(square()), "noise_mask": disc()[:, None]}
    return tiny_sample(models.tiny(unet), pair, latent=latent)


def stock(models):
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return nodes.common_ksampler(models.tiny(), 7, 6, 5.0, "dpmpp_2m", "karras", *conditioning(), latent)[0]["samples"]


def merged(models):
    model, other = models.tiny().clone(), lora(models)
    for key, patch in other.get_key_patches("diffusion_model.").items():
        model.add_patches({key: patch}, 0.5, 0.5)
    return model


def saved(models):
    path = models.folder / "saved.safetensors"
    comfy.sd.save_checkpoint(str(path), models.tiny(), models.mid_clip("fp16"), models.vae)
    return loaders.load_checkpoint(str(path))[0]


def sdxl_schedule(models):
    return sampling.set_sampling(models.tiny(), "sdxl")
