"""ChatGLM3 as the host's CLIP: the reference's numbers, token weights, limits, dtypes and saved files."""

import logging

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from reference import SIZES, TOLERANCE, build_chatglm3, encode, relative_error
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
PROMPT = "一只红苹果，黄色背景 a red apple on a yellow background"


@pytest.fixture(scope="module")
def loaders():
    import loaders

    return loaders


def write(path, sizes=TINY, **changes):
    """An encoder file with its tokenizer inside; `changes` replace or (None) remove tensors, __ for a dot in keys."""
    state_dict = random_chatglm3(sizes, TOKENIZER.pieces)
    state_dict["spiece_model"] = torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)
    state_dict |= {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in state_dict.items() if value is not None}, path)
    return str(path)


@pytest.fixture
def clip(loaders, tmp_path):
    return loaders.load_text_encoder(write(tmp_path / "encoder.safetensors"))


def run(clip, text, **options):
    """(context, pooled) by the stock node's own two calls."""
    ((context, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text, tokenizer_options=options))
    return context, extra["pooled_output"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["", "a", PROMPT, "cat " * 400])
def test_equal_to_the_reference(loaders, tmp_path, size, text):
    clip = loaders.load_text_encoder(write(tmp_path / "encoder.safetensors", SIZES[size]))
    expected = encode(build_chatglm3(SIZES[size], TOKENIZER.pieces), [TOKENIZER.encode(text).ids])
    for found, reference in zip(run(clip, text), expected):
        assert found.dtype == torch.float32
        assert relative_error(found, reference) <= TOLERANCE


def test_it_is_a_clip_of_the_host(clip):
    import comfy.model_patcher
    import comfy.sd

    assert type(clip) is comfy.sd.CLIP
    assert isinstance(clip.patcher, comfy.model_patcher.ModelPatcher)
    assert isinstance(clip.clone(), comfy.sd.CLIP)


def test_unused_parts_are_never_loaded(clip):
    keys = list(clip.cond_stage_model.state_dict())
    assert not [key for key in keys if "output_layer" in key or "final_layernorm" in key]


@pytest.mark.parametrize("text", ["a (red:1.0) apple", "(a red apple:1.0)", r"a \(red\) apple"])
def test_a_weight_of_one_is_bit_equal_to_none(clip, text):
    plain = text.replace(":1.0", "").replace("\\", "")
    if "\\" not in text:
        plain = plain.replace("(", "").replace(")", "")
        for weighted, unweighted in zip(run(clip, text), run(clip, plain)):
            assert torch.equal(weighted, unweighted)
    else:
        ids = clip.tokenizer.tokenizer.encode(plain).ids
        assert [token for token, _ in clip.tokenize(text)["chatglm3"][0]][-len(ids) :] == ids


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.4, -0.5])
def test_a_weight_moves_its_token_from_the_empty_prompt(clip, weight):
    plain, pooled = run(clip, "a red apple")
    weighted, weighted_pooled = run(clip, f"a (red:{weight}) apple")
    empty, _ = run(clip, "")
    weights = torch.tensor([w for _, w in clip.tokenize(f"a (red:{weight}) apple")["chatglm3"][0]])
    changed = weights != 1.0
    assert 0 < changed.sum() < 8
    expected = torch.where(changed[None, :, None], empty + (plain - empty) * weight, plain)
    assert relative_error(weighted, expected) <= 1e-6  # rounding: the empty prompt is computed in the same batch
    assert relative_error(weighted[0][changed], plain[0][changed]) > 0.05
    assert relative_error(weighted_pooled, pooled) <= 1e-6


