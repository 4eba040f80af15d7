"""What a UNet's file is to the model that was loaded from it."""

import hashlib

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet
from safetensors.torch import save_file

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def loaders():
    from comfyui_kolors.kolors_core.host import loaders, unet

    unet.register()
    return loaders


@pytest.fixture
def file(tmp_path):
    save_file(random_unet(TINY).state_dict(), tmp_path / "unet.safetensors")
    return tmp_path / "unet.safetensors"


def test_weights_that_fit_stay_in_the_mapped_file(loaders, file, monkeypatch):
    from comfyui_kolors.kolors_core.files import read_state_dict

    tensors, metadata = read_state_dict(file)
    monkeypatch.setattr(loaders, "read_state_dict", lambda path: (tensors, metadata))
    places = {tensor.data_ptr() for tensor in tensors.values()}
    weights = dict(loaders.load_unet(file).model.diffusion_model.named_parameters())
    assert all(weight.data_ptr() in places for weight in weights.values())
    half = loaders.load_unet(file, "fp16").model.diffusion_model
    assert {weight.dtype for weight in half.parameters()} == {torch.float16}
    assert not places & {weight.data_ptr() for weight in half.parameters()}
    assert all(torch.equal(weight.half(), other) for weight, other in zip(weights.values(), half.parameters()))


def test_what_is_applied_to_a_model_does_not_reach_its_file_or_another_model(loaders, file):
    before = hashlib.sha256(file.read_bytes()).digest()
    model, other = loaders.load_unet(file), loaders.load_unet(file)
    key = "diffusion_model.encoder_hid_proj.weight"
    weight = other.model.diffusion_model.encoder_hid_proj.weight.clone()
    model.add_patches({key: ("diff", (torch.ones_like(weight),))}, 1.0)
    model.patch_model(model.load_device)
    assert torch.allclose(model.model.diffusion_model.encoder_hid_proj.weight.cpu(), weight.cpu() + 1)
    assert torch.equal(other.model.diffusion_model.encoder_hid_proj.weight, weight)
    model.unpatch_model()
    assert torch.equal(model.model.diffusion_model.encoder_hid_proj.weight.cpu(), weight.cpu())
    with torch.no_grad():
        model.model.diffusion_model.encoder_hid_proj.weight.zero_()
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_channels_last_that_was_asked_for_stays(loaders, file, monkeypatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "force_channels_last", lambda: True)
    weight = loaders.load_unet(file).model.diffusion_model.input_blocks[1][0].in_layers[2].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_of_another_shape_is_refused(loaders, file):
    network = loaders.load_unet(file).model.diffusion_model
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_state_dict({"encoder_hid_proj.weight": torch.zeros(1, 1)}, strict=False)
