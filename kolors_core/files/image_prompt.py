"""An image prompt as a file that diffusers takes as well, and the files in which diffusers and IPAdapter_plus keep one.

Ours is a safetensors file with one tensor, ``ip_adapter_image_embeds`` (2, i, s, w), the negatives first: a list of it
is what the pipelines of diffusers take under this name where there is guidance. Their documentation saves such a list
with torch; IPAdapter_plus saves the states (i, s, w) alone. Axes: i images, s states, w width.

Sources: ``prepare_ip_adapter_image_embeds`` of diffusers' KolorsPipeline; "IP-Adapter" in diffusers' documentation;
``IPAdapterSaveEmbeds`` of cubiq/ComfyUI_IPAdapter_plus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadFile, KolorsError, naming
from . import conditioning
from .header import TORCH, read_head
from .identify import describe
from .safetensors import write_safetensors
from .weights import read_state_dict

FORMAT = "kolors-image-prompt-1"
EMBEDS = "ip_adapter_image_embeds"
PICKLE = ".ipadpt"  # the name that both others give to theirs
STATES = 577  # of one image: (336 / 14)² patches, and one of the whole


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """What the graph calls KOLORS_IMAGE_PROMPT: penultimate states of a CLIP vision encoder, float32, on the CPU.

    images: (i, s, w). negatives: (n, s, w), in turn where there are fewer than images.
    weights: (i,), by which the values of each image's attention are scaled.
    """

    images: Tensor
    negatives: Tensor
    weights: Tensor

    @classmethod
    def of(cls, images: Tensor, negatives: Tensor) -> ImagePrompt:
        """Of states alone: each image has the weight 1."""
        return cls(images, negatives, torch.ones(len(images)))

    @property
    def negative_of_each(self) -> Tensor:
        """(i, s, w)"""
        return self.negatives[torch.arange(len(self.images)) % len(self.negatives)]


def save_image_prompt(path: Path, prompt: ImagePrompt, dtype: torch.dtype = torch.float32) -> None:
    """Write `prompt` with its states in `dtype`. The file appears whole or not at all.

    Raises KolorsError where a state is no number, or none in `dtype`.
    """
    states = torch.stack([prompt.negative_of_each, prompt.images]).to(dtype)
    if not states.isfinite().all():
        raise KolorsError(
            f"This image prompt holds values that are no numbers in {str(dtype).removeprefix('torch.')}. "
            "Save it with the precision fp32, or encode the image again."
        )
    _, count, number, width = states.shape
    metadata = {"format": FORMAT, "content": f"negatives, then {count} image(s), of {number} CLIP states of {width}"}
    if (prompt.weights != 1).any():
        metadata["weights"] = json.dumps([float(weight) for weight in prompt.weights])
    write_safetensors(path, {EMBEDS: states}, metadata)


def load_image_prompt(path: str | Path, make_negative: Callable[[], Tensor] | None = None) -> ImagePrompt:
    """Read what `save_image_prompt` wrote, or what diffusers or IPAdapter_plus saved, in float32.

    make_negative: gives states (1, s, w) where the file has no negative.
    Raises FileNotFoundError, or KolorsError where the file is another one or damaged, or lacks a negative.
    """
    tensors, metadata = read_state_dict(path)
    with naming(path):
        states = _find_states(tensors, metadata)
        weights = torch.ones(states.shape[1])
        if metadata.get("format") == FORMAT and "weights" in metadata:
            weights = _read_weights(metadata["weights"], states.shape[1])
        if len(states) == 2:
            negatives, images = states
            same = bool((negatives == negatives[:1]).all())  # as those that diffusers makes: one is enough
            return ImagePrompt(images, negatives[:1] if same else negatives, weights)
        if make_negative is None:
            raise BadFile(
                "holds an image prompt without a negative. Connect clip_vision to 'Load Kolors Image Prompt', which "
                "then makes diffusers' own, or save the image prompt again together with its negative."
            )
        negatives = make_negative()
        if negatives.shape[1:] != states.shape[2:]:
            raise BadFile(
                f"holds CLIP states of {list(states.shape[2:])}; the connected CLIP vision model's have "
                f"{list(negatives.shape[1:])}. Connect the one that the image was encoded with."
            )
        return ImagePrompt(states[0], negatives, weights)


def is_image_prompt(path: Path) -> bool:
    """Whether a file begins as one of ours or diffusers', or is named as a pickle of one; few bytes are read."""
    head = read_head(path)
    if path.suffix == PICKLE:
        return TORCH.match(head) is not None
    return FORMAT.encode() in head or EMBEDS.encode() in head


def _find_states(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Tensor:
    """(2, i, s, w) with negatives, or (1, i, s, w) without, float32 and finite."""
    if metadata.get("format") == conditioning.FORMAT:
        raise BadFile("is a conditioning. Expected an image prompt. Use 'Load Kolors Conditioning' for it.")
    if len(tensors) > 1 and all(key.isdecimal() for key in tensors):
        raise BadFile(
            f"holds the image prompts of {len(tensors)} adapters. Expected one. Save a list with one of them, "
            "torch.save([embeds[0]], path), for each adapter."
        )
    states = tensors.get(EMBEDS) if len(tensors) > 1 else next(iter(tensors.values()), None)
    if states is None or states.ndim not in (3, 4) or not states.is_floating_point():
        raise BadFile(
            f"is {describe(tensors)}. Expected an image prompt, as 'Save Kolors Image Prompt' writes it or diffusers "
            f"with torch.save: CLIP states of (2, images, {STATES}, width), the negatives first."
        )
    states = states if states.ndim == 4 else states[None]
    if len(states) not in (1, 2) or states.shape[2] != STATES or not states.numel():
        raise BadFile(
            f"holds {list(states.shape)} CLIP states, not those of Kolors' vision encoder. Expected (2, images, "
            f"{STATES}, width), the negatives first. Encode the image with clip-vit-large-patch14-336, in diffusers "
            "with num_images_per_prompt=1."
        )
    states = states.detach().to(torch.float32, copy=True)
    if not states.isfinite().all():
        raise BadFile("is a damaged image prompt: it holds values that are no numbers. Save it again.")
    return states


def _read_weights(text: str, count: int) -> Tensor:
    try:
        weights = torch.tensor(json.loads(text), dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, OverflowError, RecursionError) as error:
        raise BadFile(f"is a damaged image prompt: its weights cannot be read. Save it again. ({error})") from error
    if weights.shape != (count,) or not weights.isfinite().all():
        raise BadFile(f"is a damaged image prompt: it has {count} image(s) and the weights {text[:50]}. Save it again.")
    return weights
