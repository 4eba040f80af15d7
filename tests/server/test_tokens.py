"""The route that the canvas asks how many tokens a prompt takes."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from client import ENCODER, KolorsGraph
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer, tokenizer_tensors

pytestmark = pytest.mark.host

PATH = "/kolors/tokens"
JSON = {"Content-Type": "application/json"}
NAME = {"text_encoder_name": ENCODER}
DROPPED = re.compile(r"The last (\d+) tokens of a prompt of (\d+) were dropped: the limit is (\d+)")
#: Prompts longer than 256 tokens, for those alone are counted in the encoder's log.
LONG = {
    "Chinese": "一只红苹果，黄色背景，" * 80,
    "English": "a red apple on a yellow background, " * 40,
    "brackets": r"(red:1.4) apple, ((yellow)) \(plain\) (:1.2) （猫：1.3） " * 30,
    "marks": "embedding:EasyNegative {a|b} __color__ 👩‍🎨 <lora:x:1>\n" * 20,
    "one word": "a" * 2000,
    "very long": "一只红苹果, a red apple. " * 1500,
}


def post(server, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and decoded answer of a POST of bytes, or of anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = urllib.request.Request(server.url + PATH, data, JSON | headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(message, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        content = error.read()
        return error.code, json.loads(content) if content else None


def ask(server, text: str, **more: Any) -> dict[str, Any]:
    status, answer = post(server, {"text": text} | NAME | more)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("name", LONG)
def test_counts_are_those_of_the_encoder(server, name):
    """What the encoder says in the log, of prompts that are drawn."""
    graph = KolorsGraph()
    before = server.read_log()
    server.latent(graph, graph.sample(positive=graph.encode(LONG[name])))
    ((dropped, total, limit),) = DROPPED.findall(server.read_log().removeprefix(before))
    answer = ask(server, LONG[name])
    assert (answer["tokens"], limit) == (int(total), "256")
    assert 0 < answer["cut"] < len(LONG[name]) and int(dropped) == int(total) - 256
    if int(total) <= 4096:
        assert ask(server, LONG[name], max_tokens=4096) == {"tokens": int(total), "cut": None}


def test_what_is_cut_has_no_effect(server):
    """The prompt up to the cut, which ends between two words, draws the same as the whole."""
    text = "a red apple on a yellow background, " * 40

    def draw(text):
        graph = KolorsGraph()
        return server.latent(graph, graph.sample(positive=graph.encode(text)))

    cut = ask(server, text)["cut"]
    assert draw(text[:cut]).equal(draw(text))
    assert not draw(text[: cut - 1]).equal(draw(text))


def test_an_empty_prompt_takes_two_tokens(server):
    assert ask(server, "") == {"tokens": 2, "cut": None}


def test_without_a_name_or_a_file_the_answer_says_that_there_is_no_tokenizer(server):
    for body in ({"text": "a cat"}, {"text": "a cat", "text_encoder_name": "absent.safetensors"}):
        status, answer = post(server, body)
        assert status == 404
        assert answer["error"].startswith("No tokenizer for a Kolors text encoder. Put tokenizer.model")


def test_the_tokenizer_inside_a_checkpoint_is_taken(server, put):
    tensors = random_chatglm3(TINY, 300)
    tokenizer = {f"text_encoders.{key}": value for key, value in tokenizer_tensors(random_tokenizer()).items()}
    put("checkpoints", "with-tokenizer.safetensors", {f"text_encoders.chatglm3.transformer.{key}": value
                                                      for key, value in tensors.items()} | tokenizer)  # fmt: skip
    status, answer = post(server, {"text": "a cat", "ckpt_name": "with-tokenizer.safetensors"})
    assert (status, answer) == (200, ask(server, "a cat"))


def test_a_damaged_encoder_is_named(server, put):
    put("text_encoders", "damaged.safetensors", b"\x10" + b"\0" * 7 + b"{" * 40)
    status, answer = post(server, {"text": "a cat", "text_encoder_name": "damaged.safetensors"})
    assert status == 404 and answer["error"].startswith("damaged.safetensors in ")


BAD = {
    "no JSON": (b"{", 400),
    "no UTF-8": (b'{"text": "\xff"}', 400),
    "too deep": (b"[" * 100_000, 400),
    "no object": ([], 400),
    "no text": ({}, 400),
    "a number": ({"text": 1}, 400),
    "a limit of text": ({"text": "", "max_tokens": "256"}, 400),
    "a limit of true": ({"text": "", "max_tokens": True}, 400),
    "too small a limit": ({"text": "", "max_tokens": 1}, 400),
    "too large a limit": ({"text": "", "max_tokens": 4097}, 400),
    "a name that is none": ({"text": "", "text_encoder_name": ["a"]}, 400),
    "too long a text": ({"text": "a" * 100_001}, 413),
    "too large a body": (b'"' + b" " * 1_000_000 + b'"', 413),
    "a weight that is none": ({"text": "(Avengers: Infinity)"} | NAME, 422),
    "too many brackets": ({"text": "(" * 2000 + "a" + ")" * 2000} | NAME, 422),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_a_reason(server, case):
    body, status = BAD[case]
    found, answer = post(server, body)
    assert found == status and len(answer["error"]) > 20
    assert ask(server, "")["tokens"] == 2


def test_only_json_is_taken(server):
    body = json.dumps({"text": "a cat"} | NAME).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert post(server, body, **{"Content-Type": kind})[0] == 415
    assert post(server, body, **{"Content-Type": "application/json; charset=utf-8"})[0] == 200
    assert post(server, body, **{"Content-Type": "application/json; charset=none"})[0] == 400


def test_a_page_of_another_origin_is_refused(server):
    body = {"text": "a cat"} | NAME
    assert post(server, body, Origin="http://evil.example")[0] == 403
    assert post(server, body, Origin=server.url)[0] == 200


def test_a_request_of_unknown_length_is_refused(server):
    assert post_chunked(server) == 413


def post_chunked(server) -> int:
    message = urllib.request.Request(server.url + PATH, iter([b'{"text": "a cat"}']), JSON)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as error:
        opener.open(message, timeout=60)
    return error.value.code


def test_many_at_once_are_all_answered(server):
    texts = [f"a cat {'and a dog ' * number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: ask(server, text)["tokens"], texts))
    assert found == [ask(server, text)["tokens"] for text in texts] and found == sorted(found)


def test_nothing_of_a_prompt_is_logged(server):
    before = server.read_log()
    for text in ("秘密（猫：1.3）", "secret embedding:EasyNegative " * 100, "(secret: inf)", "secret" + "(" * 5000):
        post(server, {"text": text} | NAME)
    post(server, {"text": "secret", "text_encoder_name": "secret"})
    post(server, b"secret")
    assert server.read_log() == before
