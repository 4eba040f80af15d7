"""Every template opens from the front end's own browser of templates, is laid out well, and draws."""

from __future__ import annotations

import json

import pytest
import tiny_models
from canvas import GROWN, PACK
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

TEMPLATES = [path.stem for path in tiny_models.TEMPLATES]
AS_IT_IS = "Kolors-demo-with-the-miniature"  # small already


@pytest.fixture(scope="module", autouse=True)
def opened(whole_canvas):
    whole_canvas.use()


def read(name: str) -> dict:
    return json.loads((tiny_models.ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_and_draws(canvas, name):
    canvas.open_template(name)
    template = read(name)
    assert sorted(canvas.nodes()) == sorted(node["type"] for node in template["nodes"])
    assert len(canvas.links()) == len(template["links"])
    canvas.screenshot(f"{name}-opened")
    faults, known_overlaps = canvas.layout_faults(template)
    assert not faults
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
    if known_overlaps:  # only here: the template works, and everything but this was seen
        pytest.xfail("; ".join(known_overlaps))


PLACE_ABOVE = """([upper, lower, gap, growth]) => {
  [upper, lower] = [upper, lower].map((id) => app.graph.getNodeById(id));
  lower.pos = [5000, 5000];
  upper.pos = [5000, 4950 - upper.size[1] - gap];
  upper.size[1] += growth;
}"""


def test_an_overlap_is_found_and_growth_excuses_it_only_where_it_is_known(canvas, monkeypatch):
    canvas.open_template("Kolors-text-to-image")
    template = read("Kolors-text-to-image")
    nodes = {node["type"]: node["id"] for node in template["nodes"]}
    pair = [nodes["VAEDecode"], nodes["SaveImage"]]
    text = f"{pair[0]} VAEDecode and {pair[1]} SaveImage overlap"
    assert canvas.layout_faults(template) == ([], [])
    canvas.page.evaluate(PLACE_ABOVE, [*pair, -10, 0])
    assert canvas.layout_faults(template) == ([text], [])
    canvas.page.evaluate(PLACE_ABOVE, [*pair, 10, 20])
    assert canvas.layout_faults(template) == ([text], [])
    monkeypatch.setitem(GROWN, "VAEDecode", "is taller")
    assert canvas.layout_faults(template) == ([], [f"{text}: VAEDecode is taller"])


def test_a_template_opens_by_its_address(canvas):
    canvas.open(query=f"?template=Kolors-text-to-image&source={PACK}")
    canvas.wait_for_template()
    assert "KolorsUNETLoader" in canvas.nodes()
