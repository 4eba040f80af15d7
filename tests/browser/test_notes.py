"""The notes of the templates can be read: the text stands out from the ground by the ratio that WCAG 2.1 asks for."""

from __future__ import annotations

import io
import json

import pytest
import tiny_models
from comfyui_kolors.devtools.front_end_page import SHOW_WHOLE
from comfyui_kolors.devtools.graph_layout import NOTE
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

RATIO = 4.5  # WCAG 2.1, success criterion 1.4.3, for text of this size
NAME = "Kolors-FaceID"  # whose notes have all that the others have: a title, a table, links, commands
TAGS = ("h2", "p", "p em", "th", "td", "td a", "pre code")

#: Where the first text of each kind is, and its colour: [tag, colour as red, green and blue, box].
TEXTS = """([tags, type]) => {
  const node = app.graph._nodes.find((node) => node.type === type);
  const root = document.querySelector(`[data-node-id="${node.id}"]`) ?? node.widgets[0].element;
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  return tags.map((tag) => {
    const text = [...root.querySelectorAll(tag)].find((part) => part.clientHeight || part.getClientRects().length);
    const {x, y, width, height} = text.getBoundingClientRect();
    paint.fillStyle = getComputedStyle(text).color;
    paint.fillRect(0, 0, 1, 1);
    return [tag, [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3), [x, y, x + width, y + height]];
  });
}"""


def luminance(colour: tuple[int, ...]) -> float:
    """As WCAG 2.1 defines it, of an sRGB colour."""
    red, green, blue = (v / 3294.6 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_a_note_stands_out_from_its_ground(canvas, vue, palette):
    canvas.open(vue=vue, **{"Comfy.ColorPalette": palette})
    try:
        canvas.load(json.loads((tiny_models.ROOT / "workflows" / f"{NAME}.json").read_text(encoding="utf-8")))
        canvas.page.evaluate(SHOW_WHOLE)
        canvas.settle()
        canvas.screenshot(f"note-{palette}-{'vue' if vue else 'litegraph'}")
        page = Image.open(io.BytesIO(canvas.page.screenshot())).convert("RGB")
        found = {}
        for tag, colour, box in canvas.page.evaluate(TEXTS, [TAGS, NOTE]):
            part = page.crop(tuple(map(round, box)))
            _, ground = max(part.getcolors(part.width * part.height))
            found[tag] = round(contrast(colour, ground), 1)
    finally:
        canvas.locale = ""  # the page has to be loaded again
    assert list(found) == list(TAGS) and min(found.values()) >= RATIO, found


def test_contrast_is_that_of_the_standard():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)  # the known grey that just fails
