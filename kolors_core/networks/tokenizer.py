"""The ChatGLM3 tokenizer on SentencePiece alone.

Special tokens follow the vocabulary in a fixed order. A prompt is ``[gMASK] sop`` + text, cut to a limit, and padded on
the LEFT with id 0. Text that looks like a special token is plain text. Nothing of ``transformers`` is used: its
tokenizer classes changed three times under the earlier packs.

Source: ``kolors/models/tokenization_chatglm.py`` of Kwai-Kolors, and the tokenizer of diffusers' Kolors pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import sentencepiece

from ..errors import KolorsError

TOKENIZER_KEY = "spiece_model"  # ComfyUI's name for a tokenizer that is stored among the tensors
SPECIAL_TOKENS = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
PAD_ID = 0
PROMPT_ROWS = 256  # rows of a Kolors conditioning; a longer prompt takes a multiple of it
VOCABULARY = 64_798  # pieces and special tokens of the published one
EMBEDDING_MULTIPLE = 256  # ChatGLM rounds its embedding table up to a multiple of this


class Tokens(NamedTuple):
    """A tokenized prompt, prefix included, padding not.

    ids, weights, segments: of equal length (2 to ``limit``). segments: the part of the prompt that a token belongs to,
    counted from 1, 0 for the prefix. dropped: tokens of the text beyond the limit.
    """

    ids: list[int]
    weights: list[float]
    segments: list[int]
    dropped: int


class ChatGLM3Tokenizer:
    """SentencePiece with ChatGLM3's prefix.

    model: the bytes of ``tokenizer.model``. source: where they come from, for messages.
    Raises KolorsError where they are not a SentencePiece model.
    """

    def __init__(self, model: bytes, source: str = "tokenizer.model"):
        self.model = model
        self.source = source
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self.processor.encode("")  # an empty model is noticed only when it is used
        except Exception as error:  # sentencepiece raises several types, RuntimeError among them
            raise KolorsError(
                f"{source} is not a SentencePiece model ({len(model):,} bytes). Expected ChatGLM3's tokenizer.model "
                "(1,018,370 bytes). Download it again from the Kolors or ChatGLM3 repository, text_encoder folder."
            ) from error
        self.pieces = self.processor.vocab_size()
        self.special_ids = {token: self.pieces + i for i, token in enumerate(SPECIAL_TOKENS)}
        self.prefix = [self.special_ids["[gMASK]"], self.special_ids["sop"]]

    @classmethod
    def from_file(cls, path: str | Path) -> ChatGLM3Tokenizer:
        """Read ``tokenizer.model`` at `path`. Raises FileNotFoundError, or KolorsError where it is something else."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is not in {path.parent}.")
        return cls(path.read_bytes(), str(path))

    def __call__(self, *texts: object, **options: object) -> NoReturn:
        """Refuse what a tokenizer of ``transformers`` does: who calls one counts on CLIP's start and end tokens."""
        raise KolorsError(
            "A node of another package, or a word that it reads in a prompt, such as CUT, asks ChatGLM3's tokenizer "
            "for CLIP's start and end tokens, which it does not have. Take that word out of the prompt, or encode the "
            "prompt with 'CLIP Text Encode'."
        )

    @property
    def vocab_size(self) -> int:
        """Pieces and special tokens together."""
        return self.pieces + len(SPECIAL_TOKENS)

    def fits(self, embedding_rows: int) -> bool:
        """Whether an embedding table of so many rows was made for this vocabulary."""
        return fits(self.vocab_size, embedding_rows)

    def encode(self, text: str, limit: int = PROMPT_ROWS) -> Tokens:
        """Tokenize plain text; every weight is 1."""
        return self.encode_weighted([(text, 1.0)], limit)

    def encode_weighted(self, segments: list[tuple[str, float]], limit: int = PROMPT_ROWS) -> Tokens:
        """Tokenize `segments` of (text, weight) as ONE text, so that a weight never changes the tokens.

        A piece belongs to the segment of its last character, and takes its weight; without any weights but 1 all are
        of the first. Half a surrogate pair becomes U+FFFD.
        """
        segments = [(_well_formed(text), weight) for text, weight in segments]
        text = "".join(segment for segment, _ in segments)
        if all(weight == 1.0 for _, weight in segments):
            ids = self.processor.encode(text)
            owners = [0] * len(ids)
        else:
            by_character = [index for index, (segment, _) in enumerate(segments) for _ in segment]
            ids, offsets = self._encode_with_offsets(text)
            owners = [by_character[min(max(end - 1, begin), len(text) - 1)] for begin, end in offsets]
        prefix = len(self.prefix)
        ids = self.prefix + ids
        weights = [1.0] * prefix + [segments[owner][1] for owner in owners]
        numbers = [0] * prefix + [owner + 1 for owner in owners]
        return Tokens(ids[:limit], weights[:limit], numbers[:limit], max(0, len(ids) - limit))

    def measure(self, text: str, limit: int = PROMPT_ROWS) -> tuple[int, int | None]:
        """How many tokens `encode` makes without a limit, and the character at which those beyond `limit` begin.

        Of a character that is cut in two, the character itself; None where nothing is cut.
        """
        text = _well_formed(text)
        prefix, count = len(self.prefix), len(self.prefix) + len(self.processor.encode(text))
        return count, self._encode_with_offsets(text)[1][limit - prefix][0] if count > limit else None

    def _encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the (begin, end) characters each stands for; a byte piece inside a character has begin == end."""
        if hasattr(self.processor, "EncodeAsOffsetMapping"):  # sentencepiece >= 0.2.2
            mapping = self.processor.EncodeAsOffsetMapping(text)
            return mapping["ids"], mapping["offsets"]
        kind = "immutable_proto"  # which newer versions, and their types, no longer know
        pieces = self.processor.encode(text, out_type=kind).pieces  # pyright: ignore[reportArgumentType]
        return [piece.id for piece in pieces], [(piece.begin, piece.end) for piece in pieces]

    def describe(self, token: int) -> str:
        """The piece or special token behind an id; an empty string for an id of neither."""
        if token < self.pieces:
            return self.processor.id_to_piece(token)
        index = token - self.pieces
        return SPECIAL_TOKENS[index] if index < len(SPECIAL_TOKENS) else ""

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`; special tokens and padding are left out."""
        return self.processor.decode([token for token in ids if PAD_ID < token < self.pieces])


def fits(vocabulary: int, embedding_rows: int) -> bool:
    """Whether an embedding table of so many rows was made for so many tokens."""
    return vocabulary <= embedding_rows < vocabulary + EMBEDDING_MULTIPLE


def _well_formed(text: str) -> str:
    """`text` with U+FFFD for a lone half of a surrogate pair, which has no UTF-8; the halves of a whole one join."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def prompt_rows(tokens: int) -> int:
    """Rows of the padded conditioning of a prompt of so many tokens: the smallest multiple of 256 that holds it."""
    return max(1, -(-tokens // PROMPT_ROWS)) * PROMPT_ROWS


def pad_left(numbers: Sequence[float], rows: int, pad: float = PAD_ID) -> list[float]:
    """Pad ids, which stay int, or weights on the left to `rows`."""
    return [pad] * (rows - len(numbers)) + list(numbers)
