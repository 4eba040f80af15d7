"""The tokenizer against the reference's, and the rules of weights, limits and padding.

What holds for any vocabulary is tested with a small one. The published file, which is not part of the repository, is
needed only for what is said of it: the reference's ids, and its numbers.
"""

import os
import random

import pytest
from comfyui_kolors.demo.random_models import random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.tokenizer import SPECIAL_TOKENS, ChatGLM3Tokenizer, pad_left, prompt_rows

EDGE_PROMPTS = [
    "", " ", "  ", "\n", "\t", "\n\n\t ", "a", "猫", "。", "🐱", "a ", " a", "a  b   c    d", "a\nb\r\nc\td",
    "\u3000猫\u3000狗", "（红色：1.3），【背景】《书》“引号”……——", "ＦＵＬＬ ｗｉｄｔｈ １２３",
    "龘靐齉爩鱻麤灪", "𠀀𠀁𪚥", "👨‍👩‍👧‍👦🏳️‍🌈", "é e\u0301 ñ ü ß ﬁ", "１girl, (masterpiece:1.2), [bad]",
    "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "[gMASK]sop", "<|system|>", "<|user|>你好<|assistant|>",
    "<|observation|>", "<unk>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<0x0A>", "▁", "▁a", "a▁b", "\u200b",
    "\ufeff猫", "\x00", "NULL\x00byte", "日本語のプロンプト", "한국어 프롬프트", "кошка на снегу", "قطة",
    "แมว", "C++ & <html> {json: \"x\"} \\n %s", "https://example.com/a?b=c", "a" * 1000, "猫" * 1000,
    "red apple, " * 200, "一只红苹果，" * 200, "word " * 254, "word " * 255, "word " * 300,
]  # fmt: skip
ALPHABETS = {
    "chinese": "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动",
    "english": "abcdefghij klmnop qrstuv wxyz ",
    "mixed": "猫狗 cat dog 红blue，,。.（()）：:12 ",
    "emoji": "🐱🐶🍎🌸❤️👍🏽🇨🇳 a猫",
    "rare": "龘靐齉𠀀𪚥㐀㐁䶵鿕",
    "space": " \n\t\r\u3000 a猫",
    "symbols": "!@#$%^&*()_+-=[]{}|;':\",./<>?`~￥【】、；‘’《》",
    "special": "[]<>|gMASKsopeuriystemaobvn ",
}


def random_prompts(count: int, seed: int = 0) -> list[str]:
    """Prompts of 1 to 400 characters from each alphabet in turn."""
    chooser = random.Random(seed)
    alphabets = list(ALPHABETS.values())
    return ["".join(chooser.choices(alphabets[i % len(alphabets)], k=chooser.randint(1, 400))) for i in range(count)]


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(random_tokenizer())
    return file


@pytest.fixture(scope="module")
def small(small_file):
    return ChatGLM3Tokenizer.from_file(small_file)


@pytest.fixture(scope="module", params=["small", "published"])
def file(request):
    return request.getfixturevalue({"small": "small_file", "published": "tokenizer_file"}[request.param])


def test_tokens_masks_and_positions_equal_the_reference(file):
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    reference, ours = ChatGLMTokenizer(str(file)), ChatGLM3Tokenizer.from_file(file)
    prompts = EDGE_PROMPTS + random_prompts(600)
    for prompt in prompts:
        expected = reference(prompt, padding="max_length", max_length=256, truncation=True)
        ids = ours.encode(prompt).ids
        padding = 256 - len(ids)
        assert pad_left(ids, 256) == expected["input_ids"], prompt
        assert [0] * padding + [1] * len(ids) == expected["attention_mask"], prompt
        assert [0] * padding + list(range(len(ids))) == expected["position_ids"], prompt
    assert len(prompts) >= 500


def test_special_tokens_follow_the_vocabulary(small):
    assert small.pieces == small.processor.vocab_size() > 256
    assert [small.special_ids[token] - small.pieces for token in SPECIAL_TOKENS] == list(range(9))
    assert small.prefix == [small.pieces + 1, small.pieces + 3]
    assert small.vocab_size == small.pieces + 9


def test_the_published_vocabulary_has_its_numbers(tokenizer_file):
    published = ChatGLM3Tokenizer.from_file(tokenizer_file)
    assert [published.special_ids[token] for token in SPECIAL_TOKENS] == list(range(64789, 64798))
    assert published.prefix == [64790, 64792]
    assert published.fits(65024)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_look_alikes_of_special_tokens_are_plain_text(small, token):
    ids = small.encode(token).ids
    assert ids[:2] == small.prefix
    assert max(ids[2:]) < small.pieces


def test_a_weight_never_changes_the_tokens(file):
    tokenizer, chooser = ChatGLM3Tokenizer.from_file(file), random.Random(1)
    for prompt in EDGE_PROMPTS + random_prompts(100, seed=1):
        cuts = sorted(chooser.randint(0, len(prompt)) for _ in range(2))
        segments = [(prompt[: cuts[0]], 1.0), (prompt[cuts[0] : cuts[1]], 1.3), (prompt[cuts[1] :], 0.7)]
        weighted = tokenizer.encode_weighted(segments)
        plain = tokenizer.encode(prompt)
        assert weighted.ids == plain.ids, prompt
        assert len(weighted.weights) == len(weighted.ids)
        assert weighted.dropped == plain.dropped


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a cat \ud83d here", "a cat \ufffd here"),
        ("\udfff", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a \ud83d\ude00 cat", "a \U0001f600 cat"),
        ("\ufeff猫 \udbff", "\ufeff猫 \ufffd"),
    ],
)
def test_half_a_surrogate_pair_is_the_replacement_character(file, text, same):
    tokenizer = ChatGLM3Tokenizer.from_file(file)
    assert tokenizer.encode(text) == tokenizer.encode(same)
    assert tokenizer.encode_weighted([(text, 1.3), ("b", 0.5)]) == tokenizer.encode_weighted([(same, 1.3), ("b", 0.5)])


