"""What the mappings of all packs share."""

from __future__ import annotations

from comfyui_kolors.kolors_core.migrate import convert_graph
from old_graphs import kijai


def test_round_brackets_are_named():
    _, report = convert_graph(kijai("a (red:1.2) apple"))
    assert any("round brackets" in line for line in report.notes)
    _, report = convert_graph(kijai(r"a \(red\) apple"))
    assert not any("round brackets" in line for line in report.notes)
