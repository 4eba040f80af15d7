"""What a user is told, and the one logger that the pack writes to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("ComfyUI-Kolors")


class KolorsError(RuntimeError):
    """Bad input: the text says what was found, what was expected and what to do."""


class BadFile(ValueError):
    """What is wrong with a file, as the rest of a sentence that begins with its name; `naming` makes it whole."""


@contextmanager
def naming(path: str | Path | None, hint: str = "") -> Iterator[None]:
    """Make whole sentences of what is found bad in a file: its name in front, `hint` behind.

    path: None for a checkpoint that the host reads, whose name it does not tell.
    Raises KolorsError in the place of a BadFile.
    """
    try:
        yield
    except BadFile as error:
        raise KolorsError(f"{locate(path)} {error}{hint and ' '}{hint}") from error.__cause__


def locate(path: str | Path | None) -> str:
    """A file and its folder, for messages."""
    return "The checkpoint" if path is None else f"{Path(path).name} in {Path(path).parent}"


def shorten(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_numbers(**values: float) -> None:
    """Refuse NaN: JSON parsers accept it, and checks against a minimum and a maximum let it through.

    Raises KolorsError that names the input.
    """
    for name, value in values.items():
        if value != value:
            raise KolorsError(f"The input {name} is NaN. Expected a number. Set it in the node again.")
