"""Write the trained parts as half-precision safetensors under the published key names.

    python demo/train/export.py [FOLDER]

Parts that are not trained yet are left out. FOLDER is demo/models/kolors-demo by default.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from adapter import EXPANSION, HEADS, PATCH, PROJECTION, WIDTH, Namer, adapter_parts, attach
from common import MODELS, WORK, log, start
from diffusion import build_unet, load_autoencoder, load_diffusion
from pipeline import NAMES, RENAMES, rename
from safetensors.torch import save_file
from text import FFN, GROUPS, HEAD, HIDDEN, LAYERS, build_encoder, load_tokenizer
from torch import Tensor

from demo.random_models import taesd_names, tokenizer_tensors
from kolors_core.networks.vision import IMAGE_SIZE

SDXL_SCALE = 0.13025  # makes the latents those of SDXL, for which ComfyUI takes them


def save(folder: Path, part: str, state_dict: dict[str, Tensor], config: dict | None = None) -> None:
    """Write one file in half precision; refuses values that half precision cannot hold."""
    half = {}
    for key, tensor in state_dict.items():
        half[key] = tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        if tensor.is_floating_point() and not half[key].isfinite().all():
            raise ValueError(f"{key} of {NAMES[part]} does not fit half precision.")
    path = folder / NAMES[part]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(half, partial, metadata={"format": "pt"} | ({"config": json.dumps(config)} if config else {}))
    partial.replace(path)
    log(f"{path.name} {path.stat().st_size:,} bytes")


def trained(name: str) -> dict[str, Tensor]:
    """The averaged weights of a training run."""
    return torch.load(WORK / f"{name}.pt", weights_only=True)["average"]["shadow"]


def published_resampler(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' IPAdapterPlusImageProjection -> IP-Adapter's ``image_proj.*``, for states copied `EXPANSION` times."""
    published = {}
    for key, tensor in state_dict.items():
        if ".attn.to_v." in key:
            continue
        if key == "proj_in.weight":
            tensor = (tensor / EXPANSION).repeat(1, EXPANSION)
        if ".attn.to_k." in key:
            tensor = torch.cat((tensor, state_dict[key.replace("to_k", "to_v")]))
            key = key.replace(".attn.to_k.", ".0.to_kv.")
        else:
            key = rename(key, RENAMES)
        published[f"image_proj.{key}"] = tensor
    return published


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    start()
    save(folder, "vae", taesd_names(load_autoencoder().state_dict(), SDXL_SCALE))
    tokenizer = load_tokenizer()
    encoder, unet = build_encoder(tokenizer), build_unet()
    load_diffusion(encoder, unet)
    save(folder, "unet", unet.state_dict())
    text = encoder.state_dict()
    text["encoder.final_layernorm.weight"] = torch.ones(HIDDEN)  # Kolors never runs it
    text |= tokenizer_tensors(tokenizer.model)
    config = {
        "hidden_size": HIDDEN,
        "num_layers": LAYERS,
        "kv_channels": HEAD,
        "num_attention_heads": HIDDEN // HEAD,
        "multi_query_attention": True,
        "multi_query_group_num": GROUPS,
        "ffn_hidden_size": FFN,
        "padded_vocab_size": encoder.config.vocab_size,
        "layernorm_epsilon": 1e-5,
    }
    save(folder, "chatglm3", text, config)
    if (WORK / "tower.pt").is_file():
        namer = Namer()
        namer.load_state_dict(trained("tower"))
        config = {
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_attention_heads": HEADS,
            "num_hidden_layers": len(namer.clip.vision_model.encoder.layers),
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "projection_dim": PROJECTION,
            "hidden_act": "quick_gelu",
        }
        save(folder, "clip-vision", namer.clip.state_dict(), config)
    if (WORK / "adapter.pt").is_file():
        adapters = attach(unet)
        adapter_parts(namer, adapters).load_state_dict(trained("adapter"))
        state_dict = published_resampler(namer.resampler.state_dict())
        for number, module in enumerate(adapters):
            state_dict[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = module.to_k_ip.weight.data
            state_dict[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = module.to_v_ip.weight.data
        save(folder, "ip-adapter", state_dict)
    log(f"together {sum(file.stat().st_size for file in folder.glob('*/*.safetensors')):,} bytes")


if __name__ == "__main__":
    main()
