"""ChatGLM3 from a GGUF file: values, tokenizer, and files of other models."""

import struct
import sys

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.gguf_file import NAMES, build_tokenizer
from comfyui_kolors.kolors_core.tokenizer import SPECIAL_TOKENS, ChatGLM3Tokenizer
from reference import build_chatglm3, encode, relative_error

pytestmark = pytest.mark.host
gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
PROMPT = "一只红苹果，黄色背景 a red apple on a yellow background"
TYPES = ("F32", "F16", "Q8_0", "Q5_0", "Q4_0", "Q4_1")


@pytest.fixture(scope="module")
def loaders():
    from comfyui_kolors.kolors_core.host import loaders

    return loaders


def vocabulary(pieces):
    """Tokens, scores and types of a SentencePiece model, and the special tokens behind them."""
    count = pieces.vocab_size()
    kinds = [
        6 if pieces.is_byte(i) else 2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 1
        for i in range(count)
    ]
    tokens = [pieces.id_to_piece(i) for i in range(count)] + list(SPECIAL_TOKENS)
    return tokens, [pieces.get_score(i) for i in range(count)] + [-1e4] * len(SPECIAL_TOKENS), kinds + [3] * 9


def write(path, kind="F32", architecture="chatglm", model="llama", sizes=TINY, leave_out=None):
    """A file as llama.cpp's converter makes it, and the state dict of the values in it."""
    import sentencepiece

    kind = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(sizes.hidden)
    writer.add_head_count(sizes.hidden // sizes.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens, scores, types = vocabulary(sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER.model))
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if leave_out != "scores":
        writer.add_token_scores(scores)
    values = random_chatglm3(sizes, TOKENIZER.pieces)
    for key, tensor in list(values.items()):
        name = name_of(key)
        if name is None or name == leave_out:
            continue
        if tensor.ndim == 1:
            writer.add_tensor(name, tensor.numpy())
            continue
        packed = gguf.quants.quantize(tensor.numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        values[key] = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path), values


def name_of(key):
    """llama.cpp's name of a published key; None for what its converter leaves out."""
    stem, part = key.rsplit(".", 1)
    for name, published in NAMES.items():
        if "{}" not in published and stem == published:
            return f"{name}.{part}"
        if "{}" in published and stem.startswith("encoder.layers."):
            layer = stem.split(".")[2]
            if stem == published.format(layer):
                return f"blk.{layer}.{name}.{part}"
    return None


def run(clip, text=PROMPT):
    ((context, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return context, extra["pooled_output"]


@pytest.mark.parametrize("kind", TYPES)
def test_its_values_are_computed_with(loaders, tmp_path, kind):
    path, values = write(tmp_path / "encoder.gguf", kind)
    model = build_chatglm3(TINY, TOKENIZER.pieces)
    model.load_state_dict(values)
    expected = encode(model, [TOKENIZER.encode(PROMPT).ids])
    for found, reference in zip(run(loaders.load_text_encoder(path, "fp32")), expected):
        assert relative_error(found, reference) <= 1e-4


@pytest.mark.parametrize("weight_dtype", ["default", "int8", "int4"])
def test_it_is_kept_in_any_storage(loaders, tmp_path, weight_dtype):
    path, _ = write(tmp_path / "encoder.gguf", "Q8_0")
    clip = loaders.load_text_encoder(path, weight_dtype)
    weight = clip.cond_stage_model.transformer.encoder.layers[0].mlp.dense_4h_to_h.weight
    assert weight.dtype == (torch.float16 if weight_dtype == "default" else torch.int8)
    assert run(clip)[0].isfinite().all()


def test_a_matrix_may_be_read_in_parts(loaders, tmp_path, monkeypatch):
    from comfyui_kolors.kolors_core import quantization

    path, _ = write(tmp_path / "encoder.gguf", "Q4_0")
    whole = loaders.load_text_encoder(path, "int8").get_sd()
    monkeypatch.setattr(quantization, "PART", 7 * TINY.hidden)
    parts = loaders.load_text_encoder(path, "int8").get_sd()
    assert all(torch.equal(parts[key], tensor) for key, tensor in whole.items())


def test_the_tokenizer_inside_is_used(loaders, tmp_path):
    path, _ = write(tmp_path / "encoder.gguf")
    tokenizer = loaders.load_text_encoder(path).tokenizer.tokenizer
    for text in ("", PROMPT, "two  spaces", "é 🐱\n", "[gMASK] <|user|>"):
        assert tokenizer.encode(text).ids == TOKENIZER.encode(text).ids


def test_the_real_tokenizer_comes_back_from_its_vocabulary(tokenizer_file):
    import sentencepiece

    real = ChatGLM3Tokenizer.from_file(tokenizer_file)
    rebuilt = ChatGLM3Tokenizer(
        build_tokenizer(*vocabulary(sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_file)))), "rebuilt"
    )
    assert rebuilt.vocab_size == real.vocab_size
    for text in (
        "",
        PROMPT,
        "  two  spaces ",
        "日本語 éè 🐱\n\ttab",
        "ﬁ Ａ１ ①",
        "x" * 300,
        "<|user|> [gMASK]",
        "\0\x7f",
    ):
        assert rebuilt.encode(text).ids == real.encode(text).ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "llama"}, "is a GGUF file of the model family llama, .* Expected chatglm with llama"),
        ({"model": "gpt2"}, "family chatglm, with a vocabulary of the kind gpt2"),
        ({"leave_out": "scores"}, "is an incomplete GGUF file: tokenizer.ggml.scores is missing"),
        ({"leave_out": "blk.1.ffn_up.weight"}, r"1 of \d+ tensors are missing \(encoder.layers.1.mlp.dense_h_to_4h"),
    ],
    ids=str,
)
def test_another_or_incomplete_model_is_named(loaders, tmp_path, changes, message):
    path, _ = write(tmp_path / "encoder.gguf", **changes)
    with pytest.raises(KolorsError, match=rf"encoder.gguf in .*{message}"):
        loaders.load_text_encoder(path)


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + b"\xff" * 100, b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1)])
def test_a_damaged_file_is_named(loaders, tmp_path, content):
    (tmp_path / "encoder.gguf").write_bytes(content)
    with pytest.raises(KolorsError, match=r"encoder.gguf in .* is a damaged GGUF file. Download it again"):
        loaders.load_text_encoder(str(tmp_path / "encoder.gguf"))


def test_a_truncated_file_is_named(loaders, tmp_path):
    path, _ = write(tmp_path / "encoder.gguf")
    with open(path, "r+b") as file:
        file.truncate(300_000)
    with pytest.raises(KolorsError, match="is a damaged GGUF file"):
        loaders.load_text_encoder(path)


def test_without_the_package_its_name_is_given(loaders, tmp_path, monkeypatch):
    path, _ = write(tmp_path / "encoder.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(KolorsError, match=r"needs the package gguf\. Run 'python -m pip install gguf'"):
        loaders.load_text_encoder(path)
