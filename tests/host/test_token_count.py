"""How many tokens a prompt takes, and where in it a limit cuts, without the encoder."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer, tokenizer_tensors
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from safetensors.torch import save_file

pytestmark = pytest.mark.host

MODEL = random_tokenizer()
TOKENIZER = ChatGLM3Tokenizer(MODEL)
PROMPTS = [
    "",
    " ",
    "a red apple",
    "一只红苹果，黄色背景",
    "一只红苹果, a red apple",
    "(red:1.4) apple, ((yellow)) background",
    r"a \(plain\) pair, (a \(weighted:1.2\) one:1.3)",
    "(a:1.2)1, (b:1.2):1.2), (:1.2), :) (c",
    "👩‍🎨 é \ud83d ﬁ　全角（猫：1.3）",
    "embedding:EasyNegative, __color__\n\n  two  spaces ",
    "((((deep))))" * 20,
    "a quiet lake in the mountains, 山中静湖，" * 40,
]
ALPHABET = ["(", ")", ":", "1", ".2", "1.2", "\\", "\\(", "\\)", " ", "a", "猫", "red apple"]


@pytest.fixture
def count():
    from comfyui_kolors.kolors_core.host.text_encoder.token_count import count_tokens

    return count_tokens


def encoded(tokenizer: ChatGLM3Tokenizer, text: str, limit: int) -> tuple[int, int]:
    """Tokens of a prompt and those of them that are dropped, as the encoder sees it."""
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer import parse_weights

    tokens = tokenizer.encode_weighted(parse_weights(text), limit)
    return len(tokens.ids) + tokens.dropped, tokens.dropped


def read_characters(text: str) -> list[tuple[str, int]]:
    """The characters of a prompt that are encoded, each with its place: brackets and weights read one by one."""

    def split(part: list[tuple[str, int]]) -> list[tuple[str, int]]:
        items, item, depth = [], [], 0
        for character in part:
            if character[0] == "(":
                if depth == 0:
                    items.append(item)
                    item = []
                depth += 1
            elif character[0] == ")":
                depth -= 1
            item.append(character)
            if character[0] == ")" and depth == 0:
                items.append(item)
                item = []
        return [character for item in (*items, item) for character in inside(item)]

    def inside(item: list[tuple[str, int]]) -> list[tuple[str, int]]:
        if len(item) < 2 or item[0][0] != "(" or item[-1][0] != ")":
            return item
        item = item[1:-1]
        colons = [index for index, (character, _) in enumerate(item) if character == ":"]
        if colons and colons[-1] > 0:
            try:
                float("".join(character for character, _ in item[colons[-1] + 1 :]))
                item = item[: colons[-1]]
            except ValueError:
                pass
        return split(item)

    characters, index = [], 0
    while index < len(text):
        escaped = text[index : index + 2] in ("\\(", "\\)")
        characters.append(({"(": "\2", ")": "\1"}[text[index + 1]] if escaped else text[index], index))
        index += 1 + escaped
    return [({"\2": "(", "\1": ")"}.get(character, character), place) for character, place in split(characters)]


@pytest.mark.parametrize("text", PROMPTS)
def test_a_prompt_takes_as_many_tokens_as_the_encoder_gives_it(count, text):
    for limit in (3, 5, 256):
        total, dropped = encoded(TOKENIZER, text, limit)
        found, cut = count(TOKENIZER, text, limit)
        assert found == total
        assert (cut is not None) == bool(dropped)


def test_with_the_real_tokenizer_too(count, tokenizer_file):
    tokenizer = ChatGLM3Tokenizer.from_file(tokenizer_file)
    for text, limit in itertools.product(PROMPTS, (3, 20, 256)):
        total, dropped = encoded(tokenizer, text, limit)
        found, cut = count(tokenizer, text, limit)
        assert (found, cut is not None) == (total, bool(dropped))
        if cut is None:
            continue
        characters = read_characters(text)
        kept = sum(place < cut for _, place in characters)
        whole = "".join(character for character, _ in characters)
        ids, every = (tokenizer.encode(whole, limit).ids for limit in (limit, total))
        assert tokenizer.decode(ids).rstrip("\ufffd") == tokenizer.decode(every)[:kept], (text, limit)


def test_the_cut_lies_behind_brackets_and_weights_where_its_character_does(count):
    """Any text of brackets, colons, numbers and words, against one that is read character by character."""
    chance = random.Random(0)
    compared = 0
    for _ in range(3000):
        text = "".join(chance.choices(ALPHABET, k=chance.randint(1, 14)))
        try:
            total, _ = encoded(TOKENIZER, text, 256)
        except KolorsError:  # a weight such as 1e999
            continue
        characters = read_characters(text)
        plain = "".join(character for character, _ in characters)
        for limit in range(3, total):
            _, cut = count(TOKENIZER, text, limit)
            _, in_plain = TOKENIZER.measure(plain, limit)
            assert in_plain is not None
            assert cut == characters[in_plain][1], (text, limit)
            compared += 1
    assert compared > 10_000


def test_a_prompt_that_the_encoder_refuses_is_refused(count):
    for text, reason in (("(Avengers: Infinity)", "the weight inf"), ("(" * 5000 + "a" + ")" * 5000, "too deep")):
        with pytest.raises(KolorsError, match=reason):
            count(TOKENIZER, text, 256)


# ---- tokenizers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The host's folders in a directory of their own."""
    import folder_paths

    for kind, (paths, extensions) in list(folder_paths.folder_names_and_paths.items()):
        (tmp_path / kind).mkdir(exist_ok=True)
        monkeypatch.setitem(
            folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)] * len(paths), extensions)
        )
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    return tmp_path


