"""The subgraphs of the package: found like nodes, they draw what the templates draw, and can be opened and unpacked."""

from __future__ import annotations

import json

import numpy
import pytest
import tiny_models
from canvas import HAS_FORMS
from comfyui_kolors.devtools.graph_layout import GAP
from graph_files import unfolded
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

#: The template that draws the same.
BLUEPRINTS = {
    "Kolors text to image": "Kolors-prompt-with-options",
    "Kolors image prompt": "Kolors-IP-Adapter",
    "Kolors inpaint and paste back": "Kolors-inpainting",
}
MASKED = "masked.png"

# Small, and with the same mask and seed: on the node that stands for the subgraph as on the nodes of a template.
MAKE_EQUAL = """(image) => {
  const box = app.graph._nodes.find((node) => node.isSubgraphNode?.());
  const values = {width: 64, height: 64, steps: 2, megapixels: 0.01};
  const changed = box ? [box] : app.graph._nodes.filter((node) => !node.type.endsWith("PromptEncode"));
  for (const {widgets} of changed)
    for (const widget of widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
  for (const {type, widgets} of app.graph._nodes) if (type === "LoadImage") widgets[0].value = image;
}"""

# What the subgraph takes and gives, on both sides of it.
CONNECT = """() => {
  const box = app.graph._nodes[0];
  const add = (type, x) => app.graph.add(Object.assign(LiteGraph.createNode(type), {pos: [x, box.pos[1]]}));
  const slots = [...box.inputs.entries()].filter(([, slot]) => ["IMAGE", "MASK"].includes(slot.type));
  const load = slots.length ? add("LoadImage", box.pos[0] - 400) : null;
  for (const [index, slot] of slots) load.connect(slot.type === "IMAGE" ? 0 : 1, box, index);
  box.connect(0, add("SaveImage", box.pos[0] + 500), 0);
}"""
OPEN = "() => app.canvas.openSubgraph(app.graph._nodes[0].subgraph, app.graph._nodes[0])"
UNPACK = "() => app.graph.unpackSubgraph(app.graph._nodes.find((node) => node.isSubgraphNode?.()))"
PROMPT = "async () => (await app.graphToPrompt()).output"


@pytest.fixture(scope="module", autouse=True)
def masked(base) -> None:
    """An image whose middle is to be drawn anew."""
    with Image.open(base / "input" / "example.png") as example:
        image = example.convert("RGBA").resize((256, 256))
    hole = Image.new("L", image.size, 255)
    hole.paste(0, (64, 64, 192, 192))
    image.putalpha(hole)
    image.save(base / "input" / MASKED)


@pytest.fixture(autouse=True)
def lists_subgraphs(canvas) -> None:
    if not canvas.server.request("/global_subgraphs"):
        pytest.skip("this ComfyUI knows no subgraphs of packages")


def read(name: str) -> dict:
    return json.loads((tiny_models.ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))


def put(canvas, name: str) -> None:
    """As a user does: by the search."""
    canvas.clear()
    canvas.open_search()
    assert name in canvas.search(name)
    canvas.pick(name, 600, 150)
    canvas.wait_for("app.graph._nodes.length === 1")


def pixels(canvas, entry: dict) -> numpy.ndarray:
    (image,) = [one for output in entry["outputs"].values() for one in output["images"] if one["type"] == "output"]
    with Image.open(canvas.server.base / "output" / image["subfolder"] / image["filename"]) as file:
        return numpy.asarray(file.convert("RGB"))


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_subgraph_draws_what_its_template_draws(canvas, vue, front_end, name):
    canvas.use(vue=vue)
    canvas.load(json.loads((tiny_models.ROOT / "workflows" / f"{BLUEPRINTS[name]}.json").read_text(encoding="utf-8")))
    canvas.page.evaluate(MAKE_EQUAL, MASKED)
    expected = pixels(canvas, canvas.run())
    put(canvas, name)
    canvas.page.evaluate(CONNECT)
    canvas.page.evaluate(MAKE_EQUAL, MASKED)
    found = pixels(canvas, canvas.run())
    assert canvas.shown_images() == 1
    canvas.settle()
    canvas.screenshot(f"{name}-{'newest' if front_end else 'own'}-{'vue' if vue else 'litegraph'}")
    assert found.std() > 1 and numpy.array_equal(found, expected)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_prompt_is_typed_on_the_node_of_a_subgraph(canvas, vue, language):
    canvas.use(language, vue)
    put(canvas, "Kolors text to image")
    canvas.page.evaluate(CONNECT)
    canvas.page.evaluate(MAKE_EQUAL, MASKED)
    canvas.settle()
    prompt, negative = (text for text in canvas.page.locator("textarea:visible").all() if text.input_value())
    for field, text in ((prompt, "a red apple, 红苹果"), (negative, "blurry, 模糊")):
        field.fill(text)
    sent = canvas.run()["prompt"][2]
    texts = {key: node["inputs"]["text"] for key, node in sent.items() if node["class_type"] == "KolorsPromptEncode"}
    (sampler,) = (node["inputs"] for node in sent.values() if node["class_type"] == "KSampler")
    assert texts == {sampler["positive"][0]: "a red apple, 红苹果", sampler["negative"][0]: "blurry, 模糊"}
    assert sampler["seed"] == 20240706 and sampler["steps"] == 2


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_inside_a_subgraph_nothing_lies_over_anything(canvas, vue, front_end, name):
    for language in ("en", "zh"):
        canvas.use(language, vue)
        if vue and not canvas.page.evaluate(HAS_FORMS):
            pytest.skip("Nodes 2.0 was an experiment then, and moves the nodes of a subgraph")
        canvas.load(read(name))
        canvas.page.evaluate(OPEN)
        canvas.settle()
        faults = canvas.layout_faults(gap=GAP if front_end else 0)
        canvas.screenshot(f"inside-{name}-{'newest' if front_end else 'own'}-{'vue' if vue else 'litegraph'}")
        assert not canvas.page.get_by_text("Invalid workflow").count()
        assert not faults


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_an_unpacked_subgraph_sends_what_it_did_before(canvas, vue, name):
    canvas.use(vue=vue)
    canvas.load(read(name))
    canvas.page.evaluate(CONNECT)
    info = canvas.server.request("/object_info")
    before = canvas.page.evaluate(PROMPT)
    canvas.page.evaluate(UNPACK)
    canvas.settle()
    inside = [node["type"] for node in read(name)["definitions"]["subgraphs"][0]["nodes"]]
    around = {"LoadImage", "SaveImage"}
    assert sorted(kind for kind in canvas.nodes() if kind not in around) == sorted(inside)
    assert unfolded(canvas.page.evaluate(PROMPT), info) == unfolded(before, info)
