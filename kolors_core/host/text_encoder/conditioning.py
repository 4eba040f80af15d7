"""Prompts to the host's CONDITIONING, and the files of it."""

from __future__ import annotations

from ...errors import KolorsError
from ...files.conditioning import is_conditioning
from ...networks.padding import count_equal
from ..saved_files import SavedFiles
from .clip import KolorsTokenizer
from .tokenizer import MAX_TOKENS_OPTION

FILES = SavedFiles("Save Kolors Conditioning", "conditioning/kolors", is_conditioning)
EMPTY_TOKENS = 2  # [gMASK] and sop, which begin every prompt


def encode_prompt(clip, text: str, max_tokens: int, size: dict[str, int]):
    """Encode `text`, cut to `max_tokens`, with the sizes that are not 0 (pixels; 0 = the latent's own, or no crop).

    Raises KolorsError where `clip` is not a ChatGLM3 encoder.
    """
    if not isinstance(getattr(clip, "tokenizer", None), KolorsTokenizer):
        found = (
            "nothing: the checkpoint it comes from has no text encoder" if clip is None else "the CLIP of another model"
        )
        raise KolorsError(
            f"'Kolors Prompt Encode' got {found}. Expected ChatGLM3: connect the CLIP of "
            "'Load Kolors ChatGLM3 Text Encoder'."
        )
    tokens = clip.tokenize(text, tokenizer_options={MAX_TOKENS_OPTION: max_tokens})
    return clip.encode_from_tokens_scheduled(tokens, add_dict={name: value for name, value in size.items() if value})


def is_empty_prompt(conditioning) -> bool:
    """Whether each entry of a CONDITIONING is an empty prompt of ChatGLM3, padding and two tokens, or zeroed out."""
    return all(bool((states.shape[1] - count_equal(states) <= EMPTY_TOKENS).all()) for states, *_ in conditioning)
