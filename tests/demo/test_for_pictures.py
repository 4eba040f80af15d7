"""demo/train/for_pictures.py: what its models learn from, and that each begins as the miniature itself."""

from __future__ import annotations

import random

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet

for_pictures = pytest.importorskip("for_pictures", reason="it needs diffusers, and kornia, which comes with ComfyUI")

SKY, BALL = (0.2, 0.4, 0.8), (0.9, 0.1, 0.1)


@pytest.fixture
def images() -> torch.Tensor:
    """A dark square, not in the middle, on two backgrounds."""
    pictures = torch.tensor((SKY, (0.9, 0.9, 0.1)))[:, :, None, None].repeat(1, 1, 128, 128)
    pictures[:, :, 40:70, 50:90] = torch.tensor(BALL)[:, None, None]
    return pictures


def test_turned_images_keep_their_background_and_move(images):
    turned = for_pictures.turned(images, random.Random(1))
    assert turned.shape == images.shape and not torch.allclose(turned, images, atol=0.1)
    assert torch.allclose(turned[:, :, 0, 0], images[:, :, 0, 0], atol=1e-3)
    reds = (turned[:, 0] - turned[:, 1] > 0.5).sum((1, 2))
    assert (reds > 100).all()  # it is still there


def test_what_is_painted_in_blue_stands_on_white(images):
    painted = for_pictures.in_blue(images)
    red, _, blue = painted[:, :, 55, 70].unbind(1)
    assert (painted[:, :, 5, 5] > 0.9).all() and (blue - red > 0.2).all()
    assert painted.min() >= 0 and painted.max() <= 1


def test_masks_are_whole_in_both_sizes():
    masks = for_pictures.random_masks(20, random.Random(1))
    small = for_pictures.small_mask(masks)
    assert set(masks.unique().tolist()) == set(small.unique().tolist()) == {0.0, 1.0}
    assert masks.shape == (20, 1, 128, 128) and small.shape == (20, 1, 16, 16)
    assert (masks.mean((1, 2, 3)) - small.mean((1, 2, 3))).abs().max() < 0.08


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_a_lora_begins_without_effect(shape):
    weight = torch.randn(shape)
    lora = for_pictures.LoRA(weight)
    assert torch.equal(lora(weight), weight)
    torch.nn.init.ones_(lora.up)
    assert not torch.equal(lora(weight), weight) and lora(weight).shape == weight.shape


@pytest.mark.parametrize("changes", [{"in_channels": 9}, {"time_cond_proj_dim": 8}])
@torch.no_grad()
def test_a_unet_with_more_inputs_begins_as_the_one_it_comes_from(changes):
    unet = random_unet(TINY)
    wider = for_pictures.wider_unet(unet, **changes)
    added = {"text_embeds": torch.randn(1, TINY.hidden), "time_ids": torch.zeros(1, 6)}
    noise, text, step = torch.randn(1, 4, 8, 8), torch.randn(1, 5, TINY.hidden), torch.tensor(7)
    more = torch.randn(1, wider.config.in_channels - 4, 8, 8)
    condition = torch.randn(1, 8) if "time_cond_proj_dim" in changes else None
    found = wider(torch.cat((noise, more), 1), step, text, timestep_cond=condition, added_cond_kwargs=added).sample
    assert torch.allclose(found, unet(noise, step, text, added_cond_kwargs=added).sample, atol=1e-5)


def test_the_steps_of_a_training_do_not_depend_on_the_time():
    clock = for_pictures.Steps(1, {"step": 10, "spent": 1e6})
    clock.budget = 20
    assert not clock.over() and clock.rate(1.0, 1) == pytest.approx(0.02 + 0.98 / 2)
    clock.step = 20
    assert clock.over()
