"""A page of the real front end: open a template, search, connect, run, and see what is on the canvas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import Client
from comfyui_kolors.devtools.front_end_page import (
    AS_GRAPH,
    BOXES,
    CUT_NOTES,
    READY,
    SETTINGS,
    SETTLE,
    SHOW_WHOLE,
    faults,
)

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

PACK = "comfyui-kolors"
WAIT_MS = 90_000  # the machine may be busy
OURS = re.compile(rf"{PACK}|kolors", re.IGNORECASE)
RUN = re.compile("^(Run|运行)$")
HELP_PAGE = re.compile(r"/docs/\w+/\w+\.md$")  # asked for first in a language that may have none

# Small pictures and few steps: what is tested is the graph, not the model.
SHRINK = """() => {
  const small = {
    EmptyLatentImage: {width: 64, height: 64},
    KSampler: {steps: 2},
    KolorsKSampler: {steps: 2},
    ImageScaleToTotalPixels: {megapixels: 0.01},
    TrainLoraNode: {steps: 2},
  };
  for (const node of app.graph._nodes)
    if (node.type === "KolorsImageSize") node.outputs.forEach((_, index) => node.disconnectOutput(index));
  for (const node of app.graph._nodes)
    for (const [name, value] of Object.entries(small[node.type] ?? {})) {
      const widget = node.widgets.find((widget) => widget.name === name);
      if (widget) widget.value = value;
    }
}"""

SET_WIDGET = """([kind, name, value]) => {
  for (const node of app.graph._nodes.filter((node) => node.type === kind))
    node.widgets.find((widget) => widget.name === name).value = value;
}"""

# Test ids of today's front ends, and what those before them had.
SEARCH_FIELD = "[role=search] input[role=combobox], .comfy-vue-node-search-container input"
SEARCH_RESULT = "[data-testid=result-item], .p-autocomplete-option"

# Of LiteGraph, and of Nodes 2.0 in two generations.
TOOLTIP = ".node-tooltip:visible, .p-tooltip:visible, [role=tooltip]:visible"

# What the front end wants to download: it clicks a link that is on no page.
CATCH_DOWNLOADS = """() => {
  window.downloads = [];
  HTMLAnchorElement.prototype.click = function () { window.downloads.push(this.href); };
}"""

# Front ends with app mode. In those before it Nodes 2.0 is an experiment as well.
HAS_FORMS = "app.extensionManager.getSidebarTabs().some((tab) => tab.id === 'apps')"
# A node that follows the pointer moves the view where it comes near the edge of the page, and the view glides on.
STILL = """async () => {
  for (let before; before !== String(app.canvas.ds.offset); ) {
    before = String(app.canvas.ds.offset);
    await new Promise((done) => setTimeout(done, 400));
  }
}"""

RED = """() => app.graph._nodes.filter((node) => node.has_errors || !LiteGraph.registered_node_types[node.type])
  .map((node) => node.type)"""

# As the node of LiteGraph has them, or in the HTML of Nodes 2.0.
SHOWN = """() => {
  const saved = app.graph._nodes.filter((node) => node.type === "SaveImage");
  const drawn = saved.flatMap((node) => [...document.querySelectorAll(`[data-node-id="${node.id}"] img`)]);
  const images = drawn.length ? drawn : saved.flatMap((node) => node.imgs ?? []);
  return images.filter((image) => image.naturalWidth).length;
}"""

LISTEN = """() => {
  const names = window.heard ? [] : ["execution_success", "execution_error", "execution_interrupted"];
  window.heard = [];
  for (const name of names) app.api.addEventListener(name, ({detail}) => window.heard.push([name, detail]));
}"""


NODES_2_STABLE = 1, 49  # the first front end with it that the templates were seen in


class Canvas:
    """One page. `errors` are uncaught errors and console errors that name this pack: the front ends have their own."""

    def __init__(self, page: Page, server: Client, screenshots: Path):
        self.page, self.server, self.screenshots = page, server, screenshots
        self.errors: list[str] = []
        self.locale, self.vue = "", False
        page.on("pageerror", lambda error: OURS.search(error.stack) and self.errors.append(error.stack))
        page.on("console", self._take)
        page.set_default_timeout(WAIT_MS)

    def _take(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        ours = OURS.search(message.text) or f"/{PACK}/" in where
        if message.type == "error" and ours and not HELP_PAGE.search(where):
            self.errors.append(f"{message.text} ({where})")

    def is_experiment(self) -> bool:
        """Whether Nodes 2.0 is one in this front end: it then scales and moves each graph after the first."""
        version = self.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")
        return self.vue and tuple(map(int, version.split(".")[:2])) < NODES_2_STABLE

    # ---- opening ----------------------------------------------------------------------------------------------------

    def open(self, locale: str = "en", query: str = "", vue: bool = False, **settings: Any) -> None:
        """Load the page anew in a language and a renderer, with an empty graph where `query` names no template."""
        chosen = {"Comfy.Locale": locale, "Comfy.VueNodes.Enabled": vue}
        self.server.request("/settings", SETTINGS | chosen | settings)
        self.locale, self.vue = locale, vue
        self.page.goto(f"{self.server.url}/{query}")
        self.page.wait_for_function(READY)
        self.settle()
        if not query:
            self.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
            self.page.wait_for_function("app.extensionManager.workflow.activeWorkflow")
            self.settle()  # a new workflow moves the view
            self.clear()

    def use(self, locale: str = "en", vue: bool = False) -> None:
        """An empty graph; the page is loaded anew only for another language or renderer, or where a dialog is open."""
        if (self.locale, self.vue) != (locale, vue) or self.page.locator("[role=dialog]:visible").count():
            self.open(locale, vue=vue)
        self.page.evaluate("app.extensionManager.sidebarTab.activeSidebarTabId = null")
        self.clear()

    def clear(self) -> None:
        """An empty graph, its origin in the corner of the page."""
        self.page.evaluate("app.graph.clear(); app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]")

    def open_template(self, name: str) -> None:
        """By clicking in the browser of templates."""
        self.choose_template(name)
        self.wait_for_template()

    def choose_template(self, name: str) -> None:
        """The same, up to what the front end then says of it."""
        self.clear()
        self.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        card = self.page.get_by_test_id(f"template-workflow-{name}")
        category = self.page.get_by_role("dialog").get_by_text(PACK, exact=True).first
        category.wait_for()
        if not card.count():  # older front ends begin with their own templates
            category.click()
        for _ in range(10):  # the newest ones bring more cards where the last one is seen
            if card.count():
                break
            self.page.locator("[data-testid^=template-workflow-]").last.scroll_into_view_if_needed()
            self.settle()
        card.click()
        card.wait_for(state="hidden")

    def wait_for_template(self) -> None:
        self.page.wait_for_function("window.app?.graph?._nodes.some((node) => node.type.startsWith('Kolors'))")
        self.page.get_by_role("dialog").wait_for(state="hidden")
        self.settle()
        self.show_graph()

    def load(self, workflow: dict) -> None:
        """Open a graph without the browser of templates."""
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        self.show_graph()

    def show_graph(self) -> None:
        """Of a workflow that opens as a form."""
        self.page.evaluate(AS_GRAPH)
        self.settle()

    def settle(self) -> None:
        """Until the canvas and what lies over it have been drawn."""
        self.page.evaluate(SETTLE)

    # ---- the canvas -------------------------------------------------------------------------------------------------

    def nodes(self) -> list[str]:
        """Types of the nodes, by id."""
        return self.page.evaluate("[...app.graph._nodes].sort((a, b) => a.id - b.id).map((node) => node.type)")

    def links(self) -> list[list]:
        """[origin node, its output, target node, its input, type] of each link."""
        return self.page.evaluate(
            "[...app.graph.links.values()].map((l) => [l.origin_id, l.origin_slot, l.target_id, l.target_slot, l.type])"
        )

    @contextmanager
    def all_in_view(self) -> Iterator[None]:
        """A page on which every template is seen as a whole: the older front ends do not draw the nodes outside."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": 4000, "height": 2400})
        try:
            yield
        finally:
            self.page.set_viewport_size(before)

    def show_whole(self) -> None:
        """Move the view to where the graph begins: a node that follows the pointer may have moved it."""
        self.page.evaluate(SHOW_WHOLE)
        self.settle()

    def boxes(self) -> list[list]:
        """[id, type, left, top, right, bottom] of the nodes, as they are drawn, in pixels of the graph."""
        self.show_whole()
        return self.page.evaluate(BOXES)

    def layout_faults(self, gap: float) -> list[str]:
        """Nodes that are less than `gap` pixels apart, notes that do not show their whole text, and red nodes."""
        found = faults(self.boxes(), gap)
        found += [f"{pixels} pixels of the note {node} are hidden" for node, pixels in self.page.evaluate(CUT_NOTES)]
        return found + [f"{kind} is red" for kind in self.page.evaluate(RED)]

    def point(self, expression: str) -> tuple[float, float]:
        """Where on the page a position of the graph is; `expression` gives it in JavaScript."""
        x, y = self.page.evaluate(f"app.canvasPosToClientPos({expression})")
        return x, y

    def slot(self, node: int | str, index: int, output: bool = False) -> tuple[float, float]:
        """Where a slot of a node is on the page."""
        if self.vue:
            dot = self.page.locator(f'[data-slot-key="{node}-{"out" if output else "in"}-{index}"]').first
            return self.page_centre(dot)
        inward = "false" if output else "true"
        return self.point(f"app.graph.getNodeById({node}).getConnectionPos({inward}, {index})")

    def page_centre(self, element: Locator) -> tuple[float, float]:
        box = element.bounding_box()
        assert box, f"{element} is not to be seen"
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def widget(self, node: int | str, name: str, label: str) -> tuple[float, float]:
        """Where a widget is on the page: its label, where that is HTML."""
        if self.vue:
            either = re.compile(f"^({name}|{label})$", re.IGNORECASE)  # older ones do not translate it
            return self.page_centre(self.page.locator(f'[data-node-id="{node}"]').get_by_text(either).first)
        return self.point(
            f"(() => {{ const node = app.graph.getNodeById({node}), "
            f"widget = node.widgets.find((one) => one.name === {name!r});"
            " return [node.pos[0] + 60, node.pos[1] + widget.last_y + 10]; })()"
        )

    def tooltip(self, x: float, y: float) -> str:
        """What is told of the place where the pointer rests."""
        self.page.mouse.move(x, y)
        self.page.mouse.move(x + 2, y, steps=2)
        told = self.page.locator(TOOLTIP).first
        told.wait_for()
        return told.inner_text().strip()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def select(self, node: int) -> None:
        self.page.mouse.click(*self.point(f"[app.graph.getNodeById({node}).pos[0] + 60, "
                                          f"app.graph.getNodeById({node}).pos[1] - 15]"))  # fmt: skip
        self.settle()

    def add(self, node: str, x: float = 400, y: float = 300) -> int:
        """Put a node on the canvas, as the search does; its id."""
        number = self.page.evaluate(
            "([type, pos]) => app.graph.add(Object.assign(LiteGraph.createNode(type), {pos})).id", [node, [x, y]]
        )
        self.settle()
        return number

    def screenshot(self, name: str) -> None:
        self.page.screenshot(path=self.screenshots / f"{name}.png")

    # ---- searching --------------------------------------------------------------------------------------------------

    def open_search(self, x: float = 700, y: float = 400) -> None:
        """By a double click on the empty canvas; again where a busy page took it for two clicks, or for a third one."""
        for _ in range(5):
            self.page.mouse.dblclick(x, y)
            for _ in range(10):
                self.page.wait_for_timeout(100)
                if self.search_field().is_visible():
                    return
        raise AssertionError("a double click opens no search")

    def search_field(self) -> Locator:
        return self.page.locator(SEARCH_FIELD).first

    def search(self, text: str) -> list[str]:
        """Titles that the node search lists for a text, best first."""
        before = self.still_list()
        self.search_field().fill(text)
        return self.still_list(other_than=before)

    def still_list(self, other_than: list[str] | None = None) -> list[str]:
        """The list of the search once it changes no more; it follows a pause in typing, on a busy page a longer one."""
        last = None
        for _ in range(25):
            found = self.found()
            if found == last != other_than:
                break
            last = found
            self.page.wait_for_timeout(250)
        return last

    def found(self) -> list[str]:
        rows = self.page.locator(SEARCH_RESULT).all_inner_texts()
        return [row.splitlines()[0].strip() for row in rows if row.strip()]

    def pick(self, title: str, x: float = 1000, y: float = 300) -> None:
        """Click a title in the list of the search; today's nodes then follow the pointer until a click lays them down.

        Older front ends put the node where the search was opened.
        """
        self.page.locator(SEARCH_RESULT, has_text=title).first.click()
        self.settle()
        for _ in range(5):  # a busy page takes a click for nothing
            if self.page.evaluate("app.canvas.state.ghostNodeId == null"):
                break
            self.page.mouse.click(x, y)
            self.page.evaluate(STILL)

    # ---- what is missing --------------------------------------------------------------------------------------------

    def missing(self, what: str) -> Locator:
        """What the front end says of a missing `model` or `node`: in a panel of errors, in older ones in a dialog."""
        button, dialog = self.page.get_by_test_id("error-overlay-see-errors"), self.page.get_by_role("dialog")
        button.or_(dialog).first.wait_for()
        if not button.count():
            return dialog
        button.click()
        group = self.page.get_by_test_id(f"error-group-missing-{what}")
        group.wait_for()
        for closed in group.get_by_test_id("missing-node-pack-expand").all():
            closed.click()
        self.settle()
        return group

    def downloads(self, place: Locator) -> list[str]:
        """Addresses of the Download buttons of single files: the older ones have it as their title."""
        self.page.evaluate(CATCH_DOWNLOADS)
        addresses = []
        for button in place.get_by_role("button", name=re.compile(r"^Download\b(?! all)")).all():
            if address := button.get_attribute("title"):
                addresses.append(address)
            else:
                button.click()
        return addresses + self.page.evaluate("window.downloads")

    # ---- running ----------------------------------------------------------------------------------------------------

    def shrink(self) -> None:
        self.page.evaluate(SHRINK)

    def set_widget(self, kind: str, name: str, value: str) -> None:
        """Choose a value in the nodes of a type."""
        self.page.evaluate(SET_WIDGET, [kind, name, value])

    def run(self) -> dict[str, Any]:
        """Press Run, wait for the front end to hear of the end, and return the server's history entry."""
        self.page.evaluate(LISTEN)
        with self.page.expect_response(
            lambda it: it.url.endswith("/prompt") and it.request.method == "POST"
        ) as response:
            self.page.get_by_role("button", name=RUN).filter(visible=True).first.click()
        answer = response.value.json()
        assert not answer.get("node_errors") and "prompt_id" in answer, answer
        self.page.wait_for_function("window.heard.length > 0")
        ((name, detail),) = self.page.evaluate("window.heard")
        assert (name, detail["prompt_id"]) == ("execution_success", answer["prompt_id"]), detail
        return self.server.wait(answer["prompt_id"])

    def shown_images(self) -> int:
        """How many images the SaveImage nodes show."""
        self.page.wait_for_function(f"({SHOWN})() > 0")
        return self.page.evaluate(SHOWN)

    def wait_for(self, condition: str, arg: Any = None) -> None:
        self.page.wait_for_function(condition, arg=arg)
