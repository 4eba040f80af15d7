"""What a user sees while the pack works: a bar and a line on a node, a line in the log, and the fault of a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import comfy.model_management
import comfy.utils

from ..errors import BadFile, KolorsError, log
from . import compat


def count_steps(total: int) -> Callable[[], None]:
    """A function to call after each of `total` steps: it moves the running node's bar, and raises on Cancel."""
    bar = comfy.utils.ProgressBar(total)

    def step() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return step


def show_text(text: str, node_id: str | None) -> None:
    """Show a line on the node that runs; where there is no server nothing happens."""
    from server import PromptServer  # here, for the host's server is not there yet while it loads its nodes' modules

    if node_id is not None and getattr(PromptServer, "instance", None) is not None:
        PromptServer.instance.send_progress_text(text, node_id)


def log_load(what: str, path: str, dtype, size: int, started: float) -> None:
    """One line per load: file, what its weights are stored in, size in bytes as MiB, and seconds since `started`."""
    log.info(
        "[Kolors] %s %s: %s, %d MiB, %.1f s",
        what, Path(path).name, str(dtype).removeprefix("torch."), size >> 20, time.perf_counter() - started,
    )  # fmt: skip


@lru_cache(maxsize=256)
def warn_once(text: str) -> None:
    """A line in the log, the same one not again: a node may ask for a prompt's tokens many times."""
    log.warning("%s", text)


@contextmanager
def blame_file(fault: str) -> Iterator[None]:
    """Take what ends the host's reading of a damaged file, an error of any type, for a fault of the file.

    fault: what the file is then. Cancel and too little memory are none, and pass through as they are.
    Raises BadFile.
    """
    try:
        yield
    except (KolorsError, BadFile, comfy.model_management.InterruptProcessingException):
        raise
    except Exception as error:
        if compat.is_out_of_memory(error):
            raise
        raise BadFile(f"{fault} ({error!r}). Download it again.") from error
