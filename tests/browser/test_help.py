"""A right click on a node of the pack leads to its page, in LiteGraph and in Nodes 2.0, in English and in Chinese."""

from __future__ import annotations

import re

import pytest
import tiny_models
from canvas import PACK

pytestmark = [pytest.mark.host, pytest.mark.browser]

LITEGRAPH = {"en": "Kolors help", "zh": "可图帮助"}  # ours, for this menu has no such entry
NODES_2 = re.compile("^(Node Info|节点信息)$")  # the front end's own; 1.32.9 has it in English alone


@pytest.fixture(scope="module", params=["en", "zh"])
def language(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["LiteGraph", "Nodes 2.0"])
def is_new(request, whole_canvas, language):
    """Whether it is the new renderer; the next module loads the page anew."""
    whole_canvas.open(language, vue=request.param)
    yield request.param
    whole_canvas.locale = ""


def open_menu(canvas, node, is_new) -> None:
    x, y = canvas.point(f"[app.graph.getNodeById({node}).pos[0] + 90, app.graph.getNodeById({node}).pos[1] - 15]")
    canvas.page.mouse.click(x, y, button="right")
    (canvas.page.get_by_text(NODES_2) if is_new else canvas.page.locator(".litecontextmenu").first).wait_for()


def test_the_entry_opens_our_page(canvas, language, is_new):
    canvas.clear()
    node = canvas.add("KolorsModelSampling")
    canvas.add("KSampler", x=900)
    open_menu(canvas, node, is_new)
    canvas.screenshot(f"menu-{language}-{'new' if is_new else 'old'}")
    canvas.page.get_by_text(NODES_2 if is_new else LITEGRAPH[language], exact=True).click()
    content = canvas.page.locator(".node-help-content")
    content.locator("img").first.wait_for()
    file = "KolorsModelSampling.md" if language == "en" else "KolorsModelSampling/zh.md"
    page = (tiny_models.ROOT / "web/docs" / file).read_text(encoding="utf-8")
    assert content.locator("h1").inner_text() == re.search("^# (.*)$", page, re.MULTILINE)[1]
    assert f"/extensions/{PACK}/docs/images/" in content.locator("img").first.get_attribute("src")
    canvas.screenshot(f"menu-help-{language}-{'new' if is_new else 'old'}")


def test_another_packs_node_has_no_such_entry(canvas, language, is_new):
    canvas.clear()
    open_menu(canvas, canvas.add("KSampler"), is_new)
    assert canvas.page.get_by_text(LITEGRAPH[language], exact=True).count() == 0
    canvas.page.keyboard.press("Escape")
