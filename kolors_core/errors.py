"""The one exception a user of this package is meant to see, and the one logger it writes to."""

import logging

log = logging.getLogger("ComfyUI-Kolors")


class KolorsError(RuntimeError):
    """Bad input: the text says what was found, what was expected and what to do."""


def check_numbers(**values: float) -> None:
    """Refuse NaN, which readers of JSON take for a number and no limit holds. Raises KolorsError with the input."""
    for name, value in values.items():
        if value != value:
            raise KolorsError(f"The input {name} is NaN. Expected a number. Set it in the node again.")
