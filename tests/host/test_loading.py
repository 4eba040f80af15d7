"""What a UNet's file is to the model that was loaded from it."""

import hashlib

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError, naming
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def loaders():
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    return loaders


@pytest.fixture
def file(tmp_path):
    save_file(random_unet(TINY).state_dict(), tmp_path / "unet.safetensors")
    return tmp_path / "unet.safetensors"


def test_weights_that_fit_stay_in_the_mapped_file(loaders, file, monkeypatch):
    from comfyui_kolors.kolors_core.files.weights import open_weights
    from comfyui_kolors.kolors_core.host import unet_file

    opened = open_weights(file)
    monkeypatch.setattr(unet_file, "open_weights", lambda path: opened)
    places = {tensor.data_ptr() for tensor in opened.tensors.values()}
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


@pytest.mark.parametrize("late", [False, True])
def test_an_incomplete_unet_is_refused_before_it_is_filled(loaders, file, monkeypatch, late):
    """So that no memory is used for it; under dynamic VRAM, where the network tells nothing, before it is built."""
    from comfyui_kolors.kolors_core.host import compat

    refuse = "comfy.sd.load_diffusion_model_state_dict" if late else "torch.nn.Module.load_state_dict"
    monkeypatch.setattr(refuse, lambda *args, **options: pytest.fail("too late"))
    monkeypatch.setattr(compat, "builds_without_tensors", lambda: late)
    state_dict = load_file(file)
    del state_dict["mid_block.resnets.0.conv1.weight"]
    save_file(state_dict, file)
    with pytest.raises(KolorsError, match=r"incomplete Kolors UNet: 1 of \d+ tensors are missing"):
        loaders.load_unet(file)


MEMORY = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CUDA, asynchronous": getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 18.02 GB, max allowed: 18.13 GB)"),
    "CPU": MemoryError(),
}


@pytest.mark.parametrize("name", MEMORY)
def test_too_little_memory_is_no_fault_of_a_file(loaders, name):
    from comfyui_kolors.kolors_core.host.messages import blame_file

    with pytest.raises(type(MEMORY[name])) as error, naming("model.safetensors"), blame_file("is damaged"):
        raise MEMORY[name]
    assert error.value is MEMORY[name]


def test_what_else_ends_a_reading_is_told_as_a_fault_of_the_file(loaders):
    from comfyui_kolors.kolors_core.host.messages import blame_file

    with (
        pytest.raises(
            KolorsError, match=r"^model.safetensors in \. is damaged \(KeyError\('x'\)\). Download it again.$"
        ),
        naming("model.safetensors"),
        blame_file("is damaged"),
    ):
        raise KeyError("x")


def test_what_reads_text_states_multiplies_in_no_fp8(loaders):
    """The host's fp8 products cut their input at 448, and text states reach beyond."""
    import comfy.ops
    from comfyui_kolors.kolors_core.host import expected, unet

    layout = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2],
        "num_res_blocks": [1, 1], "num_head_channels": 32, "use_spatial_transformer": True, "transformer_depth": [0, 1],
        "transformer_depth_middle": 1, "transformer_depth_output": [0, 0, 1, 1], "use_linear_in_transformer": True,
        "context_dim": 64, "encoder_hid_dim": 96, "adm_in_channels": 96, "num_classes": "sequential",
    }  # fmt: skip
    network = unet.KolorsUNet(**layout, device="meta", operations=comfy.ops.fp8_ops)
    quick = {name for name, layer in network.named_modules() if isinstance(layer, comfy.ops.fp8_ops.Linear)}
    linears = {name for name, layer in network.named_modules() if isinstance(layer, comfy.ops.manual_cast.Linear)}
    assert linears - quick == {"encoder_hid_proj", "label_emb.0.0"}
    shapes = {name: layer.in_features for name, layer in network.named_modules() if name in linears - quick}
    assert shapes == {"encoder_hid_proj": 96, "label_emb.0.0": 96}
    assert expected.expected_tensors(unet.KolorsUNet, **layout)["label_emb.0.0.weight"].shape == (128, 96)


def test_channels_last_that_was_asked_for_stays(loaders, file, monkeypatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "force_channels_last", lambda: True)
    weight = loaders.load_unet(file).model.diffusion_model.input_blocks[1][0].in_layers[2].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_of_another_shape_is_refused(loaders, file):
    network = loaders.load_unet(file).model.diffusion_model
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_state_dict({"input_blocks.0.0.weight": torch.zeros(1, 1)}, strict=False)
