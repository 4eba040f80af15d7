"""Nodes of the older packs for which ComfyUI itself puts one of ours, on the canvas and in prompts.

Only where one node does all that the other did; the rest takes ``python -m kolors_core.migrate``, whose table this is.
"""

from __future__ import annotations

from ..migrate.table import TABLE, Swap
from . import compat


def register() -> None:
    """Tell a ComfyUI that replaces nodes which ours stand for the older packs'; others hear nothing."""
    for replacement in build_replacements(compat.node_replace_class()):
        compat.register_node_replacement(replacement)


def build_replacements(base: type | None) -> list:
    """One instance of `base`, the host's class for a replacement, for every one-to-one mapping; none without `base`."""
    if base is None:
        return []

    class Replacement(base):
        """The canvas needs every output mapped, or it drops the links.

        The server needs those left out that keep their number: for each mapped one it looks up the input behind it
        by the old name, which it may have just replaced as well.
        """

        all_outputs: list[dict[str, int]]

        def as_dict(self) -> dict:
            return super().as_dict() | {"output_mapping": self.all_outputs}

    replacements = []
    for name, old in TABLE.items():
        swap = old.mapping
        if not isinstance(swap, Swap):
            continue
        outputs = [{"new_idx": new, "old_idx": before} for before, new in swap.outputs.items()]
        replacement = Replacement(
            new_node_id=swap.new,
            old_node_id=name,
            old_widget_ids=list(old.widgets),
            input_mapping=[
                *({"new_id": new, "old_id": before} for new, before in swap.inputs.items()),
                *({"new_id": new, "set_value": value} for new, value in swap.values.items()),
            ],
            output_mapping=[one for one in outputs if one["new_idx"] != one["old_idx"]] or None,
        )
        replacement.all_outputs = outputs
        replacements.append(replacement)
    return replacements
