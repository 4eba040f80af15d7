"""What a user sees while a node works: a bar with a meaningful total, previews, and a Cancel that is heard."""

import pytest
import torch
from client import PROMPT
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY
from PIL import Image
from sampling_runs import ours

pytestmark = pytest.mark.host


@pytest.fixture
def loaders(models):
    from comfyui_kolors.kolors_core.host import loaders, unet

    unet.register()
    return loaders


@pytest.fixture
def shown():
    """(value, total, preview) of each step of the running node's bar, as the server would send them."""
    import comfy.utils

    steps = []

    def show(value, total, preview, **options):
        steps.append((value, total, preview))

    comfy.utils.set_progress_bar_global_hook(show)
    yield steps
    comfy.utils.set_progress_bar_global_hook(None)


def bar(steps) -> list[tuple[int, int]]:
    return [(value, total) for value, total, _ in steps]


@pytest.fixture
def encoder(loaders, models):
    return loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))


def test_a_text_encoder_loads_by_tensors(loaders, models, shown):
    clip = loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))
    total = len(clip.cond_stage_model.transformer.state_dict())
    assert bar(shown) == [(value, total) for value in range(1, total + 1)]


def test_a_prompt_is_encoded_by_layers(encoder, shown):
    encoder.encode_from_tokens(encoder.tokenize(PROMPT))
    assert bar(shown) == [(value, TINY.layers) for value in range(1, TINY.layers + 1)]


@pytest.mark.parametrize("work", ["load", "encode"])
def test_cancel_ends_the_work_between_two_steps(loaders, models, encoder, shown, work):
    import comfy.model_management
    import comfy.utils

    def cancel(value, total, preview, **options):
        shown.append((value, total, preview))
        comfy.model_management.interrupt_current_processing(value == 2)

    comfy.utils.set_progress_bar_global_hook(cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        if work == "load":
            loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))
        else:
            encoder.encode_from_tokens(encoder.tokenize(PROMPT))
    assert [value for value, *_ in shown] == [1, 2]


def test_our_sampler_sends_a_preview_of_each_step(loaders, models, shown, monkeypatch):
    """As the stock KSampler: Kolors has SDXL's latents, so the host knows how to show them."""
    from comfy.cli_args import LatentPreviewMethod, args
    from comfyui_kolors.kolors_core.host import sampling

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    model = loaders.load_unet(str(models / random_models.UNET_FILE))
    assert model.model.latent_format.taesd_decoder_name == "taesdxl_decoder"
    ours(sampling, model, "euler", 3, shape=(1, 4, 16, 24))
    assert bar(shown) == [(1, 3), (2, 3), (3, 3)]
    for _, _, (kind, picture, _) in shown:
        assert kind == "JPEG" and isinstance(picture, Image.Image) and picture.size == (24, 16)
        assert len(set(torch.tensor(list(picture.convert("L").getdata())).tolist())) > 10
