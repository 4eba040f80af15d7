"""The count of tokens under a text box: in LiteGraph in English, and in Nodes 2.0 in Chinese."""

from __future__ import annotations

import json
import re

import pytest
import tiny_models
from client import ENCODER
from comfyui_kolors.demo.random_models import random_tokenizer
from comfyui_kolors.devtools.front_end_page import SHOW_WHOLE
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer

pytestmark = [pytest.mark.host, pytest.mark.browser]

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
LINE = ".kolors-tokens"
WORDS = {
    "en": {"count": "{} / {} tokens", "cut": " · cut from: “{}”", "missing": "Not counted: no tokenizer.model"},
    "zh": {"count": "{} / {} 个 token", "cut": " · 从此处截断：“{}”", "missing": "无法计数：缺少 tokenizer.model"},
}
LONG = "a red apple on a yellow background, 一只红苹果，" * 30
QUIET_MS = 1_500  # in which nothing may be asked
RENDERERS = {"LiteGraph": False, "Nodes 2.0": True}
LEAST_CONTRAST = 4.5

# Colours as the page paints them, on one pixel; the luminance and the contrast of WCAG.
CONTRAST = """(line) => {
  const luminance = (color) => {
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
    const context = canvas.getContext("2d");
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    if (a !== 255) throw new Error(`${color} is not opaque`);
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const {color, backgroundColor} = getComputedStyle(line);
  const [low, high] = [color, backgroundColor].map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""
CONNECT = """([from, output, to, input]) => {
  const target = app.graph.getNodeById(to);
  app.graph.getNodeById(from).connect(output, target, target.inputs.findIndex((one) => one.name === input));
}"""


@pytest.fixture(scope="module", params=[("LiteGraph", "en"), ("Nodes 2.0", "zh")], ids=" ".join)
def view(request, whole_canvas):
    """The page in a renderer and a language; the next module loads it anew."""
    renderer, language = request.param
    whole_canvas.open(language, vue=RENDERERS[renderer])
    yield renderer, language
    whole_canvas.locale = ""


@pytest.fixture
def asked(canvas, view):
    """What the page asks of the server from here on, on an empty graph."""
    canvas.clear()
    canvas.page.wait_for_timeout(500)  # what was asked of the last graph has been answered
    bodies = []
    canvas.page.on("request", take := lambda request: is_ours(request) and bodies.append(json.loads(request.post_data)))
    yield bodies
    canvas.page.remove_listener("request", take)


def is_ours(request) -> bool:
    return request.url.endswith("/kolors/tokens")


def connect(canvas, origin, output, target, name) -> None:
    canvas.page.evaluate(CONNECT, [origin, output, target, name])


def add_prompt(canvas, kind="KolorsPromptEncode", **position):
    """A node with a prompt behind a loader, and its text box."""
    loader, node = canvas.add("KolorsChatGLM3Loader", x=60, y=150), canvas.add(kind, x=460, y=150, **position)
    canvas.page.evaluate(
        "([id, name]) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'text_encoder_name').value = name",
        [loader, ENCODER],
    )
    connect(canvas, loader, 0, node, "clip")
    return node, text_box(canvas)


def text_box(canvas):
    return canvas.page.locator(":is(.dom-widget, [data-node-id]) textarea:visible").first


def wait_for_line(canvas, text: str):
    line = canvas.page.locator(LINE, has_text=re.compile(f"^{re.escape(text)}$"))
    line.wait_for()
    return line


def count(text: str) -> int:
    return len(TOKENIZER.encode(text, 100_000).ids)


def counted(language: str, text: str, limit: int = 256) -> str:
    return WORDS[language]["count"].format(count(text), limit)


def cut(language: str, text: str, limit: int = 256) -> str:
    _, at = TOKENIZER.measure(text, limit)
    rest = text[at:].strip()
    return counted(language, text, limit) + WORDS[language]["cut"].format(rest[:40] + "…" * (len(rest) > 40))


def test_the_count_follows_what_is_typed(canvas, view, asked):
    renderer, language = view
    _, box = add_prompt(canvas)
    wait_for_line(canvas, counted(language, ""))
    asked.clear()
    box.press_sequentially("a red apple, 一只红苹果", delay=20)
    line = wait_for_line(canvas, counted(language, "a red apple, 一只红苹果"))
    canvas.screenshot(f"tokens-{renderer}-{language}")
    assert len(asked) <= 2 and asked[-1]["text_encoder_name"] == ENCODER, asked  # not one for each key
    inside, around = line.bounding_box(), box.bounding_box()
    assert around["x"] <= inside["x"] and inside["x"] + inside["width"] <= around["x"] + around["width"]
    assert around["y"] <= inside["y"] and inside["y"] + inside["height"] <= around["y"] + around["height"]
    assert line.evaluate("(line) => line.scrollWidth <= line.clientWidth"), "the count is cut off"


def test_past_the_limit_it_shows_what_is_cut(canvas, view, asked):
    renderer, language = view
    node, box = add_prompt(canvas)
    box.fill(LONG)
    line = wait_for_line(canvas, cut(language, LONG))
    assert "over" in line.get_attribute("class").split()
    canvas.screenshot(f"tokens-cut-{renderer}-{language}")
    canvas.page.evaluate(
        "(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'max_tokens').value = 4096", node
    )
    line = wait_for_line(canvas, counted(language, LONG, 4096))
    assert "over" not in line.get_attribute("class").split()


def test_nothing_is_asked_without_a_prompt_node_or_a_change(canvas, view, asked):
    for kind in ("KolorsChatGLM3Loader", "CLIPTextEncode", "KSampler"):
        canvas.add(kind)
    text_box(canvas).fill("a prompt of another model")
    canvas.page.wait_for_timeout(QUIET_MS)
    assert asked == [] and canvas.page.locator(f"{LINE}:visible").count() == 0
    canvas.clear()
    _, box = add_prompt(canvas)
    box.fill("a red apple")  # 1.49.6 may keep the text of the node that had this one's number before
    wait_for_line(canvas, counted(view[1], "a red apple"))
    asked.clear()
    canvas.page.wait_for_timeout(QUIET_MS)
    assert asked == []


def test_one_request_is_under_way_at_a_time(canvas, view, asked):
    under_way, most = 0, 0

    def slowly(route) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        canvas.page.wait_for_timeout(700)
        under_way -= 1
        route.continue_()

    canvas.page.route("**/kolors/tokens", slowly)
    try:
        _, box = add_prompt(canvas)
        canvas.add("KolorsPromptEncode", x=950)
        for text in ("a", "a red", "a red apple"):
            box.fill(text)
            canvas.page.wait_for_timeout(450)
        wait_for_line(canvas, counted(view[1], "a red apple"))
    finally:
        canvas.page.unroute("**/kolors/tokens")
    assert most == 1 and len(asked) >= 2


def test_a_stock_prompt_is_counted_where_its_clip_is_ours(canvas, view, asked):
    """Through a LoRA and a reroute; the line goes with the link."""
    _, language = view
    node = canvas.add("CLIPTextEncode", x=900)
    loader, lora, reroute = (canvas.add(kind, x=20 + 300 * at, y=500 - 100 * at) for at, kind in
                             enumerate(("KolorsChatGLM3Loader", "LoraLoader", "Reroute")))  # fmt: skip
    text_box(canvas).fill("a red apple")
    connect(canvas, loader, 0, lora, "clip")
    connect(canvas, lora, 1, reroute, "")
    canvas.page.wait_for_timeout(QUIET_MS)
    assert asked == []
    connect(canvas, reroute, 0, node, "clip")
    wait_for_line(canvas, counted(language, "a red apple"))
    canvas.page.evaluate("([id, slot]) => app.graph.getNodeById(id).disconnectInput(slot)", [lora, 1])
    canvas.page.locator(f"{LINE}:visible").first.wait_for(state="hidden")


def test_a_prompt_in_a_subgraph_is_counted_by_the_encoder_outside(canvas, view, asked):
    """Its text is its own again: newer front ends hand the text to the subgraph's node when they make one."""
    renderer, language = view
    node, box = add_prompt(canvas, "CLIPTextEncode")
    box.fill("a red apple")
    wait_for_line(canvas, counted(language, "a red apple"))
    asked.clear()
    try:
        canvas.page.evaluate("""(id) => {
          const {subgraph} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
          app.canvas.setGraph(subgraph);
          const [node] = subgraph.nodes;
          const slot = node.inputs.findIndex((input) => input.name === "text" && input.link != null);
          if (slot >= 0) node.disconnectInput(slot);
        }""", node)  # fmt: skip
        text_box(canvas).fill("a red apple on a table")
        wait_for_line(canvas, counted(language, "a red apple on a table"))
        assert asked[-1]["text_encoder_name"] == ENCODER
    finally:
        canvas.open(language, vue=RENDERERS[renderer])  # 1.32.9 draws no new graph after this


