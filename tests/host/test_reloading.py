"""Models that the host loads once more for a clone with weights of its own: what 0.29 does to train and to compile."""

from __future__ import annotations

import inspect

import pytest
import torch
from comfyui_kolors.demo import random_models
from safetensors.torch import load_file

pytestmark = pytest.mark.host

KINDS = ("unet", "encoder", "model of a checkpoint", "encoder of a checkpoint", "VAE of a checkpoint")


@pytest.fixture(scope="module")
def reloads(tmp_path_factory) -> dict[str, tuple]:
    """The patcher of every model that this pack loads, and the function and arguments that load it again."""
    import comfy.sd
    import loaders
    from comfyui_kolors.kolors_core.host import compat, unet

    unet.register()

    folder = tmp_path_factory.mktemp("reloading")
    random_models.write(folder)
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat, "allow_reloading", lambda *arguments: told.append(arguments))
        model = loaders.load_unet(str(folder / random_models.UNET_FILE), "fp16")
        clip = loaders.load_text_encoder(str(folder / random_models.TEXT_ENCODER_FILE), "int8", "cpu")
        vae = comfy.sd.VAE(sd=load_file(folder / random_models.VAE_FILE))
        comfy.sd.save_checkpoint(str(folder / "all.safetensors"), model, clip, vae)
        loaders.load_checkpoint(str(folder / "all.safetensors"))
    return {kind: (patcher, load, arguments) for kind, (patcher, load, *arguments) in zip(KINDS, told, strict=True)}


def assert_equal(found, expected) -> None:
    assert found.model is not expected.model
    assert type(found.model) is type(expected.model)
    found, expected = found.model.state_dict(), expected.model.state_dict()
    assert found.keys() == expected.keys()
    assert [key for key in found if not torch.equal(found[key].cpu(), expected[key].cpu())] == []
    assert [key for key in found if found[key].dtype != expected[key].dtype] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_loaded_again_as_it_was(reloads, kind):
    patcher, load, arguments = reloads[kind]
    assert_equal(load(*arguments), patcher)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_gets_weights_of_its_own(reloads, kind):
    """Training ended on 0.29 with "Cannot create non-dynamic delegate: cached_patcher_init is not initialized"."""
    from comfyui_kolors.kolors_core.host import compat

    patcher, load, arguments = reloads[kind]
    if "force_deepcopy" not in inspect.signature(patcher.clone).parameters:  # not yet in 0.16
        pytest.skip("this ComfyUI makes no such clones")
    compat.allow_reloading(patcher, load, *arguments)
    assert_equal(patcher.clone(force_deepcopy=True), patcher)
