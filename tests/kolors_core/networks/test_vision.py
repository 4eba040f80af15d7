"""The reference's preprocessing, against transformers' CLIPImageProcessor."""

import pytest
import torch
from comfyui_kolors.kolors_core.networks import vision
from image_prompts import picture
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

PROCESSOR = CLIPImageProcessorPil(size=336, crop_size=336)
SHAPES = [(512, 512), (1024, 768), (901, 1600), (333, 1000), (2048, 858), (336, 336), (100, 75)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_pictures_of_any_proportions_equal_the_reference(width, height):
    image = picture(width, height)
    expected = PROCESSOR(vision.to_pil(image[0]), return_tensors="pt").pixel_values
    assert (vision.pixel_values(image) - expected).abs().max() <= 1e-6  # a step of 8 bits is 0.015


def test_an_alpha_channel_is_left_out_and_batches_stay_apart():
    images = torch.cat([picture(seed=seed) for seed in (1, 2)])
    with_alpha = torch.cat([images, torch.zeros(*images.shape[:3], 1)], dim=-1)
    found = vision.pixel_values(with_alpha)
    assert torch.equal(found, torch.cat([vision.pixel_values(image[None]) for image in images]))


def test_values_beyond_the_range_are_cut():
    image = torch.tensor([-1.0, 0.0, 1.0, 7.0]).view(1, 2, 2, 1).expand(1, 2, 2, 3)
    assert torch.equal(vision.from_pil(vision.to_pil(image[0])).flatten()[::3], torch.tensor([0.0, 0.0, 1.0, 1.0]))
