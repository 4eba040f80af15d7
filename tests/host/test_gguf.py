"""ChatGLM3 from a GGUF file: values, tokenizer, and files of other models."""

import os
import struct
import sys

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files.gguf import build_tokenizer
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from reference import build_chatglm3, encode, relative_error

pytestmark = pytest.mark.host
pytest.importorskip("gguf", reason="the package gguf is not installed")

from gguf_files import TOKENIZER, vocabulary, write  # noqa: E402

PROMPT = "一只红苹果，黄色背景 a red apple on a yellow background"
TYPES = ("F32", "F16", "Q8_0", "Q5_0", "Q4_0", "Q4_1")


@pytest.fixture(scope="module")
def loaders():
    import loaders

    return loaders


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
def test_it_is_kept_in_any_storage(loaders, tmp_path, host_defaults, weight_dtype):
    path, _ = write(tmp_path / "encoder.gguf", "Q8_0")
    clip = loaders.load_text_encoder(path, weight_dtype)
    weight = clip.cond_stage_model.transformer.encoder.layers[0].mlp.dense_4h_to_h.weight
    assert weight.dtype == (torch.float16 if weight_dtype == "default" else torch.int8)
    assert run(clip)[0].isfinite().all()


def test_a_matrix_may_be_read_in_parts(loaders, tmp_path, monkeypatch):
    from comfyui_kolors.kolors_core.networks import quantization

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
        ({"heads": 0}, "is a damaged GGUF file: its sizes or its vocabulary are impossible"),
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


def test_tensors_that_lie_over_each_other_are_refused(loaders, tmp_path, monkeypatch):
    """A file may point many tensors at the same bytes, which would take far more memory than it has bytes."""
    import gguf

    path, _ = write(tmp_path / "encoder.gguf")
    read = gguf.GGUFReader

    def reader(path):
        found = read(path)
        found.tensors *= 10
        return found

    monkeypatch.setattr(gguf, "GGUFReader", reader)
    with pytest.raises(KolorsError, match="but its tensors would take"):
        loaders.load_text_encoder(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(loaders, tmp_path):
    os.mkfifo(tmp_path / "encoder.gguf")
    with pytest.raises(FileNotFoundError, match=r"encoder.gguf is not in"):
        loaders.load_text_encoder(str(tmp_path / "encoder.gguf"))


def test_without_the_package_its_name_is_given(loaders, tmp_path, monkeypatch):
    path, _ = write(tmp_path / "encoder.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(KolorsError, match=r"needs the package gguf\. Run 'python -m pip install gguf'"):
        loaders.load_text_encoder(path)
