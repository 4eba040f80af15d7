"""Text on a node while it runs, and after."""

from __future__ import annotations


def show_text(text: str, node_id: str | None) -> None:
    """Show a line on the node that runs; where there is no server nothing happens."""
    from server import PromptServer  # here, for the host's server is not there yet while it loads its nodes' modules

    if node_id is not None and getattr(PromptServer, "instance", None) is not None:
        PromptServer.instance.send_progress_text(text, node_id)
