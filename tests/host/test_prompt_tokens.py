"""What a prompt and other packages' nodes may hold that ChatGLM3 cannot use, and where those look for tokens."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
import re

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer, tokenizer_tensors
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from safetensors.torch import save_file

pytestmark = pytest.mark.host

MODEL = random_tokenizer()
TOKENIZER = ChatGLM3Tokenizer(MODEL)
PROMPT, PLAIN = "a (red:1.4) apple, (yellow:0.7) background", "a red apple, yellow background"
INSTEAD = "'CLIP Text Encode' or 'Kolors Prompt Encode'"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    import loaders

    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_file(random_chatglm3(TINY, TOKENIZER.pieces) | tokenizer_tensors(MODEL), path)
    return loaders.load_text_encoder(str(path))


@pytest.fixture
def warnings(caplog):
    """The lines of the log, of a process that has not warned yet."""
    from comfyui_kolors.kolors_core.host import messages

    messages.warn_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="ComfyUI-Kolors")
    return lambda: [record.getMessage() for record in caplog.records]


def encode(clip, tokens):
    """(context, pooled) of tokens, by the stock node's own call."""
    ((context, extra),) = clip.encode_from_tokens_scheduled(tokens)
    return context, extra["pooled_output"]


def ids(clip, text, **options):
    return [token for token, *_ in clip.tokenize(text, **options)["chatglm3"][0]]


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "weight"),
    [
        ("(Avengers: Infinity)", "Avengers", "inf"),
        ("a (red:nan) apple", "red", "nan"),
        ("a (red:1e400) apple", "red", "inf"),
        ("a (red:-inf) apple", "red", "-inf"),
        ("((red:inf) apple:1.2)", "red", "inf"),
        ("(一只猫:nan)", "一只猫", "nan"),
        ("(a \ud83d cat:nan)", "a ? cat", "nan"),
        (f"({'猫' * 1000}:nan)", "猫" * 60 + "…", "nan"),
    ],
)
def test_a_weight_that_is_no_number_is_named_with_its_words(clip, text, words, weight):
    with pytest.raises(KolorsError) as error:
        clip.tokenize(text)
    assert f'gives "{words}" the weight {weight}. Expected a number' in str(error.value)
    assert r"written \( and \)" in str(error.value)


def test_the_way_out_that_the_message_names_is_one(clip):
    assert clip.tokenize(r"\(Avengers: Infinity\)") == clip.tokenize("(Avengers: Infinity)", disable_weights=True)


@pytest.mark.parametrize("weight", [math.inf, -math.inf, math.nan])
def test_token_lists_of_other_packages_are_checked_as_well(clip, weight):
    tokens = clip.tokenize(PLAIN)
    tokens["chatglm3"][0][-1] = (tokens["chatglm3"][0][-1][0], weight)
    with pytest.raises(KolorsError, match=f"token of the prompt has the weight {weight}"):
        encode(clip, tokens)


@pytest.mark.parametrize("weight", ["3e38", "-3e38", "1e300"])
def test_a_weight_that_breaks_the_context_is_named(clip, weight):
    with pytest.raises(KolorsError, match=re.escape(f"weight {float(weight):g} in a prompt is too large")):
        encode(clip, clip.tokenize(f"a (red:{weight}) apple"))


@pytest.mark.parametrize(("weight", "count"), [("1e6", 1), ("30", 0), ("0", 0), ("-2", 0), ("1e-300", 0)])
def test_a_weight_beyond_fp16_warns(clip, warnings, weight, count):
    context, _ = encode(clip, clip.tokenize(f"a (red:{weight}) apple"))
    assert context.isfinite().all()
    assert [f"The weight {float(weight):g} in a prompt is too large" in line for line in warnings()] == [True] * count


