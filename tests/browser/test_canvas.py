"""What a user does on the canvas: search, connect, read the help, drop a picture; in English and in Chinese."""

from __future__ import annotations

import base64
import json
import re

import pytest
import tiny_models
from canvas import PACK

pytestmark = [pytest.mark.host, pytest.mark.browser]

NODES = {
    language: json.loads((tiny_models.ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for language in ("en", "zh")
}
# A File in the browser from the very bytes on disk, dropped as from a file manager.
DROP = """async ([bytes, name]) => {
  const blob = await (await fetch("data:image/png;base64," + bytes)).blob();
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([blob], name, {type: "image/png"}));
  const where = {bubbles: true, cancelable: true, dataTransfer, clientX: 800, clientY: 600};
  for (const name of ["dragenter", "dragover", "drop"])
    document.querySelector("#graph-canvas").dispatchEvent(new DragEvent(name, where));
}"""


@pytest.fixture(scope="module", params=NODES)
def language(request) -> str:
    """Groups the tests by language, so that the page is loaded once for each."""
    return request.param


SEARCHES = {
    "en": {"kolors unet": "KolorsUNETLoader", "chatglm3": "KolorsChatGLM3Loader", "kolors ksampler": "KolorsKSampler"},
    "zh": {"可图模型": "KolorsModelSampling", "加载可图": "KolorsUNETLoader", "可图提示词": "KolorsPromptEncode",
           "kolors": "KolorsKSampler"},
}  # fmt: skip


def titles(canvas) -> dict[str, str]:
    """Node types of the pack with the titles that the front end gives them."""
    return canvas.page.evaluate(
        "(ids) => Object.fromEntries(ids.map((id) => [id, LiteGraph.registered_node_types[id].title]))",
        list(NODES["en"]),
    )


def test_nodes_are_found_by_search_and_put_on_the_canvas(canvas, language, vue):
    canvas.use(language, vue)
    for text, node in SEARCHES[language].items():
        canvas.clear()
        canvas.open_search()
        title = NODES[language][node]["display_name"]
        assert title in canvas.search(text)
        canvas.screenshot(f"search-{language}-{node}")
        canvas.pick(title)
        canvas.wait_for("app.graph._nodes.length === 1")
        assert canvas.nodes() == [node]


def test_titles_and_tooltips_are_in_the_users_language(canvas, language, vue):
    """Also on 0.3.75, whose front end replaces a pack's translations by its own."""
    canvas.use(language, vue)
    expected = NODES[language]
    assert titles(canvas) == {id: texts["display_name"] for id, texts in expected.items()}
    node = canvas.add("KolorsKSampler")
    texts = expected["KolorsKSampler"]["inputs"]["cfg"]
    told = canvas.tooltip(*canvas.widget(node, "cfg", texts["name"]))
    canvas.screenshot(f"tooltip-{language}")
    assert told == texts["tooltip"]


def test_the_help_panel_shows_our_page_with_its_picture(canvas, language, vue):
    canvas.use(language, vue)
    node = canvas.add("KolorsKSampler")
    canvas.select(node)
    canvas.page.get_by_test_id("info-button").click()
    content = canvas.page.locator(".node-help-content")
    content.locator("img").first.wait_for()
    file = "KolorsKSampler.md" if language == "en" else "KolorsKSampler/zh.md"
    page = (tiny_models.ROOT / "web/docs" / file).read_text(encoding="utf-8")
    heading = re.search("^# (.*)$", page, re.MULTILINE)[1]
    assert content.locator("h1").inner_text() == heading
    (picture,) = content.locator("img").all()
    canvas.wait_for("document.querySelector('.node-help-content img').naturalWidth > 0")
    assert f"/extensions/{PACK}/docs/images/" in picture.get_attribute("src")
    canvas.settle()
    canvas.screenshot(f"help-{language}")


def test_two_nodes_are_connected_by_a_drag_and_by_a_typed_search(canvas, vue):
    canvas.use(vue=vue)
    if canvas.is_experiment():
        pytest.skip("Nodes 2.0 is an experiment in this front end: the list of its search does not always follow")
    loader = canvas.add("KolorsUNETLoader")
    canvas.drag(canvas.slot(loader, 0, output=True), (1000, 500))
    canvas.search_field().wait_for()
    found = canvas.search("kolors")
    taking_models = {node for node, texts in NODES["en"].items() if "model" in texts["inputs"]}
    assert sorted(found) == sorted(NODES["en"][node]["display_name"] for node in taking_models)
    canvas.screenshot(f"search-by-type-{vue}")
    canvas.pick("Kolors KSampler", x=1200, y=350)
    canvas.wait_for("app.graph._nodes.length === 2")
    sampler = canvas.page.evaluate("app.graph._nodes.find((node) => node.type === 'KolorsKSampler').id")
    assert canvas.links() == [[loader, 0, sampler, 0, "MODEL"]]

    scheduler = canvas.add("KolorsScheduler", x=300, y=550)
    canvas.show_whole()
    canvas.drag(canvas.slot(loader, 0, output=True), canvas.slot(scheduler, 0))
    canvas.drag(canvas.slot(loader, 0, output=True), canvas.slot(sampler, 1))  # CONDITIONING takes no MODEL
    canvas.screenshot(f"connected-{vue}")
    assert sorted(canvas.links()) == [[loader, 0, sampler, 0, "MODEL"], [loader, 0, scheduler, 0, "MODEL"]]


def test_a_saved_picture_dropped_on_the_canvas_brings_its_workflow_back(canvas, vue):
    canvas.use(vue=vue)
    canvas.open_template("Kolors-text-to-image")
    canvas.shrink()
    entry = canvas.run()
    nodes, links = canvas.nodes(), len(canvas.links())
    (image,) = next(iter(entry["outputs"].values()))["images"]
    file = canvas.server.base / "output" / image["subfolder"] / image["filename"]
    canvas.clear()
    canvas.page.evaluate(DROP, [base64.b64encode(file.read_bytes()).decode(), file.name])
    canvas.wait_for("(count) => app.graph._nodes.length === count", arg=len(nodes))
    canvas.settle()
    canvas.screenshot("dropped-picture")
    assert (canvas.nodes(), len(canvas.links())) == (nodes, links)
    steps = "app.graph._nodes.find((node) => node.type === 'KSampler').widgets.find((w) => w.name === 'steps').value"
    assert canvas.page.evaluate(steps) == 2


def test_missing_models_are_offered_for_download(canvas, vue):
    canvas.use(vue=vue)
    template = json.loads((tiny_models.ROOT / "workflows/Kolors-text-to-image.json").read_text(encoding="utf-8"))
    urls = []
    for node in template["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            node["widgets_values"][0] = model["name"] = f"absent-{model['name']}"
            urls.append(model["url"])
    canvas.page.evaluate("(template) => app.loadGraphData(template)", template)
    place = canvas.missing("model")
    canvas.screenshot("missing-models")
    assert sorted(canvas.downloads(place)) == sorted(urls)


def test_missing_nodes_are_named(canvas, vue):
    """As on a ComfyUI without this pack: the front end is told of no node of ours."""
    page = canvas.page

    def without_us(route) -> None:
        info = route.fetch().json()
        ours = {name for name, node in info.items() if node["python_module"].endswith(PACK)}
        route.fulfill(json={name: node for name, node in info.items() if name not in ours})

    page.route("**/object_info", without_us)
    try:
        canvas.open(vue=vue)
        template = json.loads((tiny_models.ROOT / "workflows/Kolors-text-to-image.json").read_text(encoding="utf-8"))
        page.evaluate("(template) => app.loadGraphData(template)", template)
        place = canvas.missing("node")
        canvas.screenshot("missing-nodes")
        text = place.inner_text()
        assert "KolorsUNETLoader" in text and "KolorsChatGLM3Loader" in text and "CLIPTextEncode" not in text
    finally:
        canvas.locale = ""  # the page has to be loaded again
        page.unroute("**/object_info")
