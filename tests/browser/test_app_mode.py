"""The template that opens as a form: fields in the language of the user, and the image; elsewhere it is a graph."""

from __future__ import annotations

import json

import pytest
import tiny_models
from canvas import HAS_FORMS

pytestmark = [pytest.mark.host, pytest.mark.browser]

NAME = "Kolors-text-to-image-app"
FIELDS = {
    "en": ["prompt 提示词", "negative prompt 负面提示词", "size", "steps", "seed"],
    "zh": ["prompt 提示词", "negative prompt 负面提示词", "尺寸", "步数", "种子"],
}
IMAGE = """() => [...document.querySelectorAll("[data-testid=linear-center-panel] img")]
  .some((image) => image.naturalWidth === 64)"""
FORM = "linear-widgets"
STEPS = 20


@pytest.mark.parametrize(("language", "palette"), [("en", "dark"), ("zh", "light")])
def test_a_form_is_filled_in_and_draws(canvas, vue, front_end, language, palette):
    canvas.open(language, vue=vue, **{"Comfy.ColorPalette": palette})
    try:
        if not canvas.page.evaluate(HAS_FORMS):
            pytest.skip("this front end has no forms")
        canvas.choose_template(NAME)
        form = canvas.page.get_by_test_id(FORM)
        form.wait_for()
        assert form.get_by_test_id("builder-widget-label").all_inner_texts() == FIELDS[language]
        assert not canvas.page.locator("#graph-canvas").is_visible()
        canvas.settle()
        tag = f"{'newest' if front_end else 'own'}-{language}-{palette}"
        canvas.screenshot(f"form-{tag}")
        canvas.shrink()
        # A form drops the image of a run that ends before the page knows that it was queued, as a cached one does.
        canvas.set_widget("KSampler", "steps", STEPS)
        text = f"a red apple, 红苹果, {tag}, {vue}"
        prompt, negative = form.locator("textarea").all()
        prompt.fill(text)
        negative.fill("blurry, 模糊")
        sent = canvas.run()["prompt"][2]
        texts = [node["inputs"]["text"] for node in sent.values() if node["class_type"] == "KolorsPromptEncode"]
        assert sorted(texts) == [text, "blurry, 模糊"]
        canvas.wait_for(IMAGE)
        canvas.settle()
        canvas.screenshot(f"form-{tag}-drawn")
    finally:
        canvas.locale = ""  # the page has to be loaded again


def test_without_forms_it_opens_as_a_graph(canvas, vue):
    canvas.use(vue=vue)
    if canvas.page.evaluate(HAS_FORMS):
        pytest.skip("this front end has forms")
    canvas.open_template(NAME)
    template = json.loads((tiny_models.ROOT / "workflows" / f"{NAME}.json").read_text(encoding="utf-8"))
    assert template["extra"]["linearMode"]
    assert canvas.page.locator("#graph-canvas").is_visible()
    assert sorted(canvas.nodes()) == sorted(node["type"] for node in template["nodes"])
