"""The same Kolors on both sides: in the host's sampling stack, and in diffusers' pipeline; and the host's own SDXL.

Import this before torch: it sets the threads.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ.get("KOLORS_BENCH_THREADS", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import conftest  # noqa: F401 - makes the pack and the host importable

# isort: split
import comfy.utils
import torch
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import MID, Sizes
from comfyui_kolors.kolors_core.host import sampling

CFG = 5.0
SEED = 7
WORDS = "a red apple on a yellow background, 一只猫在雪地里, a portrait of an old man"
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
comfy.utils.set_progress_bar_enabled(False)


@dataclass(frozen=True)
class Sides:
    """ours: MODEL and CLIP of the host. theirs: diffusers' pipeline of the same weights. sdxl: the host's own MODEL."""

    folder: Path
    sizes: Sizes
    model: Any
    clip: Any
    pipe: Any
    sdxl: Any


@contextmanager
def build(sizes: Sizes = MID) -> Iterator[Sides]:
    """Both sides of random weights, from files in a folder that goes with this block."""
    import loaders
    from comfyui_kolors.kolors_core.host import unet
    from reference import build_chatglm3, build_pipeline, build_scheduler

    unet.register()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_models.write(folder, sizes)
        model = loaders.load_unet(str(folder / random_models.UNET_FILE))
        clip = loaders.load_text_encoder(str(folder / random_models.TEXT_ENCODER_FILE))
        tokenizer, pieces = reference_tokenizer(folder)
        pipe = build_pipeline(random_models.random_unet(sizes), build_scheduler("euler"))
        pipe.register_modules(tokenizer=tokenizer, text_encoder=build_chatglm3(sizes, pieces))
        yield Sides(folder, sizes, model, clip, pipe, build_sdxl(model))


def reference_tokenizer(folder: Path):
    """diffusers' tokenizer with the pieces of the random models, and their number."""
    import sentencepiece
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    path = folder / "tokenizer.model"
    path.write_bytes(random_models.random_tokenizer())
    return ChatGLMTokenizer(str(path)), sentencepiece.SentencePieceProcessor(model_file=str(path)).vocab_size()


def build_sdxl(kolors):
    """The host's own SDXL with the blocks of this Kolors: the same weights, but SDXL's text and label inputs."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    layout = {k: v for k, v in kolors.model.model_config.unet_config.items() if k != "encoder_hid_dim"}
    config = comfy.supported_models.SDXL(layout | {"adm_in_channels": 2816})
    device = comfy.model_management.get_torch_device()
    weights = kolors.model.diffusion_model.state_dict()
    weights["label_emb.0.0.weight"] = weights["label_emb.0.0.weight"].new_zeros(
        len(weights["label_emb.0.0.weight"]), 2816
    )
    model = config.get_model(weights, "", device="cpu")
    model.diffusion_model.load_state_dict({k: v for k, v in weights.items() if "encoder_hid_proj" not in k})
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def with_attention(model, name: str):
    """A clone whose attention is the host's function of that name."""
    import inspect

    from comfy.ldm.modules import attention

    function = inspect.unwrap(getattr(attention, f"attention_{name}"))
    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = lambda _, *args, **options: function(
        *args, **options
    )
    return clone


@dataclass(frozen=True)
class Prompts:
    """States of a positive and a negative prompt, as the encoder gives them: contexts, then pooled."""

    contexts: tuple[torch.Tensor, torch.Tensor]
    pooled: tuple[torch.Tensor, torch.Tensor]

    @property
    def conditioning(self):
        return [[[context, {"pooled_output": pooled}]] for context, pooled in zip(self.contexts, self.pooled)]


def random_prompts(width: int, tokens: int = 20, negative: int = 2, rows: int = 256, pooled: int | None = None):
    """Random states of prompts of so many tokens in so many rows; the rows before are one padded row, repeated."""
    generator = torch.Generator().manual_seed(tokens)

    def states(count: int) -> torch.Tensor:
        distinct = torch.randn(1, min(count + 1, rows), width, generator=generator)
        return torch.cat((distinct[:, :1].expand(-1, rows - distinct.shape[1], -1), distinct), dim=1)

    contexts = states(tokens), states(negative)
    return Prompts(contexts, tuple(torch.randn(1, pooled or width, generator=generator) for _ in contexts))


@torch.inference_mode()
def sample(model, prompts: Prompts, cells: int, steps: int, batch: int = 1, **options) -> torch.Tensor:
    """Final latents by the node's own function, guided, from noise."""
    latent = {"samples": torch.zeros(batch, 4, cells, cells)}
    return sampling.sample(model, SEED, steps, CFG, "euler", *prompts.conditioning, latent, 1.0)["samples"]


@torch.inference_mode()
def sample_reference(pipe, prompts: Prompts, cells: int, steps: int, batch: int = 1, **options) -> torch.Tensor:
    """The same by diffusers, from the same noise: in half precision its own is another one than in float32."""
    noise = torch.randn(batch, 4, cells, cells, generator=torch.Generator().manual_seed(SEED))
    return pipe(
        latents=noise.to(prompts.contexts[0]), prompt_embeds=prompts.contexts[0].repeat(batch, 1, 1),
        negative_prompt_embeds=prompts.contexts[1].repeat(batch, 1, 1),
        pooled_prompt_embeds=prompts.pooled[0].repeat(batch, 1),
        negative_pooled_prompt_embeds=prompts.pooled[1].repeat(batch, 1),
        height=8 * cells, width=8 * cells, num_inference_steps=steps, guidance_scale=CFG, output_type="latent",
        **options,
    ).images  # fmt: skip


def check_equal(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-3) -> float:
    """Relative L2 error of our latents, which are the host's."""
    from sampling_runs import SCALE

    return compare(ours * SCALE, theirs, tolerance)


def compare(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> float:
    """Relative L2 error of ours; a benchmark of unequal work says nothing, so one beyond `tolerance` is raised."""
    from reference import relative_error

    error = relative_error(ours.cpu(), theirs.cpu())
    if not error <= tolerance:
        raise AssertionError(
            f"the two sides do not do the same work: they differ by {error:.1e}, at most {tolerance:g}"
        )
    return error
