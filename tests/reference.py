"""The reference implementation, diffusers' Kolors classes, at the sizes of the tests."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import diffusers
import torch
from comfyui_kolors.demo.random_models import MID, TINY, Sizes, random_chatglm3
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

SIZES = {"tiny": TINY, "mid": MID}
TOLERANCE = 1e-4  # relative L2, float32
LATENT_TOLERANCE = 1e-3  # of final latents
COMMUNITY = os.environ.get("DIFFUSERS_COMMUNITY")  # the folder examples/community of a checkout of diffusers
NO_COMMUNITY = "no community pipelines of diffusers: set DIFFUSERS_COMMUNITY to that folder"


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance, in double precision."""
    found, expected = found.double(), expected.double()
    return ((found - expected).norm() / expected.norm()).item()


def build_chatglm3(sizes: Sizes, pieces: int = 471) -> ChatGLMModel:
    """The reference's text encoder with the random weights of `random_chatglm3`."""
    state_dict = random_chatglm3(sizes, pieces)
    config = ChatGLMConfig(
        num_layers=sizes.layers,
        padded_vocab_size=state_dict["embedding.word_embeddings.weight"].shape[0],
        hidden_size=sizes.hidden,
        ffn_hidden_size=sizes.ffn,
        kv_channels=sizes.head_dim,
        num_attention_heads=sizes.hidden // sizes.head_dim,
        multi_query_attention=True,
        multi_query_group_num=sizes.groups,
        add_qkv_bias=True,
        add_bias_linear=False,
        seq_length=8192,
        original_rope=True,
        torch_dtype=torch.float32,
    )
    model = ChatGLMModel(config).eval()
    model.load_state_dict(state_dict)
    return model


@torch.no_grad()
def encode(model: ChatGLMModel, prompts: list[list[int]], rows: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Context (p, rows, h) and pooled (p, h) as diffusers' pipeline takes them, of token lists with prefix."""
    ids = torch.tensor([[0] * (rows - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (rows - len(p)) + [1] * len(p) for p in prompts])
    positions = torch.tensor([[0] * (rows - len(p)) + list(range(len(p))) for p in prompts])
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    return output.hidden_states[-2].permute(1, 0, 2), output.hidden_states[-1][-1]


#: Kolors' own scheduler_config.json; every other scheduler is made from it, as the model card does.
SCHEDULER_CONFIG = {
    "num_train_timesteps": 1100,
    "beta_start": 0.00085,
    "beta_end": 0.014,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
SCHEDULERS = {
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpmpp_2m_sde_karras": (
        diffusers.DPMSolverMultistepScheduler,
        {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "deis": (diffusers.DEISMultistepScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
}
SDXL_TABLE = {"num_train_timesteps": 1000, "beta_end": 0.012}


def build_scheduler(preset: str, **changes):
    """The reference's scheduler behind one of our presets; `changes` of its configuration."""
    kind, options = SCHEDULERS[preset]
    return kind.from_config(diffusers.EulerDiscreteScheduler(**SCHEDULER_CONFIG | changes).config, **options)


def community(name: str):
    """A file of diffusers' community pipelines as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(COMMUNITY) / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_pipeline(unet, scheduler, kind: str | type = "text", **options):
    """diffusers' Kolors pipeline for "text", "image" (to image) or "pag", or another class; no text encoder, silent."""
    pipelines = {
        "text": diffusers.KolorsPipeline,
        "image": diffusers.KolorsImg2ImgPipeline,
        "pag": diffusers.KolorsPAGPipeline,
    }
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4  # four levels: 8 pixels per latent cell
    vae = diffusers.AutoencoderKL(block_out_channels=(32,) * 4, down_block_types=down, up_block_types=up)
    pipe = pipelines.get(kind, kind)(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler,
        force_zeros_for_empty_prompt=False, **options,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe
