"""The one exception a user of this package is meant to see, and the one logger it writes to."""

import logging

log = logging.getLogger("ComfyUI-Kolors")


class KolorsError(RuntimeError):
    """Bad input: the text says what was found, what was expected and what to do."""
