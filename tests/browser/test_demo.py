"""From a ComfyUI without any model to a picture in two clicks: open the miniature's template, Run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tiny_models
from canvas import PACK, Canvas
from client import Client
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.demo import DEMO_TEMPLATE
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, front_end):
    """A ComfyUI with this package and no model."""
    base = tmp_path_factory.mktemp("demo")
    (base / "custom_nodes").mkdir()
    link_pack(base / "custom_nodes" / PACK, tiny_models.ROOT)
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with running_server(setup, Progress(2), free_port(), front_end=front_end) as running:
        yield Client(running.url, base, running.log)


def test_open_the_template_and_run(fresh, launch):
    screenshots = places.DEV / "screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    browser = launch()
    page = browser.new_page(viewport={"width": 1600, "height": 950}, locale="en-US")
    page.route(lambda url: "//127.0.0.1" not in url, lambda route: route.abort())
    canvas = Canvas(page, fresh, screenshots)
    canvas.open()
    canvas.open_template(DEMO_TEMPLATE)
    assert not page.get_by_role("dialog").count() and not page.get_by_test_id("error-overlay-see-errors").count()
    canvas.screenshot("demo-opened")
    entry = canvas.run()
    assert canvas.shown_images() == 1
    canvas.settle()
    canvas.screenshot("demo-drawn")
    assert not canvas.errors
    (file,) = (image for output in entry["outputs"].values() for image in output["images"])
    with Image.open(fresh.base / "output" / file["subfolder"] / file["filename"]) as image:
        corner, middle = (image.convert("RGB").getpixel(at) for at in ((6, 6), (64, 70)))
    assert min(corner[:2]) > 180 and corner[2] < 120, "the background is yellow"
    assert middle[0] > 120 and max(middle[1:]) < 100, "the apple is red"
    browser.close()
