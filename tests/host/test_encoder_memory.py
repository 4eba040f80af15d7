"""What the encoder keeps in memory: nothing but its weights."""

import gc
import os
import sys
import weakref
from pathlib import Path

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from safetensors.torch import save_file

pytestmark = pytest.mark.host

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())


@pytest.fixture
def load(tmp_path):
    import loaders

    def load(weight_dtype="default", sizes=TINY):
        state_dict = random_chatglm3(sizes, TOKENIZER.pieces)
        state_dict["spiece_model"] = torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)
        save_file(state_dict, tmp_path / "encoder.safetensors")
        return loaders.load_text_encoder(str(tmp_path / "encoder.safetensors"), weight_dtype)

    return load


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("weight_dtype", ["fp32", "int8"])
def test_a_hundred_prompts_leave_the_memory_flat(load, weight_dtype):
    clip = load(weight_dtype, MID)
    encode_hundred(clip)  # every length once: oneDNN keeps what it has planned for a shape
    before = resident()
    encode_hundred(clip)
    assert resident() <= before * 1.02


def encode_hundred(clip):
    for index in range(100):
        encode(clip, f"prompt {index} " + "cat " * (index % 40))
    gc.collect()


@pytest.mark.parametrize("weight_dtype", ["default", "int4"])
def test_a_conditioning_keeps_no_model_and_unloading_frees_it(load, weight_dtype):
    import comfy.model_management

    clip = load(weight_dtype)
    conditioning = encode(clip, "a red apple")
    model = weakref.ref(clip.cond_stage_model)
    matrix = weakref.ref(clip.cond_stage_model.transformer.encoder.layers[0].mlp.dense_4h_to_h)
    del clip
    comfy.model_management.unload_all_models()
    comfy.model_management.cleanup_models()
    gc.collect()
    assert model() is None and matrix() is None
    assert conditioning[0][0].isfinite().all()


def test_encoding_evicts_no_other_model(load):
    import comfy.model_management

    first, second = load(), load()
    encode(first, "a")
    encode(second, "b")
    loaded = [entry.model for entry in comfy.model_management.current_loaded_models]
    assert any(model is not None and model.model is first.patcher.model for model in loaded)
    assert any(model is not None and model.model is second.patcher.model for model in loaded)
