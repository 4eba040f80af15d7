"""Image prompts as values in the graph: encoded by the vision encoder, combined, and kept in files.

What is encoded once can be combined, weighted and applied in many ways; only applying needs an adapter.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path
from weakref import WeakKeyDictionary

import comfy.model_management
import torch
from torch import Tensor

from ...errors import KolorsError, check_numbers
from ...files.image_prompt import PICKLE, ImagePrompt, is_image_prompt, load_image_prompt
from ...networks.vision import IMAGE_SIZE, pixel_values
from ..messages import count_steps
from ..saved_files import SavedFiles

FILES = SavedFiles("Save Kolors Image Prompt", "image_prompts/kolors", is_image_prompt, (".safetensors", PICKLE))
#: States of the reference's negative image by vision encoder, which never change.
NEGATIVE_STATES: WeakKeyDictionary = WeakKeyDictionary()
VISION_ENCODER_HINT = "Load CLIP Vision with clip-vit-large-patch14-336 of Kolors-IP-Adapter-Plus/image_encoder"
METHODS = ("concat", "average", "weighted sum", "difference")


@torch.no_grad()
def encode(clip_vision, images: Tensor, negative: Tensor | None = None) -> ImagePrompt:
    """The image prompt of images (i, height, width, 3) and negative ones; without those, of the reference's."""
    return ImagePrompt.of(vision_states(clip_vision, images), vision_states(clip_vision, negative))


def load(path: Path, clip_vision=None) -> ImagePrompt:
    """Read a file; `clip_vision` makes the reference's negative where it has none.

    Raises KolorsError where the file is another one or damaged, or lacks a negative.
    """
    return load_image_prompt(path, None if clip_vision is None else lambda: vision_states(clip_vision, None))


def vision_states(clip_vision, images: Tensor | None) -> Tensor:
    """Penultimate hidden states (i, s, width), float32, of images (i, height, width, 3) after the reference's resize.

    Without images: of one that is all zero after the normalisation, the reference's negative image.
    Raises KolorsError where the vision encoder does not take 336 pixels.
    """
    size = getattr(clip_vision, "image_size", None)
    if size != IMAGE_SIZE:
        raise KolorsError(
            f"This CLIP vision model takes images of {size} pixels a side. Kolors' IP-Adapters expect {IMAGE_SIZE}. "
            f"Use {VISION_ENCODER_HINT}."
        )
    if images is None:
        if clip_vision not in NEGATIVE_STATES:
            NEGATIVE_STATES[clip_vision] = _run_vision_encoder(clip_vision, torch.zeros(1, 3, size, size))
        return NEGATIVE_STATES[clip_vision]
    return _run_vision_encoder(clip_vision, pixel_values(images))


def _run_vision_encoder(clip_vision, pixels: Tensor) -> Tensor:
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    states = []
    step = count_steps(len(pixels))
    for image in pixels:
        output = clip_vision.model(pixel_values=image[None].to(clip_vision.load_device), intermediate_output=-2)
        states.append(output[1].float().cpu())
        step()
    return torch.cat(states)


def combine(first: ImagePrompt, second: ImagePrompt, method: str, weight_1: float, weight_2: float) -> ImagePrompt:
    """One image prompt of two, s1 and s2 with negatives n1 and n2. What has the weight 0 is left out altogether.

    concat: all images, those of each weighted by its weight. average: (w1 s1 + w2 s2) / (w1 + w2).
    weighted sum: w1 s1 + w2 s2. difference: w1 s1 - w2 (s2 - n2), so what the second shows is taken away, and not what
    the states of all images have in common: of an image and itself, its negative remains.
    A negative of concat is that of its image, of difference that of the first; of average and weighted sum the mean by
    the size of the weights, as the images' own weights are.
    Raises KolorsError where the two do not fit together, or the weights leave nothing.
    """
    check_numbers(weight_1=weight_1, weight_2=weight_2)
    _check_states(first, second)
    if method == "difference" and weight_1 == 0:
        raise KolorsError("In a difference weight_1 is 0, so there is nothing to subtract from. Set it above 0.")
    if method == "difference":
        second, weight_2 = replace(second, images=second.images - second.negative_of_each), -weight_2
    sides = [(prompt, weight) for prompt, weight in ((first, weight_1), (second, weight_2)) if weight != 0]
    if not sides:
        raise KolorsError("Both weights are 0, so no image is left. Set one of them to another number.")
    if len(sides) == 1:
        return _weigh(*sides[0], method)
    if method == "concat":
        return _concatenate(sides)
    if method == "average" and weight_1 + weight_2 == 0:
        raise KolorsError(
            f"The weights {weight_1:g} and {weight_2:g} add up to 0, which an average cannot be divided by. "
            "Set them to others, or use the method difference."
        )
    return _mix(sides, method)


def _check_states(first: ImagePrompt, second: ImagePrompt) -> None:
    found = [list(prompt.images.shape[1:]) for prompt in (first, second)]
    if found[0] != found[1]:
        raise KolorsError(
            f"image_prompt_1 has CLIP states of {found[0]}, image_prompt_2 of {found[1]}. Encode both with the same "
            f"vision encoder: {VISION_ENCODER_HINT}."
        )


def _weigh(prompt: ImagePrompt, weight: float, method: str) -> ImagePrompt:
    """What is left where the other has no weight."""
    if method == "average":
        return prompt
    if method == "concat":
        return replace(prompt, weights=weight * prompt.weights)
    return replace(prompt, images=weight * prompt.images)


def _concatenate(sides: list[tuple[ImagePrompt, float]]) -> ImagePrompt:
    prompts = [prompt for prompt, _ in sides]
    negatives = prompts[0].negatives
    if len(negatives) > 1 or not torch.equal(negatives, prompts[1].negatives):
        negatives = torch.cat([prompt.negative_of_each for prompt in prompts])
    images = torch.cat([prompt.images for prompt in prompts])
    return ImagePrompt(images, negatives, torch.cat([weight * prompt.weights for prompt, weight in sides]))


def _mix(sides: list[tuple[ImagePrompt, float]], method: str) -> ImagePrompt:
    counts = [len(prompt.images) for prompt, _ in sides]
    if len({*counts} - {1}) > 1:
        raise KolorsError(
            f"image_prompt_1 has {counts[0]} images, image_prompt_2 {counts[1]}. Expected as many in both, or one in "
            "one of them. Only the method concat takes any."
        )
    images = _sum([prompt.images for prompt, _ in sides], [weight for _, weight in sides])
    if method == "average":
        images = images / sum(weight for _, weight in sides)
    if not images.any():
        raise KolorsError(f"All states of this {method} are 0, so no image is left. Change the weights or an image.")
    prompts = [prompt for prompt, _ in (sides[:1] if method == "difference" else sides)]
    shares = [abs(weight) for _, weight in sides]
    negatives = [each.negatives if len(each.negatives) == 1 else each.negative_of_each for each in prompts]
    weights = [each.weights.expand(len(images)) for each in prompts]
    return ImagePrompt(images, _mean(negatives, shares), _mean(weights, shares))


def _sum(tensors: list[Tensor], factors: list[float]) -> Tensor:
    return reduce(torch.add, (factor * tensor for tensor, factor in zip(tensors, factors)))


def _mean(tensors: list[Tensor], shares: list[float]) -> Tensor:
    """The mean by `shares`; exactly one of the tensors where they are equal."""
    if all(torch.equal(tensor, tensors[0]) for tensor in tensors):
        return tensors[0]
    return _sum(tensors, shares) / sum(shares)
