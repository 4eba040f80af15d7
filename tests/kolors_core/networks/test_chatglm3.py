"""The text encoder against diffusers' own, and the exactness of computing padded rows once."""

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, random_chatglm3
from comfyui_kolors.kolors_core.errors import BadFile
from comfyui_kolors.kolors_core.files.identify import extract_chatglm3
from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config, ChatGLM3Encoder, encode_prompts, pack_prompts
from reference import SIZES, TOLERANCE, build_chatglm3, encode, relative_error

PIECES = 471


def build(sizes, dtype=torch.float32) -> ChatGLM3Encoder:
    state_dict = extract_chatglm3(random_chatglm3(sizes, PIECES), "")
    model = ChatGLM3Encoder(ChatGLM3Config.from_state_dict(state_dict), dtype=dtype).eval().requires_grad_(False)
    model.load_state_dict(state_dict)
    return model


def prompt(length: int, seed: int = 0) -> list[int]:
    """`length` ids, prefix included; a length of 2 is the empty prompt."""
    generator = torch.Generator().manual_seed(seed)
    return [PIECES + 1, PIECES + 3, *torch.randint(1, PIECES, (length - 2,), generator=generator).tolist()]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [2, 3, 22, 128, 255, 256])
def test_equal_to_the_reference(size, length):
    ours = encode_prompts(build(SIZES[size]), [prompt(length)])
    theirs = encode(build_chatglm3(SIZES[size], PIECES), [prompt(length)])
    for found, expected in zip(ours, theirs):
        assert found.shape == expected.shape
        assert relative_error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("rows", [256, 512])
def test_packed_prompts_of_all_lengths_equal_the_reference(rows):
    prompts = [prompt(length, seed) for seed, length in enumerate((2, 256, 9, 2, 31))]
    ours = encode_prompts(build(TINY), prompts, rows)
    theirs = encode(build_chatglm3(TINY, PIECES), prompts, rows)
    for index in range(len(prompts)):
        for found, expected in zip(ours, theirs):
            assert relative_error(found[index], expected[index]) <= TOLERANCE


def test_padded_rows_are_one_row_bit_for_bit():
    context, _ = encode_prompts(build(TINY), [prompt(20)])
    padded = context[0, : 256 - 20]
    assert torch.equal(padded, padded[:1].expand_as(padded))
    assert not torch.equal(padded[0], context[0, -20])


def test_the_number_of_padded_rows_counts():
    """Without the multiplicity bias 256 and 512 rows would give the same padded row."""
    model = build(TINY)
    short, long = (encode_prompts(model, [prompt(20)], rows)[0][0] for rows in (256, 512))
    assert relative_error(short[0], long[0]) > 1e-3
    assert relative_error(short[-20:], long[-20:]) <= 1e-6  # real tokens never see padding


def test_only_distinct_prompts_are_computed():
    model = build(TINY)
    seen = []
    model.embedding.word_embeddings.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    context, pooled = encode_prompts(model, [prompt(5), prompt(9), prompt(5)])
    assert seen == [5 + 1 + 9 + 1]
    assert torch.equal(context[0], context[2])
    assert torch.equal(pooled[0], pooled[2])
    assert not torch.equal(pooled[0], pooled[1])


def test_a_full_prompt_has_no_padded_row():
    assert pack_prompts([prompt(256)], 256).ids.shape == (256,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("length", [2, 100, 256])
def test_half_precision_is_finite_and_near(dtype, length):
    half = encode_prompts(build(MID, dtype), [prompt(length)], dtype=dtype)
    full = encode_prompts(build(MID), [prompt(length)])
    for found, expected in zip(half, full):
        assert found.isfinite().all()
        assert relative_error(found, expected) < 0.05


@pytest.mark.parametrize("bad", [[], [1] * 257])
def test_a_prompt_that_does_not_fit_is_refused(bad):
    with pytest.raises(ValueError, match="does not fit 256 rows"):
        pack_prompts([bad], 256)


def test_sizes_are_read_from_the_tensors():
    config = ChatGLM3Config.from_state_dict(random_chatglm3(MID, PIECES))
    assert config == ChatGLM3Config(512, MID.hidden, MID.layers, MID.head_dim, MID.groups, MID.ffn)


def test_the_defaults_are_the_released_checkpoint():
    with torch.device("meta"):
        released = ChatGLM3Encoder(ChatGLM3Config()).state_dict()
    assert ChatGLM3Config.from_state_dict(released) == ChatGLM3Config()
    assert sum(tensor.numel() for tensor in released.values()) == pytest.approx(5.977e9, rel=1e-3)


def test_head_size_comes_from_the_configuration_where_the_file_has_no_rotary_table():
    state_dict = random_chatglm3(TINY, PIECES)
    del state_dict["rotary_pos_emb.inv_freq"]
    assert ChatGLM3Config.from_state_dict(state_dict, {"kv_channels": TINY.head_dim}).head_dim == TINY.head_dim
    with pytest.raises(BadFile, match=r"head size cannot be 128 .* config\.json"):
        ChatGLM3Config.from_state_dict(state_dict)


def test_a_part_of_an_encoder_is_named_by_its_configuration():
    with pytest.raises(BadFile, match=r"incomplete .* has 3 of 28 layers"):
        ChatGLM3Config.from_state_dict(random_chatglm3(TINY, PIECES), {"num_layers": 28})


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("embedding.word_embeddings.weight", torch.zeros(8)),
        ("encoder.layers.0.self_attention.query_key_value.weight", torch.zeros(())),
        ("rotary_pos_emb.inv_freq", torch.zeros(0)),
        ("encoder.layers.x.mlp.dense_4h_to_h.weight", torch.zeros(1)),
    ],
)
def test_sizes_that_do_not_add_up_are_named(key, tensor):
    state_dict = random_chatglm3(TINY, 480) | {key: tensor}
    with pytest.raises(BadFile, match="is a damaged ChatGLM3 text encoder: its tensors and configuration"):
        ChatGLM3Config.from_state_dict(state_dict)


@pytest.mark.parametrize("config", [{"layernorm_epsilon": []}, {"num_layers": "many"}, {"num_layers": float("inf")}])
def test_a_configuration_of_other_types_is_named(config):
    with pytest.raises(BadFile, match="is a damaged ChatGLM3 text encoder: its tensors and configuration"):
        ChatGLM3Config.from_state_dict(random_chatglm3(TINY, 480), config)


def test_a_layer_number_far_too_high_is_named_at_once():
    """Building so many layers to compare with would take all memory."""
    state_dict = random_chatglm3(TINY, 480) | {"encoder.layers.999999999.mlp.dense_4h_to_h.weight": torch.zeros(1)}
    with pytest.raises(BadFile, match="has 4 of 1000000000 layers"):
        ChatGLM3Config.from_state_dict(state_dict)