def test_brackets_without_end_are_text_and_too_many_are_named(clip):
    assert ids(clip, "(" * 10_000)[-1] == ids(clip, "(")[-1]
    with pytest.raises(KolorsError, match="nested too deep"):
        clip.tokenize("(" * 10_000 + "cat" + ")" * 10_000)


# ---- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, 5, 1.5, ["a cat"], b"a cat", {"text": "a cat"}])
def test_what_is_no_text_is_named(clip, text):
    found = "nothing" if text is None else f"of type {type(text).__name__}"
    with pytest.raises(KolorsError, match=f"The prompt is {found}. Expected text"):
        clip.tokenize(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a cat \ud83d here", "a cat \ufffd here"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a \ud83d\ude00 cat", "a \U0001f600 cat"),
        ("(\ud83d:1.3)\ude00", "(\ufffd:1.3)\ufffd"),
    ],
)
def test_half_a_surrogate_pair_is_the_replacement_character(clip, text, same):
    assert clip.tokenize(text) == clip.tokenize(same)


# ---- what has no effect ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bad hands, embedding:EasyNegative", "EasyNegative"),
        ("embedding:EasyNegative, bad hands", "EasyNegative"),
        ("a cat\nembedding:坏手.pt", "坏手.pt"),
        ("bad hands,embedding:EasyNegative", "EasyNegative"),
        ("(embedding:EasyNegative:1.2) bad hands", "EasyNegative"),
        ("（embedding:EasyNegative）", "EasyNegative"),
    ],
)
def test_a_textual_inversion_warns_once(clip, warnings, text, name):
    for _ in range(3):
        encode(clip, clip.tokenize(text))
    (line,) = warnings()
    assert line.startswith(f"[Kolors] embedding:{name} has no effect")
    assert line.endswith("Remove it from the prompt.")


@pytest.mark.parametrize(
    "text", ["（词：1.3）", "（词:1.3)", "(词：1.3）", "(词：1.3)", "（词:1.3）", "（a cat：1.3）", "（词： .5 ）"]
)
def test_a_full_width_weight_warns_once(clip, warnings, text):
    for _ in range(3):
        encode(clip, clip.tokenize(f"一只{text}, a cat"))
    (line,) = warnings()
    assert line.startswith(f"[Kolors] {text} is no weight")
    assert "half-width, as in (word:1.2)" in line


def test_full_width_is_nothing_where_weights_are_not_read(clip, warnings):
    clip.tokenize("一只（词：1.3）", disable_weights=True)
    assert warnings() == []


@pytest.mark.parametrize(
    "text",
    [
        "（词）",
        "(a: b)",
        "（注：红色）",
        "(red:1.3)",
        "((red:1.3) apple:0.8)",
        r"\(词：1.3\)",
        "（16：9）",
        "（时间：2024）",
        "an embedding: a vector",
        "word-embedding:two",
        "(embedding:1.2)",
        "mail embedding@example.com",
        "（",
        "：1.3）",
    ],
)
def test_no_false_alarm(clip, warnings, text):
    clip.tokenize(text)
    assert warnings() == []


