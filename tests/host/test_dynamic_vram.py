"""Every model loads where the host's layers have no tensors before that, and patches apply wherever they wait."""

import os
import subprocess
import sys
from pathlib import Path

import dynamic_vram
import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_chatglm3, random_tokenizer, random_unet
from comfyui_kolors.kolors_core.networks.quantization import dequantize
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from reference import relative_error
from safetensors.torch import save_file

pytestmark = pytest.mark.host

TESTS = Path(__file__).parent
LOADING = ["text_encoder", "packed_encoder", "gguf", "loading", "unet"]
LOADING += ["control_net", "ip_adapter", "image_prompt", "face", "inpainting", "lora", "guidance"]
TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
PROMPT = "一只红苹果 a red apple"
KEY = "transformer.encoder.layers.1.mlp.dense_4h_to_h.weight"  # over 16 KB, below which the host loads at once


def test_layers_have_no_tensors_until_they_are_loaded(monkeypatch):
    """The mode is on, and the host's layers are as the next test needs them."""
    import comfy.ops

    dynamic_vram.switch_on(monkeypatch.setattr)
    layer = comfy.ops.manual_cast.Linear(3, 2)
    assert not layer.state_dict()
    layer.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert torch.equal(layer(torch.ones(1, 3)), torch.full((1, 2), 3.0))


@pytest.mark.skipif(bool(os.environ.get("KOLORS_DYNAMIC_VRAM")), reason="all tests run so now")
def test_all_that_loads_a_model_passes_under_dynamic_vram():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not beyond_loading"]
    command += [str(TESTS / f"test_{name}.py") for name in LOADING]
    done = subprocess.run(
        command, cwd=TESTS.parent.parent, env={**os.environ, "KOLORS_DYNAMIC_VRAM": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


@pytest.fixture(params=["int8", "int4"])
def packed(request, tmp_path):
    """A CLIP with packed layers of more than 16 KB, its layer under KEY, a clone with a LoRA, and the new values."""
    import loaders

    tokenizer = {"spiece_model": torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)}
    save_file(random_chatglm3(MID, TOKENIZER.pieces) | tokenizer, tmp_path / "encoder.safetensors")
    clip = loaders.load_text_encoder(str(tmp_path / "encoder.safetensors"), request.param)
    layer = clip.cond_stage_model.get_submodule(KEY.removesuffix(".weight"))
    assert layer.weight.nbytes > 16 * 1024
    values = dequantize(layer.weight, layer.weight_scale, layer.bits)
    step = layer.weight_scale[:, None].max()
    delta = (
        0.1 * step * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    )  # rounded, mostly nothing
    patched = clip.clone()
    patched.add_patches({KEY: ("diff", (delta,))})
    return clip, layer, patched, values + delta


def output(layer, weight=None):
    x = torch.randn(1, 3, layer.in_features, generator=torch.Generator().manual_seed(1))
    return layer(x) if weight is None else torch.nn.functional.linear(x, weight)


@pytest.fixture(params=["the pack", "the host"])
def unet(request, tmp_path):
    """A MODEL and who loaded it."""
    import loaders
    from comfy.model_patcher import ModelPatcher
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    path = str(tmp_path / "unet.safetensors")
    save_file(random_unet(TINY).state_dict(), path)
    model = loaders.load_unet(path)
    if request.param == "the host":
        model = ModelPatcher(model.model, model.load_device, model.offload_device)
    return model, request.param


def test_schedules_in_turn_keep_their_tables(unet):
    """Dynamic VRAM puts the buffers that it noted by name into what stands there at the next loading."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
    from comfyui_kolors.kolors_core.host import sampling

    model, loaded_by = unet
    models = [model, sampling.set_sampling(model, "sdxl")]
    if loaded_by == "the pack":
        models.append(ModelSamplingDiscrete().patch(model, "lcm", False)[0])
    tables = [each.get_model_object("model_sampling").sigmas.clone() for each in models]
    noted = {}
    for each, table in [*zip(models, tables), *zip(models, tables)]:
        load_as_under_dynamic_vram(each, noted)
        assert torch.equal(each.model.model_sampling.sigmas, table)


def load_as_under_dynamic_vram(patcher, noted):
    """What the dynamic patcher, which needs an accelerator, does with object patches and buffers."""
    from comfy.patcher_extension import CallbacksMP

    patcher.unpatch_model(unpatch_weights=False)
    patcher.patch_model(load_weights=False)
    for key in list(noted):
        name, _, buffer = key.rpartition(".")
        patcher.model.get_submodule(name).register_buffer(buffer, noted.pop(key))
    noted.update(patcher.model.named_buffers())
    patcher.backup_buffers = noted
    for callback in patcher.get_all_callbacks(CallbacksMP.ON_LOAD):
        callback(patcher, None, 0, False, False)


def waiting_patch(patched):
    """The patch of KEY as the host lets it wait."""
    from comfy.model_patcher import LowVramPatch, get_key_weight

    _, set_weight, convert_weight = get_key_weight(patched.cond_stage_model, KEY)
    return LowVramPatch(KEY, patched.patcher.patches, convert_weight, set_weight)


def test_a_gentle_lora_waits_for_a_packed_layer_in_weight_function(packed):
    """With little VRAM."""
    _, layer, patched, expected = packed
    before = output(layer)
    layer.weight_function = [waiting_patch(patched)]
    assert relative_error(output(layer), output(layer, expected)) <= 1e-5
    layer.weight_function = []
    assert torch.equal(output(layer), before)


def test_a_gentle_lora_waits_for_a_packed_layer_in_weight_lowvram_function(packed):
    """Under dynamic VRAM."""
    _, layer, patched, expected = packed
    before = output(layer)
    layer.weight_lowvram_function = waiting_patch(patched)
    assert relative_error(output(layer), output(layer, expected)) <= 1e-5
    layer.weight_lowvram_function = None
    assert torch.equal(output(layer), before)


def test_a_gentle_lora_on_a_packed_layer_that_is_loaded_whole(packed):
    """The patcher rounds it into the weight; the values that are computed with are those of the other ways."""
    clip, layer, patched, expected = packed
    stored, before = layer.weight.clone(), output(layer)
    patched.load_model()
    assert KEY in patched.patcher.backup
    assert relative_error(output(layer), output(layer, expected)) <= 1e-5
    assert torch.equal(layer.weight, stored)
    clip.load_model()
    assert torch.equal(output(layer), before)


def test_what_is_saved_of_a_packed_layer_has_the_lora(packed):
    """In packed form, each value rounded to one of its two neighbours so that their mean is kept."""
    _, layer, patched, expected = packed
    patched.load_model()
    weight = patched.get_sd()[KEY]
    found = dequantize(weight, layer.weight_scale, layer.bits)
    scale = layer.weight_scale[:, None]
    largest = {8: 127, 4: 7}[layer.bits] * scale
    assert weight.dtype == torch.int8 and not torch.equal(weight, layer.weight)
    error = found - expected.clamp(-largest, largest)
    assert (error.abs() <= scale * 1.001).all() and abs((error / scale).mean()) <= 0.01


def test_a_lora_that_was_taken_off_leaves_nothing_behind(packed):
    _, layer, patched, _ = packed
    before = output(layer)
    patched.load_model()
    patched.patcher.unpatch_model()
    assert torch.equal(output(layer), before)
