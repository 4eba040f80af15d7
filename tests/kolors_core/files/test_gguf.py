"""The parts of a GGUF file that need no package: names, first bytes, and the tokenizer made of a vocabulary."""

import os

import pytest
import sentencepiece
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.files.gguf import NAMES, build_tokenizer, is_gguf, published_name
from comfyui_kolors.kolors_core.networks.tokenizer import SPECIAL_TOKENS, ChatGLM3Tokenizer

TEXTS = (
    *("", " ", "  two  spaces ", "a red apple", "一只红苹果，黄色背景 a red apple", "日本語 éè 🐱\n\ttab", "ﬁ Ａ１ ①"),
    *("x" * 300, "[gMASK] <|user|>", "\0\x7f", "猫" * 100, "▁a▁", "<0x0A>"),
)


@pytest.mark.parametrize(
    ("content", "found"), [(b"GGUF", True), (b"GGUF" + bytes(9), True), (b"GGU", False), (b"", False), (b"gguf", False)]
)
def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path, content, found):
    (tmp_path / "encoder.safetensors").write_bytes(content)
    assert is_gguf(tmp_path / "encoder.safetensors") is found


@pytest.mark.parametrize("kind", ["nothing", "folder"] + ["pipe"] * hasattr(os, "mkfifo"))
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "encoder.gguf"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert is_gguf(path) is False


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("token_embd.weight", "embedding.word_embeddings.weight"),
        ("blk.0.attn_norm.weight", "encoder.layers.0.input_layernorm.weight"),
        ("blk.3.attn_qkv.weight", "encoder.layers.3.self_attention.query_key_value.weight"),
        ("blk.3.attn_qkv.bias", "encoder.layers.3.self_attention.query_key_value.bias"),
        ("blk.27.attn_output.weight", "encoder.layers.27.self_attention.dense.weight"),
        ("blk.27.ffn_norm.weight", "encoder.layers.27.post_attention_layernorm.weight"),
        ("blk.1.ffn_up.weight", "encoder.layers.1.mlp.dense_h_to_4h.weight"),
        ("blk.1.ffn_down.weight", "encoder.layers.1.mlp.dense_4h_to_h.weight"),
    ],
)
def test_a_tensor_has_its_published_name(name, published):
    assert published_name(name) == published


@pytest.mark.parametrize(
    "name",
    [
        *("output_norm.weight", "output.weight", "rope_freqs.weight"),  # which Kolors does not run
        *("blk.1.ffn_gate.weight", "blk.1.attn_q.weight"),  # which ChatGLM3 does not have
        *("blk.x.ffn_up.weight", "blk.1.ffn_up", "blk.1.ffn_up.weight.scale", "x.blk.1.ffn_up.weight", ""),
    ],
)
def test_another_name_has_none(name):
    assert published_name(name) is None


def test_every_tensor_that_kolors_runs_has_a_name():
    names = {published_name(f"blk.{layer}.{name}.{part}") for layer in range(TINY.layers) for name in NAMES
             for part in ("weight", "bias")} | {published_name("token_embd.weight")}  # fmt: skip
    not_run = ("output_layer.", "encoder.final_layernorm.", "rotary_pos_emb.")
    assert {key for key in random_chatglm3(TINY, 480) if not key.startswith(not_run)} <= names


# ---- its tokenizer --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return ChatGLM3Tokenizer(random_tokenizer())


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    """Tokens, scores and kinds as llama.cpp's converter writes them, without special tokens."""
    pieces = tokenizer.processor
    kinds = [
        6 if pieces.is_byte(i) else 2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 1
        for i in range(tokenizer.pieces)
    ]
    return [[of(i) for i in range(tokenizer.pieces)] for of in (pieces.id_to_piece, pieces.get_score)] + [kinds]


@pytest.mark.parametrize("special", [SPECIAL_TOKENS, ()], ids=["with special tokens", "without"])
def test_a_tokenizer_comes_back_from_its_vocabulary(tokenizer, vocabulary, special):
    tokens, scores, kinds = vocabulary
    more = len(special)
    model = build_tokenizer([*tokens, *special], [*scores, *[-1e4] * more], [*kinds, *[3] * more])
    rebuilt = ChatGLM3Tokenizer(model, "rebuilt")
    assert rebuilt.pieces == tokenizer.pieces
    for text in TEXTS:
        assert rebuilt.encode(text) == tokenizer.encode(text), text
        assert rebuilt.decode(rebuilt.encode(text).ids) == tokenizer.decode(tokenizer.encode(text).ids)


def test_its_pieces_keep_their_scores_and_kinds(vocabulary):
    """The scores are the order in which pieces are joined."""
    found = sentencepiece.SentencePieceProcessor(model_proto=build_tokenizer(*vocabulary))
    for i, (token, score, kind) in enumerate(zip(*vocabulary)):
        assert found.id_to_piece(i) == token
        assert found.get_score(i) == pytest.approx(score)
        assert (found.is_unknown(i), found.is_control(i), found.is_byte(i)) == (kind == 2, kind == 3, kind == 6)


def test_a_piece_of_many_bytes_comes_back(vocabulary):
    """From 128 bytes on, its length takes two bytes itself."""
    tokens, scores, kinds = vocabulary
    model = build_tokenizer([*tokens, "x" * 127, "y" * 300], [*scores, -1e3, -2e3], [*kinds, 1, 1])
    found = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert [found.id_to_piece(len(tokens) + i) for i in (0, 1)] == ["x" * 127, "y" * 300]
