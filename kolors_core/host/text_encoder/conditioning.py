"""Prompts to the host's CONDITIONING, and the folders where files of it lie."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import folder_paths

from ...errors import KolorsError
from ...files.conditioning import is_conditioning
from ...networks.padding import count_equal
from ..model_files import describe_state
from .clip import KolorsTokenizer
from .tokenizer import MAX_TOKENS_OPTION

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


def next_conditioning(prefix: str) -> Path:
    """A path in the output folder for one more conditioning file: ``<prefix>_00001_.safetensors``.

    Raises KolorsError where the prefix leads out of that folder.
    """
    output = folder_paths.get_output_directory()
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    except Exception as error:  # the host's own refusal has no type
        raise KolorsError(
            f"The file name {prefix} leads out of {output} or cannot be a path. Expected a name, with folders if you "
            "like, inside of it, such as conditioning/kolors."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_.safetensors"


def list_conditionings() -> list[str]:
    """Names of the conditioning files of the input folder, and of the output folder with the host's mark for it."""
    names = []
    for folder, mark in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), " [output]")):
        files, _ = folder_paths.recursive_search(folder, [".git"]) if os.path.isdir(folder) else ([], {})
        ours = (file for file in files if file.endswith(".safetensors") and is_conditioning(Path(folder, file)))
        names += sorted(file + mark for file in ours)
    return names


def find_conditioning(name: str) -> Path:
    """The path behind a name of `list_conditionings`.

    Raises FileNotFoundError that says where it was looked for; so does a name that leads out of these folders.
    """
    given = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    leads_out = bool(given.anchor) or ".." in given.parts
    if leads_out or not folder_paths.exists_annotated_filepath(name):
        raise FileNotFoundError(
            f"{name} was not found in {folder_paths.get_input_directory()} or {folder_paths.get_output_directory()}. "
            "Save a conditioning with 'Save Kolors Conditioning', or copy the file there."
        )
    return Path(folder_paths.get_annotated_filepath(name))


def fingerprint(name: str) -> str:
    """Changes when the file behind a name of `list_conditionings` does: path, time of change and size."""
    return describe_state(name, lambda: find_conditioning(name))
