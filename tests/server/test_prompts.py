"""Prompts: weights, size conditioning, length, and the stock nodes that work on a CONDITIONING."""

from __future__ import annotations

import re

import pytest
import safetensors.torch
import torch
from client import ENCODER, PROMPT, KolorsGraph, PromptError
from comfyui_kolors.demo import random_models
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer

pytestmark = pytest.mark.host

OTHER_PROMPT = "一只小蓝鸟, a small blue bird in a green tree"
LONG_PROMPT = "一只红苹果，黄色背景, a red apple on a yellow background. " * 20
DROPPED = re.compile(r"The last (\d+) tokens of a prompt of (\d+) were dropped: the limit is (\d+)")


def encode(graph, text=PROMPT, **inputs):
    return graph.add("KolorsPromptEncode", clip=graph.clip, text=text, **inputs)


def draw(server, make_positive, **changes):
    """The latent of a positive conditioning that `make_positive` adds to the graph."""
    graph = KolorsGraph()
    return server.latent(graph, graph.sample(make_positive(graph), **changes))


def count_tokens(server, text):
    model = safetensors.torch.load_file(server.base / "models/text_encoders" / ENCODER)["spiece_model"]
    return len(ChatGLM3Tokenizer(model.numpy().tobytes()).encode(text, limit=10_000).ids)


CONDITIONING = {
    "ConditioningCombine": lambda graph, first, second: graph.add(
        "ConditioningCombine", conditioning_1=first, conditioning_2=second
    ),
    "ConditioningConcat": lambda graph, first, second: graph.add(
        "ConditioningConcat", conditioning_to=first, conditioning_from=second
    ),
    "ConditioningAverage": lambda graph, first, second: graph.add(
        "ConditioningAverage", conditioning_to=first, conditioning_from=second, conditioning_to_strength=0.5
    ),
    "ConditioningSetArea": lambda graph, first, second: graph.add(
        "ConditioningCombine",
        conditioning_1=first,
        conditioning_2=graph.add(
            "ConditioningSetArea", conditioning=second, width=64, height=64, x=64, y=0, strength=1.0
        ),
    ),
}


@pytest.mark.parametrize("name", CONDITIONING)
def test_conditioning_node_changes_the_latent(server, name):
    def wide(make_positive):
        graph = KolorsGraph()
        return server.latent(graph, graph.sample(make_positive(graph), latent=graph.empty_latent(128, 64)))

    first = wide(lambda graph: graph.encode(PROMPT))
    second = wide(lambda graph: graph.encode(OTHER_PROMPT))
    both = wide(lambda graph: CONDITIONING[name](graph, graph.encode(PROMPT), graph.encode(OTHER_PROMPT)))
    assert not torch.equal(both, first)
    assert not torch.equal(both, second)


def test_average_with_all_weight_on_one_prompt_is_that_prompt(server, plain):
    def average(graph):
        return graph.add(
            "ConditioningAverage",
            conditioning_to=graph.encode(PROMPT),
            conditioning_from=graph.encode(OTHER_PROMPT),
            conditioning_to_strength=1.0,
        )

    assert torch.equal(draw(server, average), plain)


@pytest.mark.parametrize("word", ["苹果", "apple"])
@pytest.mark.parametrize(("weight", "equal"), [("1.0", True), ("1.4", False), ("0.6", False)])
def test_only_weight_one_is_bit_equal_to_the_plain_prompt(server, plain, word, weight, equal):
    weighted = PROMPT.replace(word, f"({word}:{weight})")
    assert weighted != PROMPT
    assert torch.equal(draw(server, lambda graph: graph.encode(weighted)), plain) is equal


def test_prompt_encode_with_defaults_is_clip_text_encode(server, plain):
    assert torch.equal(draw(server, encode), plain)
    assert not torch.equal(draw(server, lambda graph: encode(graph, OTHER_PROMPT)), plain)


@pytest.mark.parametrize("name", ["width", "height", "crop_w", "crop_h", "target_width", "target_height"])
def test_each_size_of_prompt_encode_changes_the_latent(server, plain, name):
    assert not torch.equal(draw(server, lambda graph: encode(graph, **{name: 512})), plain)


@pytest.mark.parametrize("names", [("width", "height"), ("target_width", "target_height")])
def test_the_latents_own_size_is_the_default_of_prompt_encode(server, plain, names):
    assert torch.equal(draw(server, lambda graph: encode(graph, **dict.fromkeys(names, 64))), plain)