def test_a_long_text_is_searched_in_one_pass():
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer import BRACKETS, EMBEDDING

    for piece in ("（", "（词", "(:", "（词：", "embedding:", "（词：1", "a "):
        text = piece * (10**6 // len(piece))
        assert not list(BRACKETS.finditer(text))
        assert len(list(EMBEDDING.finditer(text))) <= 1


# ---- nodes and packages that look for another encoder ---------------------------------------------------------------

OTHER_MODELS = {
    "nodes_clip_sdxl.CLIPTextEncodeSDXL": {"text_l", "text_g"},
    "nodes_sd3.CLIPTextEncodeSD3": {"clip_l", "clip_g", "t5xxl"},
    "nodes_flux.CLIPTextEncodeFlux": {"clip_l", "t5xxl"},
    "nodes_hunyuan.CLIPTextEncodeHunyuanDiT": {"bert", "mt5xl"},
    "nodes_hidream.CLIPTextEncodeHiDream": {"clip_l", "clip_g", "t5xxl", "llama"},
    "nodes_kandinsky5.CLIPTextEncodeKandinsky5": {"prompt", "qwen25_7b", "clip_l"},
}


@pytest.mark.parametrize("node", OTHER_MODELS)
def test_encode_nodes_of_other_models_say_what_to_use(clip, node):
    module, name = node.split(".")
    cls = getattr(pytest.importorskip(f"comfy_extras.{module}", reason="this ComfyUI has no such node"), name, None)
    if cls is None:
        pytest.skip("this ComfyUI has no such node")
    run = cls.execute if hasattr(cls, "execute") else getattr(cls(), cls.FUNCTION)
    names = [name for name in inspect.signature(run).parameters if name not in ("cls", "self")]
    inputs = {name: "a cat" if name in OTHER_MODELS[node] else 64 for name in names}
    with pytest.raises(KolorsError, match=f'but Kolors has "chatglm3". Encode the prompts with {INSTEAD}'):
        run(**inputs | {"clip": clip})


@pytest.mark.parametrize("extras", [{"images": [1]}, {"lyrics": "la la"}, {"llama_template": "{}"}])
def test_what_comes_beside_the_prompt_is_named(clip, extras):
    (name,) = extras
    with pytest.raises(KolorsError, match=f"beside the prompt it sends {name}, .*{INSTEAD}"):
        clip.tokenize("a cat", **extras)
    assert clip.tokenize("a cat", images=[], lyrics="", thinking=False, image=None) == clip.tokenize("a cat")


def test_the_token_lists_are_a_dict_else(clip):
    tokens = clip.tokenize("a cat")
    assert isinstance(tokens, dict) and list(tokens) == ["chatglm3"] and "l" not in tokens and tokens.get("l") is None
    assert {**tokens} == tokens == copy.deepcopy(tokens)
    assert json.loads(json.dumps(tokens)).keys() == {"chatglm3"}
    with pytest.raises(KolorsError, match='"g"'):
        copy.copy(tokens)["g"]


@pytest.mark.parametrize("tokens", [{"l": [[(5, 1.0)]], "g": [[(5, 1.0)]]}, [[(5, 1.0)]], {}])
def test_tokens_of_another_encoder_are_named(clip, tokens):
    with pytest.raises(KolorsError, match=r"tokens of another one \(.*\). Expected chatglm3"):
        encode(clip, tokens)


def test_a_textual_inversion_among_the_tokens_is_named(clip):
    tokens = clip.tokenize("a cat")
    tokens["chatglm3"][0][-1] = (torch.zeros(TINY.hidden), 1.0)
    with pytest.raises(KolorsError, match="holds an embedding"):
        encode(clip, tokens)


def test_integers_of_numpy_are_tokens(clip):
    numpy = pytest.importorskip("numpy")
    tokens = clip.tokenize("a cat")
    found = encode(clip, {"chatglm3": [[(numpy.int64(token), weight) for token, weight in tokens["chatglm3"][0]]]})
    assert torch.equal(found[0], encode(clip, tokens)[0])


# ---- packages that look into the encoder ----------------------------------------------------------------------------


def test_the_parts_are_found_by_the_name_of_the_tokens(clip):
    """As the host's encoders have them, and as others read them: by the key, or by the attribute that tells it."""
    for whole in (clip.tokenizer, clip.cond_stage_model, clip.patcher.model):
        assert getattr(whole, whole.clip_name) and whole.clip == "chatglm3"
    tokenizer = clip.tokenizer.chatglm3
    assert [tokenizer.tokenize_with_weights(PROMPT)] == list(clip.tokenize(PROMPT).values())
    prefix = TOKENIZER.prefix
    assert (tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token) == (prefix[0], None, 0)
    assert (tokenizer.tokens_start, tokenizer.max_length) == (len(prefix), 256)
    assert tokenizer.pad_left and tokenizer.pad_to_max_length and not tokenizer.pad_with_end
    assert tokenizer.embedding_directory is None
    assert tokenizer.inv_vocab[prefix[1]] == "sop" and len(tokenizer.inv_vocab) == TOKENIZER.vocab_size
    assert tokenizer.untokenize([(prefix[0], 1.0)]) == [((prefix[0], 1.0), "[gMASK]")]
    assert tokenizer.state_dict() == {}


def test_the_tokenizer_called_as_clips_says_that_it_is_none(clip):
    with pytest.raises(KolorsError, match=r"such as CUT, .* start and end tokens"):
        clip.tokenizer.chatglm3.tokenizer("+")["input_ids"]


def test_the_inner_encoder_takes_the_sections(clip):
    tokens = clip.tokenize(PROMPT)
    inner, expected = clip.cond_stage_model.chatglm3, encode(clip, tokens)
    for found, reference in zip(inner.encode_token_weights(tokens["chatglm3"]), expected):
        assert torch.equal(found, reference)
    assert inner.transformer is clip.cond_stage_model.transformer
    assert not hasattr(inner, "no_such_attribute")


def test_several_sections_follow_each_other(clip):
    first, second = clip.tokenize("a red apple"), clip.tokenize("yellow background")
    context, pooled = encode(clip, {"chatglm3": first["chatglm3"] + second["chatglm3"]})
    apart = [encode(clip, tokens) for tokens in (first, second)]
    assert torch.allclose(context, torch.cat([context for context, _ in apart], dim=1), atol=1e-5)
    assert torch.allclose(pooled, apart[0][1], atol=1e-5)


def test_an_object_patch_of_the_inner_encoder_takes_effect_and_ends(clip):
    """How prompt packages put their weighting in: a clone whose patcher replaces the method by the key's path."""
    tokens = clip.tokenize(PROMPT)
    before = encode(clip, tokens)
    patched, path = clip.clone(), "chatglm3.encode_token_weights"
    inner = patched.patcher.get_model_object(path)
    seen = []

    def halve(sections):
        seen.append(sections)
        context, pooled, *_ = inner(sections)
        return context * 0.5, pooled

    patched.patcher.add_object_patch(path, halve)
    for _ in range(2):
        context, pooled = encode(patched, tokens)
        assert torch.equal(context, before[0] * 0.5) and torch.equal(pooled, before[1])
        assert torch.equal(encode(clip, tokens)[0], before[0])
    assert seen == 2 * [tokens["chatglm3"]]


def test_the_parts_leave_keys_and_own_attributes_as_they_were(clip):
    """Files and LoRAs go by the keys; packages that hook CLIP's tokenizers search the own attributes for them."""
    clip.tokenizer.chatglm3, clip.cond_stage_model.chatglm3  # noqa: B018
    assert {key.split(".")[0] for key in clip.cond_stage_model.state_dict()} == {"transformer"}
    assert not [value for value in vars(clip.tokenizer).values() if hasattr(value, "tokenize_with_weights")]
    assert not [value for value in vars(clip.cond_stage_model).values() if hasattr(value, "encode_token_weights")]


def test_the_third_entry_numbers_the_weighted_parts(clip):
    entries = clip.tokenize(PROMPT, return_word_ids=True)["chatglm3"][0]
    numbers = {number: weight for _, weight, number in entries}
    assert numbers == {0: 1.0, 1: 1.0, 2: 1.4, 3: 1.0, 4: 0.7, 5: 1.0}
    assert [number for *_, number in entries] == sorted(number for *_, number in entries)
    padding = 256 - len(TOKENIZER.encode(PLAIN).ids)
    assert [number for *_, number in entries].count(0) == padding + len(TOKENIZER.prefix)
    assert {number for *_, number in clip.tokenize(PLAIN, return_word_ids=True)["chatglm3"][0]} == {0, 1}