def test_a_text_from_another_node_has_no_count(canvas, view, asked):
    node, _ = add_prompt(canvas)
    wait_for_line(canvas, counted(view[1], ""))
    source = canvas.add("PrimitiveString", x=60, y=500)
    asked.clear()
    canvas.page.evaluate("""([from, to]) => {
      const target = app.graph.getNodeById(to);
      const slot = target.inputs.findIndex((input) => input.widget?.name === "text");
      app.graph.getNodeById(from).connect(0, target, slot);
    }""", [source, node])  # fmt: skip
    canvas.page.locator(f"{LINE}:visible").first.wait_for(state="hidden")
    canvas.page.wait_for_timeout(QUIET_MS)
    assert asked == []


def test_without_a_tokenizer_the_line_says_so(canvas, view, asked):
    """The only one here is inside the encoder, to which this prompt is not connected; after a run it is asked again."""
    _, language = view
    canvas.add("KolorsPromptEncode")
    line = wait_for_line(canvas, WORDS[language]["missing"])
    assert "over" not in line.get_attribute("class").split()
    canvas.page.wait_for_timeout(QUIET_MS)
    assert len(asked) == 1
    canvas.page.evaluate("app.api.dispatchEvent(new CustomEvent('execution_success', {detail: {}}))")
    canvas.page.wait_for_timeout(QUIET_MS)
    assert len(asked) == 2
    canvas.errors.clear()  # the answer itself, 404, is in the console