def test_long_prompt_is_cut_with_a_warning_in_the_log(server):
    before = server.read_log()
    cut = draw(server, lambda graph: graph.encode(LONG_PROMPT))
    warnings = DROPPED.findall(server.read_log().removeprefix(before))
    total = count_tokens(server, LONG_PROMPT)
    assert 256 < total <= 512
    assert warnings == [(str(total - 256), str(total), "256")]
    assert torch.equal(draw(server, lambda graph: encode(graph, LONG_PROMPT)), cut)


def test_max_tokens_takes_in_what_would_be_cut(server):
    cut = draw(server, lambda graph: encode(graph, LONG_PROMPT))
    before = server.read_log()
    whole = draw(server, lambda graph: encode(graph, LONG_PROMPT, max_tokens=512))
    assert not torch.equal(whole, cut)
    assert not DROPPED.search(server.read_log().removeprefix(before))


def test_max_tokens_leaves_a_short_prompt_as_it_is(server, plain):
    assert torch.equal(draw(server, lambda graph: encode(graph, max_tokens=512)), plain)


def test_no_prompt_reaches_the_log(server):
    """Not one that is drawn, nor one that is too long, nor one whose encoding fails."""
    graph = KolorsGraph()
    texts = ["a secret umbrella", "秘密的雨伞, " + "a secret umbrella " * 200]
    for text in texts:
        server.latent(graph, graph.sample(positive=graph.encode(text)))
        encoded = graph.add("KolorsPromptEncode", clip=graph.clip, text=text)
        server.latent(graph, graph.sample(positive=encoded))
    checkpoint = server.base / "models" / "checkpoints" / "without-encoder.safetensors"
    checkpoint.write_bytes((server.base / "models" / random_models.UNET_FILE).read_bytes())
    graph = KolorsGraph()
    clip = graph.add("KolorsCheckpointLoader", ckpt_name=checkpoint.name).output(1)
    with pytest.raises(PromptError, match="nothing: the checkpoint it comes from has no text encoder"):
        server.latent(graph, graph.sample(positive=graph.add("KolorsPromptEncode", clip=clip, text=texts[0])))
    log = server.read_log()
    assert "tokens of a prompt of" in log
    assert "secret" not in log and "秘密" not in log


def refused(server, make_positive) -> PromptError:
    graph = KolorsGraph()
    with pytest.raises(PromptError) as failure:
        server.latent(graph, graph.sample(make_positive(graph)))
    return failure.value


@pytest.mark.parametrize("node", ["CLIPTextEncode", "KolorsPromptEncode"])
def test_an_infinite_weight_is_named_by_the_node(server, node):
    error = refused(server, lambda graph: graph.add(node, clip=graph.clip, text="a poster (Avengers: Infinity)"))
    assert error.node == node and error.kind.endswith("KolorsError")
    assert 'gives "Avengers" the weight inf' in str(error)


def test_an_encode_node_of_another_model_says_what_to_use(server, plain):
    sizes = dict.fromkeys(("width", "height", "target_width", "target_height"), 512) | {"crop_w": 0, "crop_h": 0}
    error = refused(
        server,
        lambda graph: graph.add("CLIPTextEncodeSDXL", clip=graph.clip, text_g="a cat", text_l="a cat", **sizes),
    )
    assert error.node == "CLIPTextEncodeSDXL" and "'CLIP Text Encode' or 'Kolors Prompt Encode'" in str(error)
    assert torch.equal(draw(server, lambda graph: graph.encode()), plain)


def test_half_a_surrogate_pair_is_the_replacement_character(server):
    """JSON may escape one, and no other program than this has to like it."""
    found, expected = (draw(server, lambda graph, t=text: graph.encode(t)) for text in ("a \ud83d cat", "a \ufffd cat"))
    assert torch.equal(found, expected)


def test_what_has_no_effect_is_in_the_log_once(server):
    before = server.read_log()
    for seed in (1, 2):
        draw(server, lambda graph: graph.encode("a cat, embedding:EasyNegative（猫：1.3）"), seed=seed)
        draw(server, lambda graph: encode(graph, "a cat, embedding:EasyNegative（猫：1.3）"), seed=seed)
    log = server.read_log().removeprefix(before)
    assert log.count("embedding:EasyNegative has no effect") == 1
    assert log.count("（猫：1.3） is no weight") == 1
