"""Every template opens from the front end's own browser of templates, is laid out well, and draws."""

from __future__ import annotations

import json

import pytest
import tiny_models
from canvas import PACK
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

TEMPLATES = [path.stem for path in tiny_models.TEMPLATES]
AS_IT_IS = "kolors_demo"  # small already


@pytest.fixture(scope="module", autouse=True)
def opened(whole_canvas):
    whole_canvas.use()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_and_draws(canvas, name):
    canvas.open_template(name)
    template = json.loads((tiny_models.ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    assert sorted(canvas.nodes()) == sorted(node["type"] for node in template["nodes"])
    assert len(canvas.links()) == len(template["links"])
    canvas.screenshot(f"{name}-opened")
    assert not canvas.layout_faults()
    if name != AS_IT_IS:
        canvas.shrink()
    entry = canvas.run()
    assert canvas.shown_images() == 1
    canvas.settle()
    canvas.screenshot(f"{name}-drawn")
    images = [image for output in entry["outputs"].values() for image in output["images"] if image["type"] == "output"]
    (image,) = images
    with Image.open(canvas.server.base / "output" / image["subfolder"] / image["filename"]) as picture:
        assert len(picture.convert("L").getcolors()) > 2
        assert json.loads(picture.info["workflow"])["nodes"]


def test_a_template_opens_by_its_address(canvas):
    canvas.open(query=f"?template=kolors_text_to_image&source={PACK}")
    canvas.wait_for_template()
    assert "KolorsUNETLoader" in canvas.nodes()
