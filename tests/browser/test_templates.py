"""Every template opens from the front end's own browser of templates, is laid out by rule, can be read, and draws."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import tiny_models
from canvas import PACK
from comfyui_kolors.devtools.graph_layout import GAP
from comfyui_kolors.devtools.host import host_version
from comfyui_kolors.devtools.templates import needs_newer
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

HOST = Path(os.environ["COMFYUI_PATH"])
TEMPLATES = [path.stem for path in tiny_models.TEMPLATES]
AS_IT_IS = "Kolors-demo-with-the-miniature"  # small already
EXPERIMENT = "Nodes 2.0 is an experiment in this front end: it moves the nodes of a graph that it opens"
UNION = "Kolors-ControlNet-union-of-SDXL"
#: Templates that read what others write, and draw the same image.
READERS = {
    "Kolors-saved-image-prompt": "Kolors-average-of-images-saved",
    "Kolors-without-the-text-encoder": "Kolors-prompt-saved-to-a-file",
}
SHIFT = """(pixels) => {
  const node = app.graph._nodes.find((node) => node.type === "SaveImage");
  node.pos = [node.pos[0] - pixels, node.pos[1]];
}"""


def read(name: str) -> dict:
    return json.loads((tiny_models.ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def templates_for(host: Path) -> Iterator[tuple[str, dict]]:
    """Those that ask for no newer ComfyUI."""
    yield from ((name, template) for name in TEMPLATES if not needs_newer(template := read(name), host))


def versions(template: dict) -> set[str]:
    """Those of ComfyUI's nodes in a template."""
    properties = [node.get("properties", {}) for node in template["nodes"]]
    return {each["ver"] for each in properties if each.get("cnr_id") == "comfy-core"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_and_draws(canvas, vue, front_end, name):
    template = read(name)
    if needs_newer(template, HOST):
        pytest.skip("its note asks for a newer ComfyUI")
    canvas.use(vue=vue)
    if canvas.is_experiment():
        pytest.skip(EXPERIMENT)
    expected = drawn(canvas, open_and_run(canvas, READERS[name])) if name in READERS else None
    entry = open_and_run(canvas, name)
    assert canvas.shown_images() == 1
    assert not canvas.layout_faults(gap=0)
    canvas.screenshot(f"{name}-drawn-{'vue' if vue else 'litegraph'}")
    image = drawn(canvas, entry)
    assert len(image.convert("L").getcolors()) > 2
    assert json.loads(image.info["workflow"])["nodes"]
    if name in READERS:
        assert numpy.array_equal(numpy.asarray(image), numpy.asarray(expected))


def open_and_run(canvas, name: str) -> dict:
    """Opens a template as a user does, and runs it with fewer pixels and steps."""
    canvas.open_template(name)
    template = read(name)
    assert sorted(canvas.nodes()) == sorted(node["type"] for node in template["nodes"])
    assert len(canvas.links()) == len(template["links"])
    if name != AS_IT_IS:
        canvas.shrink()
    if name == UNION:
        canvas.set_widget("KolorsUNETLoader", "unet_name", tiny_models.WIDE_UNET)
    return canvas.run()


def drawn(canvas, entry: dict) -> Image.Image:
    """The one image that a run has saved."""
    found = [image for output in entry["outputs"].values() for image in output.get("images", ())]
    (image,) = (image for image in found if image["type"] == "output")
    with Image.open(canvas.server.base / "output" / image["subfolder"] / image["filename"]) as opened:
        opened.load()
        return opened


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_templates_are_laid_out_by_rule(canvas, vue, front_end, language):
    """The sizes are the newest front end's, on the ComfyUI that a template was saved in.

    In other front ends, and where nodes have grown since, nothing lies over anything.
    """
    canvas.use(language, vue)
    if canvas.is_experiment():
        pytest.skip(EXPERIMENT)
    found = {}
    with nullcontext() if front_end else canvas.all_in_view():  # the newest one draws what is outside as well
        for name, template in templates_for(HOST):
            canvas.load(template)
            found[name] = canvas.layout_faults(gap=GAP if front_end and host_version(HOST) in versions(template) else 0)
    assert not {name: faults for name, faults in found.items() if faults}


def test_a_wrong_layout_is_found(canvas, vue):
    canvas.use(vue=vue)
    if canvas.is_experiment():
        pytest.skip(EXPERIMENT)
    canvas.load(read("Kolors-text-to-image"))
    assert not canvas.layout_faults(gap=0)
    canvas.page.evaluate(SHIFT, GAP / 2)
    assert not canvas.layout_faults(gap=0) and len(canvas.layout_faults(gap=GAP)) == 1
    canvas.page.evaluate(SHIFT, GAP)
    assert [fault for fault in canvas.layout_faults(gap=0) if "VAEDecode and" in fault]


def test_a_template_opens_by_its_address(canvas):
    canvas.open(query=f"?template=Kolors-text-to-image&source={PACK}")
    canvas.wait_for_template()
    assert "KolorsUNETLoader" in canvas.nodes()


def test_each_name_may_be_in_an_address():
    assert all(re.fullmatch(r"[\w.-]+", name, re.ASCII) for name in TEMPLATES)
