"""Kolors Image Size in a graph: its numbers go where a stock node wants a width and a height."""

from __future__ import annotations

import json

import pytest
from client import Graph, PromptError
from PIL import Image

pytestmark = pytest.mark.host

CHOSEN = "1216 x 832 (19:13)"


def drawn_size(server, image: tuple[int, int] | None = None, size: str = CHOSEN) -> tuple[int, int]:
    """Width and height of an image that a stock node makes with the node's outputs."""
    graph = Graph()
    inputs = {}
    if image:
        inputs["image"] = graph.add("EmptyImage", width=image[0], height=image[1], batch_size=2, color=0)
    found = graph.add("KolorsImageSize", size=size, **inputs)
    drawn = graph.add("EmptyImage", width=found, height=found.output(1), batch_size=1, color=0)
    saved = graph.add("SaveImage", images=drawn, filename_prefix="size")
    (file,) = server.saved_files(server.run(graph), saved, "images")
    return Image.open(file).size


def test_the_chosen_size_is_given(server):
    assert drawn_size(server) == (1216, 832)


def test_an_image_gives_its_own_size_whatever_is_chosen(server):
    assert drawn_size(server, image=(90, 160)) == (768, 1344)


def test_a_size_that_is_not_in_the_list_is_refused(server):
    with pytest.raises(PromptError) as failure:
        drawn_size(server, size="640 x 480 (4:3)")
    assert failure.value.kind == "validation"
    assert "size" in json.loads(str(failure.value))["node_errors"]["1"]["errors"][0]["details"]
