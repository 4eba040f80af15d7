"""Where ChatGLM3's tokenizer is: in the encoder's file, beside it, in one of the folders where people keep it, or, if
the user wants that, on the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import numpy
import torch
from torch import Tensor

from ...errors import KolorsError, log
from ...models.download import fetch_tokenizer
from ...networks.tokenizer import TOKENIZER_KEY, VOCABULARY, ChatGLM3Tokenizer, fits
from ..model_files import where_to_get

TOKENIZER_FILE = "tokenizer.model"
#: What a user may choose; the second fetches nothing but this one file.
FIND, FETCH = "find", "fetch if missing (1 MB)"


def find_tokenizer(
    path: str | Path | None,
    embedding_rows: int,
    stored: Tensor | None = None,
    choice: str = FIND,
    owner: str = "the text encoder in the checkpoint",
) -> ChatGLM3Tokenizer:
    """The tokenizer of an encoder: `stored` in its file, beside it, in `tokenizer` beside its folder, anywhere in
    text_encoders, or of another pack.

    path: the encoder's file; None where it is inside a checkpoint, beside which nothing is looked for.
    owner: what to call an encoder without a path.
    choice: FETCH fetches the published one to beside the encoder where none is found.
    A damaged one, or one of another vocabulary than the `embedding_rows`, is passed over.
    Raises KolorsError that names the folders and says where to get the file, and why it could not be fetched.
    """
    encoder = owner if path is None else str(path)
    if stored is not None and stored.dtype in (torch.uint8, torch.int8):
        return ChatGLM3Tokenizer(stored.cpu().numpy().astype(numpy.uint8).tobytes(), f"{TOKENIZER_KEY} in {encoder}")
    passed_over = []
    for candidate in dict.fromkeys(_candidates(None if path is None else Path(path).parent)):
        try:
            tokenizer = ChatGLM3Tokenizer.from_file(candidate)
        except KolorsError:
            passed_over.append(f"{candidate} (damaged)")
            continue
        if tokenizer.fits(embedding_rows):
            return tokenizer
        passed_over.append(f"{candidate} ({tokenizer.vocab_size:,} tokens, the encoder has {embedding_rows:,})")
    tried = ""
    if choice == FETCH and path is not None:
        try:
            return _fetch(Path(path).parent, embedding_rows)
        except KolorsError as error:
            tried = f" {error}"
    found = f" Found, but of no use: {'; '.join(passed_over)}." if passed_over else ""
    beside = "" if path is None else "beside it, or "
    raise KolorsError(
        f"No tokenizer for {encoder}.{found} Put {TOKENIZER_FILE} (1,018,370 bytes) {beside}anywhere in "
        f"{folder_paths.get_folder_paths('text_encoders')[0]}. {where_to_get('tokenizer')}{tried}"
    )


def _fetch(folder: Path, embedding_rows: int) -> ChatGLM3Tokenizer:
    """Raises KolorsError where the published tokenizer is another one, or cannot be had."""
    if not fits(VOCABULARY, embedding_rows):
        raise KolorsError(f"It was not fetched: the published one has {VOCABULARY:,} tokens, for another encoder.")
    fetched = fetch_tokenizer(folder)
    log.info("[Kolors] fetched %s (%s bytes)", fetched, f"{fetched.stat().st_size:,}")
    return ChatGLM3Tokenizer.from_file(fetched)


def _candidates(folder: Path | None) -> Iterator[Path]:
    if folder is not None:  # a diffusers folder has one for the tokenizer, too
        beside = folder / TOKENIZER_FILE, folder.parent / "tokenizer" / TOKENIZER_FILE
        yield from filter(Path.is_file, beside)
    for root in folder_paths.get_folder_paths("text_encoders"):
        files, _ = folder_paths.recursive_search(root, [".git"]) if os.path.isdir(root) else ([], {})
        yield from (Path(root, file) for file in sorted(files) if os.path.basename(file) == TOKENIZER_FILE)
    for root in folder_paths.get_folder_paths("custom_nodes"):
        yield from sorted(Path(root).glob(f"*/configs/tokenizer/{TOKENIZER_FILE}"))
