"""devtools/front_end_page.py."""

from __future__ import annotations

from comfyui_kolors.devtools.front_end_page import faults


def test_boxes_that_are_too_near_are_named_with_their_distance():
    one, below, beside = [1, "A", 0, 0, 100, 50], [2, "B", 0, 90, 100, 200], [3, "C", 140, 0, 200, 200]
    assert faults([one, below, beside], 40) == []
    assert faults([one, below], 50) == ["1 A and 2 B are 40 pixels apart, not 50"]
    assert faults([one, [2, "B", 50, 40, 60, 60]], 0) == ["1 A and 2 B are -10 pixels apart, not 0"]
    assert faults([one, [2, "B", 99.5, 0, 60, 60]], 0) == []  # a part of a pixel is nothing