@pytest.fixture
def tokenizers():
    from comfyui_kolors.kolors_core.host.text_encoder.token_count import Tokenizers

    return Tokenizers()


def save_encoder(path: Path, prefix: str = "", **more: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{prefix}{key}": value for key, value in random_chatglm3(TINY, TOKENIZER.pieces).items()} | more, path)


def test_the_tokenizer_of_an_encoder_is_that_of_its_loader(tokenizers, folder):
    inside, beside = folder / "text_encoders/inside.safetensors", folder / "text_encoders/sub/beside.safetensors"
    save_encoder(inside, **tokenizer_tensors(MODEL))
    save_encoder(beside)
    beside.with_name("tokenizer.model").write_bytes(MODEL)
    assert tokenizers.find("text_encoders", inside.name).source == f"spiece_model in {inside}"
    assert tokenizers.find("text_encoders", "sub/beside.safetensors").source == str(beside.with_name("tokenizer.model"))
    save_encoder(folder / "checkpoints/all.safetensors", "text_encoders.chatglm3.transformer.",
                 **{f"text_encoders.{key}": value for key, value in tokenizer_tensors(MODEL).items()})  # fmt: skip
    assert "in the checkpoint" in tokenizers.find("checkpoints", "all.safetensors").source


def test_of_a_diffusers_folder_the_encoder_is_asked(tokenizers, folder):
    save_encoder(folder / "diffusers/Kolors/text_encoder/model.safetensors")
    (folder / "diffusers/Kolors/unet").mkdir()
    (folder / "diffusers/Kolors/unet/model.safetensors").write_bytes(b"")
    place = folder / "diffusers/Kolors/tokenizer/tokenizer.model"
    place.parent.mkdir()
    place.write_bytes(MODEL)
    assert tokenizers.find("checkpoints", "diffusers/Kolors").source == str(place)


def test_without_the_file_any_tokenizer_is_taken(tokenizers, folder, monkeypatch):
    from comfyui_kolors.kolors_core.host.text_encoder import token_count

    with pytest.raises(KolorsError, match=r"^No tokenizer for a Kolors text encoder\. Put tokenizer\.model"):
        tokenizers.find("text_encoders", "absent.safetensors")
    monkeypatch.setattr(token_count, "VOCABULARY", TOKENIZER.vocab_size)
    place = folder / "text_encoders/tokenizer.model"
    place.write_bytes(MODEL)
    for name in (None, "absent.safetensors", "../secret.safetensors"):
        assert tokenizers.find("text_encoders", name).source == str(place)


def test_a_tokenizer_is_read_once_and_again_when_its_file_changes(tokenizers, folder):
    encoder, place = folder / "text_encoders/encoder.safetensors", folder / "text_encoders/tokenizer.model"
    save_encoder(encoder)
    place.write_bytes(MODEL)
    first = tokenizers.find("text_encoders", encoder.name)
    assert tokenizers.find("text_encoders", encoder.name) is first
    for file in (place, encoder):
        os.utime(file, (1, 1))
        again = tokenizers.find("text_encoders", encoder.name)
        assert again is not first
        first = again
    place.unlink()
    with pytest.raises(KolorsError, match="No tokenizer"):
        tokenizers.find("text_encoders", encoder.name)


def test_few_tokenizers_are_kept(tokenizers, folder):
    from comfyui_kolors.kolors_core.host.text_encoder.token_count import KEPT

    names = [f"{number}.safetensors" for number in range(KEPT + 1)]
    for name in names:
        save_encoder(folder / "text_encoders" / name, **tokenizer_tensors(MODEL))
    found = [tokenizers.find("text_encoders", name) for name in names]
    assert [tokenizers.find("text_encoders", name) is one for name, one in zip(names[1:], found[1:])] == [True] * KEPT
    assert tokenizers.find("text_encoders", names[0]) is not found[0]


def test_of_a_torch_file_that_would_be_read_whole_nothing_is_read(tokenizers, folder, monkeypatch):
    from comfyui_kolors.kolors_core.host.text_encoder import token_count

    monkeypatch.setattr(token_count, "VOCABULARY", TOKENIZER.vocab_size)
    monkeypatch.setattr(token_count, "open_weights", pytest.fail)
    path = folder / "text_encoders/old.bin"
    torch.save(random_chatglm3(TINY, TOKENIZER.pieces), path, _use_new_zipfile_serialization=False)
    path.with_name("tokenizer.model").write_bytes(MODEL)
    assert tokenizers.find("text_encoders", path.name).source == str(path.with_name("tokenizer.model"))
