"""What a node shows while it runs: a bar, and a line of text."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils


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
