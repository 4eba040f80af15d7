"""A prompt to tokens: its weights, what ChatGLM3 cannot read, and what looks like a weight but is none."""

from __future__ import annotations

import math
import re
from typing import Any

import comfy.sd1_clip
from torch import Tensor

from ...errors import KolorsError, log, shorten
from ...networks.tokenizer import PAD_ID, PROMPT_ROWS, ChatGLM3Tokenizer, pad_left, prompt_rows
from ..messages import warn_once

NAME = "chatglm3"
MAX_TOKENS_OPTION = "kolors_max_tokens"
INSTEAD = "Encode the prompts with 'CLIP Text Encode' or 'Kolors Prompt Encode'."
QUOTED = 60  # characters of a prompt in a message, at most

EMBEDDING = re.compile(r"(?<![^\s,，(（])embedding:([^\s,，()（）]+)")
#: Brackets around words, a colon, and a number of one digit before the point: a weight, if all were half-width.
BRACKETS = re.compile(
    r"(?<!\\)(?P<open>[(（])[^()（）]*[^()（）:：\d\s]\s*(?P<colon>[:：])"
    r"\s*[-+]?(?:\d(?:[.．]\d*)?|[.．]\d+)\s*(?P<close>[)）])"
)


class SectionTokenizer:
    """The host's interface of one encoder's tokenizer: a prompt to a list of sections, here always one."""

    max_length = PROMPT_ROWS
    pad_to_max_length = True
    pad_left = True
    pad_with_end = False
    pad_token = PAD_ID
    end_token = None
    embedding_directory = None  # no textual inversion
    embedding_identifier = "embedding:"
    embedding_key = NAME

    def __init__(self, tokenizer: ChatGLM3Tokenizer):
        self.tokenizer = tokenizer
        self.start_token, *_ = tokenizer.prefix
        self.tokens_start = len(tokenizer.prefix)

    @property
    def inv_vocab(self) -> dict[int, str]:
        return {token: self.tokenizer.describe(token) for token in range(self.tokenizer.vocab_size)}

    def tokenize_with_weights(
        self, text: str, return_word_ids=False, tokenizer_options=None, disable_weights=False, **kwargs
    ):
        """One section of `prompt_rows` entries (id, weight), or (id, weight, number of the weighted part, from 1).

        Raises KolorsError where `text` is no text, has a weight that is no number, or comes with what ChatGLM3 cannot
        read, such as images.
        """
        _check_input(text, kwargs)
        limit = (tokenizer_options or {}).get(MAX_TOKENS_OPTION, PROMPT_ROWS)
        segments = [(text, 1.0)] if disable_weights else parse_weights(text)
        _warn_of_embeddings(segments)
        tokens = self.tokenizer.encode_weighted(segments, limit)
        if tokens.dropped:
            log.warning(
                "[Kolors] The last %d tokens of a prompt of %d were dropped: the limit is %d. "
                "'Kolors Prompt Encode' has max_tokens to raise it.",
                tokens.dropped, len(tokens.ids) + tokens.dropped, limit,
            )  # fmt: skip
        rows = prompt_rows(len(tokens.ids))
        columns = [pad_left(tokens.ids, rows), pad_left(tokens.weights, rows, 1.0)]
        if return_word_ids:
            columns.append(pad_left(tokens.segments, rows))
        return [list(zip(*columns))]

    def untokenize(self, token_weight_pair):
        return [(pair, self.tokenizer.describe(pair[0])) for pair in token_weight_pair]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def parse_weights(text: str) -> list[tuple[str, float]]:
    """Split a prompt by the host's ``(word:1.2)`` syntax into (text, weight); ``\\(`` is a plain parenthesis.

    Says in the log what would be a weight, if its characters were half-width.
    Raises KolorsError as `split_weights` does.
    """
    for match in BRACKETS.finditer(text):
        if match.group("open", "colon", "close") != ("(", ":", ")"):
            warn_once(
                f"[Kolors] {_quote(match[0])} is no weight, and is read as words: brackets and colon of a weight are "
                "half-width, as in (word:1.2)."
            )
    return [(comfy.sd1_clip.unescape_important(segment), weight) for segment, weight in split_weights(text)]


def split_weights(text: str) -> list[tuple[str, float]]:
    """The (text, weight) of `parse_weights`, the text as `escape_important` writes it; nothing is logged.

    Raises KolorsError for a weight that is infinite or NaN, and for brackets deeper than Python's recursion.
    """
    try:
        segments = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
    except RecursionError:
        raise KolorsError(
            "The brackets of the prompt are nested too deep, hundreds of them in each other. Remove some: a weight in "
            "numbers, as in (word:1.2), needs one pair."
        ) from None
    for segment, weight in segments:
        if not math.isfinite(weight):
            segment = comfy.sd1_clip.unescape_important(segment)
            raise KolorsError(
                f'The prompt gives "{_quote(segment)}" the weight {weight}. Expected a number such as 1.2. Brackets '
                r"that belong to the text are written \( and \)."
            )
    return segments


def _check_input(text: Any, extras: dict[str, Any]) -> None:
    if not isinstance(text, str):
        raise KolorsError(
            f"The prompt is {'nothing' if text is None else f'of type {type(text).__name__}'}. Expected text. Where a "
            f"node of another package has several ways to read a prompt, choose ComfyUI's. {INSTEAD}"
        )
    given = [name for name, value in extras.items() if not (value is None or value is False or _is_empty(value))]
    if given:
        raise KolorsError(
            f"This node is made for another model: beside the prompt it sends {shorten(given)}, which ChatGLM3 cannot "
            f"read. {INSTEAD}"
        )


def _is_empty(value: Any) -> bool:
    return isinstance(value, (str, list, tuple, dict)) and not value


def _warn_of_embeddings(segments: list[tuple[str, float]]) -> None:
    for match in (match for segment, _ in segments for match in EMBEDDING.finditer(segment)):
        warn_once(
            f"[Kolors] {_quote(match[0])} has no effect as a textual inversion: ChatGLM3 has none, and reads it as "
            "words. Remove it from the prompt."
        )


def _quote(text: str) -> str:
    """A part of a prompt for a message, which may be as long and as broken as a prompt."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