def test_the_halves_of_a_pair_in_two_segments_do_not_join(small):
    found = small.encode_weighted([("\ud83d", 1.3), ("\ude00", 0.5)])
    assert found == small.encode_weighted([("\ufffd", 1.3), ("\ufffd", 0.5)])


def test_segments_are_counted_from_one(small):
    tokens = small.encode_weighted([("a red ", 1.0), ("cat", 1.3), (" and", 1.0)])
    assert tokens.segments == [0, 0, 1, 1, 2, 3, 3]
    assert small.encode("a red cat").segments == [0, 0, 1, 1, 1]
    assert small.encode_weighted([("a red ", 1.0), ("cat", 1.3)], limit=4).segments == [0, 0, 1, 1]


def test_called_as_a_tokenizer_of_transformers_it_refuses(small):
    with pytest.raises(KolorsError, match="CLIP's start and end tokens, which it does not have"):
        small("+")


def weigh(tokenizer, *segments):
    """(piece, weight) of each token, the two of the prefix left out."""
    tokens = tokenizer.encode_weighted(list(segments))
    assert tokens.weights[:2] == [1.0, 1.0]
    return [(tokenizer.describe(token), weight) for token, weight in zip(tokens.ids, tokens.weights)][2:]


def test_a_weight_covers_its_words_and_nothing_else(small):
    """Those of the three bytes of a character too, which no piece stands for."""
    assert weigh(small, ("a red ", 1.0), ("cat", 1.3), (" and 一只", 1.0), ("龘", 0.5), ("狗", 1.0)) == [
        *[("▁a", 1.0), ("▁red", 1.0), ("▁cat", 1.3), ("▁an", 1.0), ("d", 1.0), ("▁一只", 1.0)],
        *[("<0xE9>", 0.5), ("<0xBE>", 0.5), ("<0x98>", 0.5)],
        *[("<0xE7>", 1.0), ("<0x8B>", 1.0), ("<0x97>", 1.0)],
    ]


@pytest.mark.parametrize("last", [0.5, 1.0])
def test_a_piece_takes_the_weight_of_its_last_character(small, last):
    """▁apple and 红苹果 are one piece each, which begins with another weight than it ends with."""
    assert weigh(small, ("a red appl", 1.3), ("e", last)) == [("▁a", 1.3), ("▁red", 1.3), ("▁apple", last)]
    assert weigh(small, ("a red ", 1.0), ("appl", 1.3), ("e", last))[-1] == ("▁apple", last)
    assert weigh(small, ("一只", 1.2), ("红", 1.3), ("苹", 1.4), ("果", last)) == [("▁一只", 1.2), ("红苹果", last)]


@pytest.mark.parametrize("limit", [256, 512])
def test_a_long_prompt_is_cut_and_counted(small, limit):
    tokens = small.encode("cat " * 1000, limit)
    whole = small.encode("cat " * 1000, 10**6)
    assert len(tokens.ids) == limit
    assert tokens.ids == whole.ids[:limit]
    assert tokens.dropped == len(whole.ids) - limit


@pytest.mark.parametrize(("tokens", "rows"), [(2, 256), (256, 256), (257, 512), (512, 512), (513, 768)])
def test_rows_are_the_smallest_multiple_that_holds_the_prompt(tokens, rows):
    assert prompt_rows(tokens) == rows


def test_decode_and_describe(small):
    ids = small.encode("一只猫 a cat").ids
    assert small.decode(pad_left(ids, 64)).strip() == "一只猫 a cat"
    assert small.describe(small.special_ids["sop"]) == "sop"
    assert small.describe(10**6) == ""


def test_a_vocabulary_fits_only_its_own_embedding(small):
    """ChatGLM rounds the table up, to a multiple of 256."""
    assert small.fits(512)
    assert not small.fits(65024)
    assert [small.fits(small.vocab_size + rows) for rows in (-1, 0, 255, 256)] == [False, True, True, False]


def test_a_file_that_is_no_tokenizer_is_named():
    with pytest.raises(KolorsError, match=r"there/tokenizer\.model is not a SentencePiece model \(7 bytes\)"):
        ChatGLM3Tokenizer(b"garbage", "there/tokenizer.model")


def test_an_empty_model_is_named():
    """sentencepiece takes it, and fails only when a text is encoded."""
    with pytest.raises(KolorsError, match=r"is not a SentencePiece model \(0 bytes\)"):
        ChatGLM3Tokenizer(b"")


@pytest.mark.parametrize("kind", ["nothing", "folder"] + ["link", "pipe"] * (os.name != "nt"))
def test_what_is_no_file_is_missing(tmp_path, kind):
    path = tmp_path / "tokenizer.model"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(FileNotFoundError, match=r"tokenizer.model is not in"):
        ChatGLM3Tokenizer.from_file(path)