def test_a_long_prompt_warns_once_and_max_tokens_raises_the_limit(clip, caplog):
    text = "cat " * 400
    count = len(TOKENIZER.encode(text, 10**6).ids)
    with caplog.at_level(logging.WARNING, logger="ComfyUI-Kolors"):
        cut, _ = run(clip, text)
    (record,) = caplog.records
    assert f"The last {count - 256} tokens of a prompt of {count} were dropped" in record.getMessage()
    assert "cat" not in record.getMessage()
    caplog.clear()
    whole, _ = run(clip, text, kolors_max_tokens=2048)
    assert not caplog.records
    assert cut.shape[1] == 256
    assert whole.shape[1] == -(-count // 256) * 256
    short, _ = run(clip, "cat", kolors_max_tokens=2048)
    assert torch.equal(short, run(clip, "cat")[0])


def test_clip_set_last_layer_says_that_it_has_no_effect(clip, caplog):
    before, _ = run(clip, PROMPT)
    clip.clip_layer(-3)
    after, _ = run(clip, PROMPT)
    assert torch.equal(before, after)
    assert "has no effect" in caplog.text


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("chosen", ["default", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2"])
def test_every_file_precision_in_every_storage(loaders, tmp_path, host_defaults, device, stored, chosen):
    state_dict = {key: tensor.to(stored) for key, tensor in random_chatglm3(MID, TOKENIZER.pieces).items()}
    state_dict["spiece_model"] = torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)
    save_file(state_dict, tmp_path / "encoder.safetensors")
    clip = loaders.load_text_encoder(str(tmp_path / "encoder.safetensors"), chosen)
    kept = torch.float16 if stored == torch.float32 and device != "cpu" else stored  # as the host has every encoder
    dtype = kept if chosen == "default" else loaders.WEIGHT_DTYPES[chosen]
    layer = clip.cond_stage_model.transformer.encoder.layers[0]
    assert layer.mlp.dense_h_to_4h.weight.dtype == dtype
    assert layer.input_layernorm.weight.dtype.itemsize >= 2
    context, pooled = run(clip, PROMPT)
    reference = encode(build_chatglm3(MID, TOKENIZER.pieces), [TOKENIZER.encode(PROMPT).ids])
    tolerance = 0.5 if {dtype, stored} & {torch.float8_e4m3fn, torch.float8_e5m2} else 0.03
    assert context.isfinite().all()
    assert relative_error(context, reference[0]) < tolerance
    assert relative_error(pooled, reference[1]) < tolerance


@pytest.mark.parametrize("prefix", ["transformer.", "text_encoders.chatglm3.transformer."])
def test_a_prefix_makes_no_difference(loaders, tmp_path, clip, prefix):
    state_dict = {prefix + key: tensor for key, tensor in random_chatglm3(TINY, TOKENIZER.pieces).items()}
    state_dict["spiece_model"] = torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)
    save_file(state_dict, tmp_path / "prefixed.safetensors")
    other = loaders.load_text_encoder(str(tmp_path / "prefixed.safetensors"))
    assert torch.equal(run(other, PROMPT)[0], run(clip, PROMPT)[0])


def test_what_is_saved_loads_bit_equal(loaders, tmp_path, clip):
    """What the stock CLIPSave writes: the state dict without `transformer.`, and the tokenizer with it."""
    saved = {key.removeprefix("transformer."): tensor for key, tensor in clip.get_sd().items()}
    save_file(saved, tmp_path / "saved.safetensors")
    assert load_file(tmp_path / "saved.safetensors")["spiece_model"].numpy().tobytes() == TOKENIZER.model
    again = loaders.load_text_encoder(str(tmp_path / "saved.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(run(again, PROMPT), run(clip, PROMPT)))


def test_where_the_tensors_lie_in_a_file_makes_no_difference(loaders, tmp_path, clip):
    """Mapped weights off a 16-byte boundary used to change the last digit, with the length of the file's header."""
    for length in (0, 8, 16, 24, 32):
        state_dict = load_file(write(tmp_path / "encoder.safetensors"))
        save_file(state_dict, tmp_path / f"{length}.safetensors", metadata={"note": "x" * length})
        other = loaders.load_text_encoder(str(tmp_path / f"{length}.safetensors"))
        assert all(torch.equal(a, b) for a, b in zip(run(other, PROMPT), run(clip, PROMPT)))


def test_checkpoint_keys_and_back(clip):
    from comfyui_kolors.kolors_core.host.text_encoder import load

    state_dict = clip.get_sd()
    checkpoint = load.to_checkpoint_keys(state_dict)
    assert all(key.startswith("text_encoders.") for key in checkpoint)
    assert load.from_checkpoint_keys(checkpoint).keys() == state_dict.keys()


def test_other_packs_and_nodes_read_the_tokens(clip):
    tokens = clip.tokenize("cat", return_word_ids=True)
    assert all(len(entry) == 3 for entry in tokens["chatglm3"][0])
    pair = tokens["chatglm3"][0][-1]
    assert clip.tokenizer.untokenize([pair]) == [(pair, clip.tokenizer.tokenizer.describe(pair[0]))]
    assert clip.tokenizer.decode([token for token, *_ in tokens["chatglm3"][0]]).strip() == "cat"


LAYER = "encoder__layers__1__mlp__dense_4h_to_h__weight"
BAD_FILES = {
    "missing": ({LAYER: None}, r"incomplete ChatGLM3 text encoder: 1 of 23 tensors are missing \(encoder.layers.1.mlp"),
    "misshapen": ({LAYER: torch.zeros(3, 5)}, r"1 of 23 tensors are of the wrong shape"),
    "mixed": (
        {f"{LAYER}_scale": torch.ones(64)},
        r"in int8: encoder.layers.1.mlp.dense_4h_to_h.weight_scale belongs to",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named(loaders, tmp_path, case):
    changes, message = BAD_FILES[case]
    with pytest.raises(KolorsError, match=message) as error:
        loaders.load_text_encoder(write(tmp_path / "encoder.safetensors", **changes))
    assert f"encoder.safetensors in {tmp_path}" in str(error.value)


def test_a_missing_middle_layer_is_named(loaders, tmp_path):
    names = [key for key in random_chatglm3(TINY, TOKENIZER.pieces) if key.startswith("encoder.layers.1.")]
    path = write(tmp_path / "encoder.safetensors", **{name.replace(".", "__"): None for name in names})
    with pytest.raises(KolorsError, match="7 of 23 tensors are missing"):
        loaders.load_text_encoder(path)