def test_a_prompt_is_counted_as_the_front_end_sends_it(canvas, view, asked):
    """Without comments, and with the longest of its choices, which is one of those that the front end may take."""
    node, box = add_prompt(canvas)
    wait_for_line(canvas, counted(view[1], ""))
    for text in (
        "a cat // not this\n/* nor\nthis */ on a mat",
        r"a \{plain\} pair, a \| line \(and\) a \\ slash",
        "a {red|dark green|{b|light blue}|} apple, {one",
        "a } b | c {}{|} {x|y\\|z}",
    ):
        asked.clear()
        box.fill(text)
        canvas.page.wait_for_timeout(QUIET_MS)
        sent = canvas.page.evaluate("""async (id) => {
          const widget = app.graph.getNodeById(id).widgets.find((widget) => widget.name === "text");
          return Promise.all([...Array(300)].map(() => widget.serializeValue({}, 0)));
        }""", node)  # fmt: skip
        assert asked[-1]["text"] in sent
        assert len(asked[-1]["text"]) == max(map(len, sent))


def test_nothing_of_it_is_saved_and_no_size_changes(canvas, view):
    """Templates, saved again with their counts shown, have the values that they came with."""
    for name, limit in (("Kolors-prompt-with-options", 256), ("Kolors-long-prompt", 768)):
        template = json.loads((tiny_models.ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
        canvas.load(template)
        canvas.page.evaluate(SHOW_WHOLE)
        canvas.page.locator(f"{LINE}:visible", has_text=f"/ {limit}").first.wait_for()
        saved = canvas.page.evaluate("app.graph.serialize()")
        ours, found = (
            {node["id"]: node["widgets_values"] for node in graph["nodes"] if node["type"] == "KolorsPromptEncode"}
            for graph in (template, saved)
        )
        assert {str(id): values for id, values in found.items()} == {str(id): values for id, values in ours.items()}
        assert "kolors-tokens" not in json.dumps(saved)
    canvas.clear()
    node, box = add_prompt(canvas)
    wait_for_line(canvas, counted(view[1], ""))
    sizes = "(id) => [[...app.graph.getNodeById(id).size], app.graph.getNodeById(id).widgets.length]"
    before = canvas.page.evaluate(sizes, node), box.bounding_box()
    box.fill(LONG)
    wait_for_line(canvas, cut(view[1], LONG))
    assert (canvas.page.evaluate(sizes, node), box.bounding_box()) == before


def test_a_click_on_the_line_goes_to_the_text(canvas, view, asked):
    _, box = add_prompt(canvas)
    area = wait_for_line(canvas, counted(view[1], "")).bounding_box()
    canvas.page.mouse.click(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    assert box.evaluate("(box) => box === document.activeElement")


@pytest.mark.parametrize("palette", ["dark", "light"])
@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_line_is_readable(canvas, renderer, palette):
    canvas.open("en", vue=RENDERERS[renderer], **{"Comfy.ColorPalette": palette})
    _, box = add_prompt(canvas)
    found = {}
    for text, expected in (("a red apple", counted("en", "a red apple")), (LONG, cut("en", LONG))):
        box.fill(text)
        found[expected[:12]] = wait_for_line(canvas, expected).evaluate(CONTRAST)
        canvas.screenshot(f"tokens-{renderer}-{palette}-{len(found)}")
    canvas.locale = ""
    assert min(found.values()) >= LEAST_CONTRAST, found
