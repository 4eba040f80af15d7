"""What a user sees while a node works: a bar with a meaningful total, previews, and a Cancel that is heard."""

from dataclasses import dataclass, field

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
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    return loaders


@dataclass
class Bar:
    """`steps`: (value, total, preview) of each step that the host's bar is told; `shown`: what it passes on to users.

    Since 0.9.2 the host shows the first step, the last one and those with a preview, and of the others ten a second.
    """

    steps: list[tuple] = field(default_factory=list)
    shown: list[tuple] = field(default_factory=list)

    def values(self) -> list[tuple[int, int]]:
        return [(value, total) for value, total, _ in self.steps]

    def check(self, total: int) -> None:
        """Every step was reported, one by one, and both ends were shown."""
        assert self.values() == [(value, total) for value in range(1, total + 1)]
        assert [self.shown[0][:2], self.shown[-1][:2]] == [(1, total), (total, total)]


@pytest.fixture
def bar(monkeypatch):
    import comfy.utils

    bar, update = Bar(), comfy.utils.ProgressBar.update_absolute

    def told(self, value, total=None, preview=None):
        bar.steps.append((value, total or self.total, preview))
        update(self, value, total, preview)

    def show(value, total, preview, **options):
        bar.shown.append((value, total, preview))

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", told)
    comfy.utils.set_progress_bar_global_hook(show)
    yield bar
    comfy.utils.set_progress_bar_global_hook(None)


@pytest.fixture
def encoder(loaders, models):
    return loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))


def test_a_text_encoder_loads_by_tensors(loaders, models, bar):
    clip = loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))
    bar.check(len(clip.cond_stage_model.transformer.state_dict()))


def test_a_prompt_is_encoded_by_layers(encoder, bar):
    encoder.encode_from_tokens(encoder.tokenize(PROMPT))
    bar.check(TINY.layers)


@pytest.mark.parametrize("work", ["load", "encode"])
def test_cancel_ends_the_work_between_two_steps(loaders, models, encoder, bar, monkeypatch, work):
    import comfy.model_management
    import comfy.utils

    told = comfy.utils.ProgressBar.update_absolute

    def cancel(self, value, *options):
        told(self, value, *options)
        comfy.model_management.interrupt_current_processing(value == 2)

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        if work == "load":
            loaders.load_text_encoder(str(models / random_models.TEXT_ENCODER_FILE))
        else:
            encoder.encode_from_tokens(encoder.tokenize(PROMPT))
    assert [value for value, _ in bar.values()] == [1, 2]


def test_our_sampler_sends_a_preview_of_each_step(loaders, models, bar, monkeypatch):
    """As the stock KSampler: Kolors has SDXL's latents, so the host knows how to show them."""
    from comfy.cli_args import LatentPreviewMethod, args
    from comfyui_kolors.kolors_core.host import sampling

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    model = loaders.load_unet(str(models / random_models.UNET_FILE))
    assert model.model.latent_format.taesd_decoder_name == "taesdxl_decoder"
    ours(sampling, model, "euler", 3, shape=(1, 4, 16, 24))
    bar.check(3)
    assert bar.shown == bar.steps  # a preview is never left out
    for _, _, (kind, picture, _) in bar.shown:
        assert kind == "JPEG" and isinstance(picture, Image.Image) and picture.size == (24, 16)
        assert len(set(torch.tensor(list(picture.convert("L").getdata())).tolist())) > 10
