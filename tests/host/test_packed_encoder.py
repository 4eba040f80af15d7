"""The encoder in 8 and 4 bits: published files, conversion while loading, LoRAs, saving, and damaged files."""

import itertools
import re

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.quantization import dequantize, quantize
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from reference import build_chatglm3, encode, relative_error
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
PROMPT = "一只红苹果，黄色背景 a red apple on a yellow background"
MATRICES = ("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight", "dense_4h_to_h.weight")
BITS = {"int8": 8, "int4": 4}
ERROR = {"int8": 0.06, "int4": 0.6}  # relative L2 of the context against float32; random weights are the worst case


@pytest.fixture(scope="module")
def loaders():
    import loaders

    return loaders


def float_encoder(sizes=TINY):
    return random_chatglm3(sizes, TOKENIZER.pieces)


def packed_encoder(bits, sizes=TINY, scale_dtype=torch.float16):
    """As the published 8-bit and 4-bit files have it, and the floats that it stands for."""
    packed, values = {}, {}
    for key, tensor in float_encoder(sizes).items():
        if key.endswith(MATRICES):
            integers, scale = quantize(tensor, bits)
            packed[key], packed[f"{key}_scale"] = integers, scale.to(scale_dtype)
            values[key] = dequantize(integers, scale.to(scale_dtype).float(), bits)
        else:
            packed[key], values[key] = tensor.half(), tensor.half().float()
    return packed, values


def write(path, state_dict, prefix=""):
    tokenizer = {"spiece_model": torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)}
    save_file({prefix + key: tensor for key, tensor in state_dict.items()} | tokenizer, path)
    return str(path)


