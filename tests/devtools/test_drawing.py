"""devtools/drawing.py."""

from __future__ import annotations

from comfyui_kolors.devtools.drawing import FILE_WIDTH, NOTE_SIZE, ROOM, WIDTH, Drawing
from comfyui_kolors.devtools.front_end_page import faults
from comfyui_kolors.devtools.graph_layout import GAP, NOTE, TITLE, Link


def drawing() -> Drawing:
    made = Drawing()
    for node, kind, height in ((1, NOTE, 0), (2, NOTE, 0), (3, "VAELoader", 58), (4, "VAEDecode", 46)):
        made.add(node, kind, 210, height)
    made.add(5, "SaveImage", 210, 58)
    made.links = [Link(3, 0, 4, 1), Link(4, 0, 5, 0)]
    made.arrange()
    return made


def boxes(of: Drawing) -> list[list]:
    return [
        [node, of.kinds[node], x, y - TITLE, x + width, y + height]
        for node, (x, y) in of.places.items()
        for width, height in [of.sizes[node]]
    ]


def test_nodes_stand_in_columns_and_notes_above_all_of_them_a_gap_apart():
    made = drawing()
    assert not faults(boxes(made), GAP)
    assert made.sizes[3] == (FILE_WIDTH, 58) and made.sizes[4] == (WIDTH, 46)
    assert made.sizes[5] == (ROOM["SaveImage"][0], 58 + ROOM["SaveImage"][1])
    (left, top), (right, other_top) = made.places[1], made.places[2]
    width, height = made.sizes[1]
    assert left == 0 and right == width + GAP and top == other_top
    assert right + width <= made.right() < right + width + GAP  # as wide as the nodes
    assert top + height + GAP + TITLE == made.places[3][1] == 0


def test_sizes_grow_to_what_any_front_end_needs_and_the_rest_moves():
    made = drawing()
    made.need(3, 0, 99.2)
    made.need(1, 0, 400)
    made.need(1, 0, 300)
    made.arrange()
    assert made.sizes[3] == (FILE_WIDTH, 100) and made.sizes[1][1] == 400
    assert made.places[1] == (0, -400 - GAP - TITLE) and made.places[2][1] == made.places[1][1]
    assert not faults(boxes(made), GAP)
    assert sorted(made.rows())[0] == [1, 0, -400 - GAP - TITLE, *made.sizes[1]]


def test_notes_are_not_wider_than_is_good_to_read():
    made = drawing()
    made.need(4, 3000, 0)
    made.arrange()
    assert made.sizes[1][0] == made.sizes[2][0] == NOTE_SIZE[0]