def run(clip, text=PROMPT):
    ((context, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return context, extra["pooled_output"]


def reference(values, sizes):
    model = build_chatglm3(sizes, TOKENIZER.pieces)
    model.load_state_dict(values)
    return encode(model, [TOKENIZER.encode(PROMPT).ids])


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_published_files_equal_the_reference_on_their_values(loaders, tmp_path, name, scale_dtype, prefix):
    packed, values = packed_encoder(BITS[name], MID, scale_dtype)
    clip = loaders.load_text_encoder(write(tmp_path / "packed.safetensors", packed, prefix))
    for found, expected in zip(run(clip), reference(values, MID)):
        assert relative_error(found, expected) <= 1e-4
    kept = clip.cond_stage_model.transformer.state_dict()
    assert all(torch.equal(kept[key].cpu(), packed[key]) for key in packed if key.endswith(MATRICES))


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_any_file_is_packed_while_loading(loaders, tmp_path, name, dtype):
    floats = {key: tensor.to(dtype) for key, tensor in float_encoder(MID).items()}
    clip = loaders.load_text_encoder(write(tmp_path / "float.safetensors", floats), name)
    kept = clip.cond_stage_model.transformer.state_dict()
    for key, tensor in floats.items():
        if key.endswith(MATRICES):
            integers, scale = quantize(tensor, BITS[name])
            assert torch.equal(kept[key], integers) and torch.equal(kept[f"{key}_scale"], scale)
    context, _ = run(clip)
    assert relative_error(context, reference(float_encoder(MID), MID)[0]) <= ERROR[name]


@pytest.mark.parametrize(("stored", "chosen"), itertools.permutations(["int8", "int4", "fp16", "fp8_e4m3fn"], 2))
def test_any_storage_becomes_any_other(loaders, tmp_path, stored, chosen):
    if stored in BITS:
        state_dict = packed_encoder(BITS[stored])[0]
    else:
        dtype = {"fp16": torch.float16, "fp8_e4m3fn": torch.float8_e4m3fn}[stored]
        state_dict = {k: v.to(dtype if k.endswith(MATRICES) else torch.float16) for k, v in float_encoder().items()}
    clip = loaders.load_text_encoder(write(tmp_path / "file.safetensors", state_dict), chosen)
    layer = clip.cond_stage_model.transformer.encoder.layers[0]
    dtype = torch.int8 if chosen in BITS else {"fp16": torch.float16, "fp8_e4m3fn": torch.float8_e4m3fn}[chosen]
    assert layer.mlp.dense_h_to_4h.weight.dtype == dtype
    assert relative_error(run(clip)[0], reference(float_encoder(), TINY)[0]) <= 0.6


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_matrix_may_be_read_in_parts(loaders, tmp_path, monkeypatch, suffix):
    from comfyui_kolors.kolors_core.networks import quantization

    path = write(tmp_path / "float.safetensors", float_encoder())
    if suffix == "bin":
        torch.save(load_file(path), tmp_path / "float.bin")
        path = str(tmp_path / "float.bin")
    whole = loaders.load_text_encoder(path, "int4").get_sd()
    monkeypatch.setattr(quantization, "PART", 7 * TINY.hidden)
    parts = loaders.load_text_encoder(path, "int4").get_sd()
    assert all(torch.equal(parts[key], tensor) for key, tensor in whole.items())


@pytest.mark.parametrize("name", BITS)
def test_what_is_saved_loads_bit_equal_from_one_file(loaders, tmp_path, name):
    """What the stock CLIPSave writes of an encoder packed while loading: the published layout, tokenizer included."""
    clip = loaders.load_text_encoder(write(tmp_path / "float.safetensors", float_encoder()), name)
    saved = {key.removeprefix("transformer."): tensor for key, tensor in clip.get_sd().items()}
    save_file(saved, tmp_path / "saved.safetensors")
    written = load_file(tmp_path / "saved.safetensors")
    assert written["encoder.layers.0.mlp.dense_4h_to_h.weight"].dtype == torch.int8
    assert written["spiece_model"].numpy().tobytes() == TOKENIZER.model
    again = loaders.load_text_encoder(str(tmp_path / "saved.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(run(again), run(clip)))
    assert (tmp_path / "saved.safetensors").stat().st_size < (tmp_path / "float.safetensors").stat().st_size


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_a_lora_applies_to_the_values_unrounded_and_leaves_no_trace(loaders, tmp_path, name, strength):
    """A gentle one as well, which would be rounded away."""
    packed, values = packed_encoder(BITS[name], MID)
    clip = loaders.load_text_encoder(write(tmp_path / "packed.safetensors", packed))
    before = run(clip)
    key = "encoder.layers.1.mlp.dense_4h_to_h.weight"
    delta = strength * torch.randn(values[key].shape, generator=torch.Generator().manual_seed(0)) * values[key].std()
    patched = clip.clone()
    patched.add_patches({f"transformer.{key}": ("diff", (delta,))})
    for found, expected in zip(run(patched), reference(values | {key: values[key] + delta}, MID)):
        assert relative_error(found, expected) <= 1e-4
    assert not torch.equal(run(patched)[0], before[0])
    assert all(torch.equal(a, b) for a, b in zip(run(clip), before))


def factors(shape, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*sizes, generator=generator) / 40 for sizes in ((shape[0], rank), (rank, shape[1]))]


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize(
    ("alphas", "others"),
    [((None,), {}), ((4.0,), {}), ((8.0, None), {}), ((), {}), ((4.0,), {"diff": 1}), ((4.0,), {"dora_scale": 1})],
    ids=["no alpha", "alpha", "two", "none", "beside a difference", "decomposed"],
)
def test_a_lora_is_multiplied_beside_the_matrix(loaders, tmp_path, monkeypatch, name, alphas, others):
    """Plain ones without a matrix of values; with another kind of patch among them, all are added to the values."""
    from comfy.weight_adapter import LoRAAdapter
    from comfyui_kolors.kolors_core.host.text_encoder import packed

    state_dict, values = packed_encoder(BITS[name], MID)
    clip = loaders.load_text_encoder(write(tmp_path / "packed.safetensors", state_dict)).clone()
    key = "encoder.layers.1.mlp.dense_4h_to_h.weight"
    patched = values[key].clone()
    for seed, alpha in enumerate(alphas):
        up, down = factors(patched.shape, 8, seed)
        scale = torch.ones(1, patched.shape[1]) if others.get("dora_scale") else None
        adapter = LoRAAdapter(set(), (up, down, alpha, None, scale, None))
        clip.add_patches({f"transformer.{key}": adapter}, 0.7)
        patched += 0.7 * (1 if alpha is None else alpha / 8) * up @ down
    if others.get("diff"):
        clip.add_patches({f"transformer.{key}": ("diff", (values[key] / 7,))})
        patched += values[key] / 7
    clip.encode_from_tokens(clip.tokenize("a"))  # the patcher asks for the values once, when it loads
    unpacked, own = [], packed.dequantize
    monkeypatch.setattr(packed, "dequantize", lambda *args: unpacked.append(1) or own(*args))
    found = run(clip)
    assert len(unpacked) == (1 if others else 0)
    if not others.get("dora_scale"):
        for one, expected in zip(found, reference(values | {key: patched}, MID)):
            assert relative_error(one, expected) <= 1e-4


def test_a_lora_of_another_shape_changes_nothing(loaders, tmp_path):
    """As the host has it, which says so in the log."""
    from comfy.weight_adapter import LoRAAdapter

    clip = loaders.load_text_encoder(write(tmp_path / "packed.safetensors", packed_encoder(8)[0]))
    patched = clip.clone()
    adapter = LoRAAdapter(set(), (*factors((64, 65), 4), None, None, None, None))
    patched.add_patches({"transformer.encoder.layers.1.mlp.dense_4h_to_h.weight": adapter})
    assert all(relative_error(a, b) <= 1e-5 for a, b in zip(run(patched), run(clip)))


@pytest.mark.parametrize("name", BITS)
def test_an_interrupt_ends_a_prompt_within_a_layer(loaders, tmp_path, monkeypatch, name):
    import comfy.model_management
    from comfyui_kolors.kolors_core.host.text_encoder import packed

    clip = loaders.load_text_encoder(write(tmp_path / "packed.safetensors", packed_encoder(BITS[name])[0]))
    products, own = [], packed.multiply_packed

    def multiply(*args):
        products.append(1)
        comfy.model_management.interrupt_current_processing()
        return own(*args)

    monkeypatch.setattr(packed, "multiply_packed", multiply)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run(clip)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(products) == 1


DAMAGED = {
    "scale too short": (
        {"encoder.layers.0.mlp.dense_4h_to_h.weight_scale": torch.ones(5)},
        r"encoder in int4: 1 of 35 tensors are of the wrong shape .*weight_scale is \[5\] instead of \[64\]",
    ),
    "scale missing": (
        {"encoder.layers.1.self_attention.dense.weight_scale": None},
        r"encoder in int4: 1 of 35 tensors are missing \(encoder.layers.1.self_attention.dense.weight_scale\)",
    ),
    "one matrix in 8 bits": (
        {"encoder.layers.1.self_attention.dense.weight": torch.zeros(64, 64, dtype=torch.int8)},
        r"in int4: 1 of 35 tensors are of the wrong shape .*\[64, 64\] instead of \[64, 32\]",
    ),
    "one matrix in floats": (
        {"encoder.layers.1.self_attention.dense.weight": torch.zeros(64, 32)},
        r"in int4: encoder.layers.1.self_attention.dense.weight_scale belongs to a matrix of int8, .* is torch.float32",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_packed_file_is_named(loaders, tmp_path, case):
    changes, message = DAMAGED[case]
    state_dict = {key: tensor for key, tensor in (packed_encoder(4)[0] | changes).items() if tensor is not None}
    with pytest.raises(KolorsError, match=message) as error:
        loaders.load_text_encoder(write(tmp_path / "packed.safetensors", state_dict))
    assert f"packed.safetensors in {tmp_path}" in str(error.value)


@pytest.mark.parametrize("bits", [None, 8])
def test_a_missing_first_layer_is_named(loaders, tmp_path, bits):
    state_dict = packed_encoder(bits)[0] if bits else float_encoder()
    state_dict = {key: tensor for key, tensor in state_dict.items() if not key.startswith("encoder.layers.0.")}
    with pytest.raises(KolorsError, match=r"incomplete ChatGLM3 text encoder.* tensors are missing \(encoder.layers.0"):
        loaders.load_text_encoder(write(tmp_path / "encoder.safetensors", state_dict))


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_values_that_are_not_finite_name_the_stage(loaders, tmp_path, name):
    state_dict = float_encoder()
    state_dict["embedding.word_embeddings.weight"] = torch.full_like(
        state_dict["embedding.word_embeddings.weight"], float("nan")
    )
    clip = loaders.load_text_encoder(write(tmp_path / "nan.safetensors", state_dict), name)
    stored = {"fp16": "float16", "int8": "int8"}[name]
    device = re.escape(str(clip.patcher.load_device))
    with pytest.raises(
        KolorsError, match=rf"encoder, stored in {stored} on {device}, gave values that are not finite.*bf16"
    ):
        run(clip)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_an_embedding_of_integers_is_named(loaders, tmp_path, dtype):
    encoder = float_encoder()
    encoder["embedding.word_embeddings.weight"] = encoder["embedding.word_embeddings.weight"].to(dtype)
    with pytest.raises(KolorsError, match=f"damaged ChatGLM3 text encoder .*word_embeddings.weight is {dtype}"):
        loaders.load_text_encoder(write(tmp_path / "encoder.safetensors", encoder))


def test_a_tokenizer_stored_as_numbers_is_passed_over(loaders, tmp_path):
    encoder = float_encoder()
    path = write(tmp_path / "encoder.safetensors", encoder)
    stored = load_file(path)
    stored["spiece_model"] = stored["spiece_model"].float()
    save_file(stored, path)
    with pytest.raises(KolorsError, match="No tokenizer for"):
        loaders.load_text_encoder(path)
