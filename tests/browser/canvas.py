"""A page of the real front end: open a template, search, connect, run, and see what is on the canvas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import Client

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

PACK = "comfyui-kolors"
WAIT_MS = 90_000  # the machine may be busy
OURS = re.compile(rf"{PACK}|kolors", re.IGNORECASE)
HELP_PAGE = re.compile(r"/docs/\w+/\w+\.md$")  # asked for first in a language that may have none

# What would lie over the canvas of a new user, and what differs between the front ends.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.LinkRelease.Action": "search box",  # what new users have
    "Comfy.Minimap.Visible": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.VueNodes.AutoScaleLayout": False,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Workflow.ShowMissingModelsWarning": True,
    "Comfy.Workflow.WorkflowTabsPosition": "Sidebar",
    "Comfy.Workflow.Persist": False,  # else the last graph comes back with the page
    "Comfy.NodeSearchBoxImpl": "default",
}
READY = """() => window.app?.extensionManager && window.LiteGraph?.registered_node_types.KSampler
  && document.querySelector('.side-tool-bar-container')"""

# Small pictures and few steps: what is tested is the graph, not the model.
SHRINK = """() => {
  const small = {
    EmptyLatentImage: {width: 64, height: 64},
    KSampler: {steps: 2},
    KolorsKSampler: {steps: 2},
    ImageScaleToTotalPixels: {megapixels: 0.01},
  };
  for (const node of app.graph._nodes)
    for (const [name, value] of Object.entries(small[node.type] ?? {})) {
      const widget = node.widgets.find((widget) => widget.name === name);
      if (widget) widget.value = value;
    }
}"""

# Test ids of today's front ends, and what those before them had.
SEARCH_FIELD = "[role=search] input[role=combobox], .comfy-vue-node-search-container input"
SEARCH_RESULT = "[data-testid=result-item], .p-autocomplete-option"

# What the front end wants to download: it clicks a link that is on no page.
CATCH_DOWNLOADS = """() => {
  window.downloads = [];
  HTMLAnchorElement.prototype.click = function () { window.downloads.push(this.href); };
}"""

LISTEN = """() => {
  const names = window.heard ? [] : ["execution_success", "execution_error", "execution_interrupted"];
  window.heard = [];
  for (const name of names) app.api.addEventListener(name, ({detail}) => window.heard.push([name, detail]));
}"""

# Titles stand above a node's position, the badge with the pack's name above those. From afar no text is shown.
# `saved` has the sizes that the file of the graph gives its nodes: an overlap that they do not have comes from growth.
LAYOUT = """(saved) => {
  const faults = [], grown = [];
  const boxes = app.graph._nodes.map((node) => {
    const [x, y] = node.pos, [width, height] = node.size, [least, lowest] = node.computeSize();
    const note = node.type === "MarkdownNote";
    if (!note && (width < least - 1 || height < lowest - 1))
      faults.push(`${node.id} ${node.type} is ${width} x ${height} and needs ${least} x ${lowest}`);
    const badge = note ? 0 : 20;
    const box = (width, height) => ({left: x, right: x + width, top: y - 30 - badge, bottom: y + height});
    return {node, now: box(width, height), before: box(...saved[node.id])};
  });
  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  for (const [index, a] of boxes.entries())
    for (const b of boxes.slice(index + 1)) {
      if (!overlap(a.now, b.now)) continue;
      const types = [a, b].filter(({node, before, now}) => now.bottom > before.bottom).map(({node}) => node.type);
      const text = `${a.node.id} ${a.node.type} and ${b.node.id} ${b.node.type} overlap`;
      if (overlap(a.before, b.before)) faults.push(text);
      else grown.push([text, types]);
    }
  for (const node of app.graph._nodes) {
    if (node.has_errors || !LiteGraph.registered_node_types[node.type]) faults.push(`${node.type} is red`);
    if (node.type !== "MarkdownNote") continue;
    const content = [...node.widgets[0].element.querySelectorAll(":not(textarea)")]; // that one is for editing
    if (!content.some((part) => part.clientHeight)) faults.push(`the note ${node.id} is hidden`);
    const cut = content.find((part) => part.clientHeight && part.scrollHeight > part.clientHeight + 2
      && getComputedStyle(part).overflowY !== "visible");
    if (cut) faults.push(`the note ${node.id} is ${cut.scrollHeight - cut.clientHeight} pixels too low`);
  }
  return [faults, grown];
}"""

# Nodes of ComfyUI's that have grown since the templates were saved. What they lie over since then is known.
GROWN = {"ImageScaleToTotalPixels": "has one widget more since ComfyUI 0.6.0"}


class Canvas:
    """One page. `errors` are uncaught errors and console errors that name this pack: the front ends have their own."""

    def __init__(self, page: Page, server: Client, screenshots: Path):
        self.page, self.server, self.screenshots = page, server, screenshots
        self.errors: list[str] = []
        self.locale = ""
        page.on("pageerror", lambda error: OURS.search(error.stack) and self.errors.append(error.stack))
        page.on("console", self._take)
        page.set_default_timeout(WAIT_MS)

    def _take(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        ours = OURS.search(message.text) or f"/{PACK}/" in where
        if message.type == "error" and ours and not HELP_PAGE.search(where):
            self.errors.append(f"{message.text} ({where})")

    # ---- opening ----------------------------------------------------------------------------------------------------

    def open(self, locale: str = "en", query: str = "", **settings: Any) -> None:
        """Load the page anew in a language, with an empty graph where `query` names no template."""
        self.server.request("/settings", SETTINGS | {"Comfy.Locale": locale} | settings)
        self.locale = locale
        self.page.goto(f"{self.server.url}/{query}")
        self.page.wait_for_function(READY)
        self.settle()
        if not query:
            self.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
            self.page.wait_for_function("app.extensionManager.workflow.activeWorkflow")
            self.clear()

    def use(self, locale: str = "en") -> None:
        """An empty graph in a language; the page is loaded anew only where it has another one or something is open."""
        if self.locale != locale or self.page.locator("[role=dialog]:visible").count():
            self.open(locale)
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
        card.click()
        card.wait_for(state="hidden")

    def wait_for_template(self) -> None:
        self.page.wait_for_function("window.app?.graph?._nodes.some((node) => node.type.startsWith('Kolors'))")
        self.page.get_by_role("dialog").wait_for(state="hidden")
        self.settle()

    def settle(self) -> None:
        """Until the canvas and what lies over it have been drawn."""
        self.page.evaluate("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 300))")

    # ---- the canvas -------------------------------------------------------------------------------------------------

    def nodes(self) -> list[str]:
        """Types of the nodes, by id."""
        return self.page.evaluate("[...app.graph._nodes].sort((a, b) => a.id - b.id).map((node) => node.type)")

    def links(self) -> list[list]:
        """[origin node, its output, target node, its input, type] of each link."""
        return self.page.evaluate(
            "[...app.graph.links.values()].map((l) => [l.origin_id, l.origin_slot, l.target_id, l.target_slot, l.type])"
        )

    def layout_faults(self, template: dict) -> tuple[list[str], list[str]]:
        """What is wrong with the layout of a template, and the overlaps that nodes in GROWN cause on a newer host."""
        saved = {node["id"]: list(node["size"]) for node in template["nodes"]}
        faults, grown = self.page.evaluate(LAYOUT, saved)
        known = {
            text: " and ".join(f"{kind} {GROWN[kind]}" for kind in types if kind in GROWN) for text, types in grown
        }
        faults += [text for text, reason in known.items() if not reason]
        return faults, [f"{text}: {reason}" for text, reason in known.items() if reason]

    def point(self, expression: str) -> tuple[float, float]:
        """Where on the page a position of the graph is; `expression` gives it in JavaScript."""
        x, y = self.page.evaluate(f"app.canvasPosToClientPos({expression})")
        return x, y

    def slot(self, node: int, index: int, output: bool = False) -> tuple[float, float]:
        inward = "false" if output else "true"
        return self.point(f"app.graph.getNodeById({node}).getConnectionPos({inward}, {index})")

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
            self.page.wait_for_timeout(1_000)
            if self.search_field().is_visible():
                return
        raise AssertionError("a double click opens no search")

    def search_field(self) -> Locator:
        return self.page.locator(SEARCH_FIELD).first

    def search(self, text: str) -> list[str]:
        """Titles that the node search lists for a text, best first."""
        self.search_field().fill(text)
        self.page.wait_for_timeout(1_000)  # the list follows a pause in typing
        return self.found()

    def found(self) -> list[str]:
        rows = self.page.locator(SEARCH_RESULT).all_inner_texts()
        return [row.splitlines()[0].strip() for row in rows if row.strip()]

    def pick(self, title: str, x: float = 1000, y: float = 300) -> None:
        """Click a title in the list of the search; today's nodes then follow the pointer until a click lays them down.

        Older front ends put the node where the search was opened.
        """
        self.page.locator(SEARCH_RESULT, has_text=title).first.click()
        self.settle()
        if self.page.evaluate("app.canvas.state.ghostNodeId != null"):
            self.page.mouse.click(x, y)
            self.settle()

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

    def run(self) -> dict[str, Any]:
        """Press Run, wait for the front end to hear of the end, and return the server's history entry."""
        self.page.evaluate(LISTEN)
        with self.page.expect_response(
            lambda it: it.url.endswith("/prompt") and it.request.method == "POST"
        ) as response:
            self.page.get_by_role("button", name="Run", exact=True).first.click()
        answer = response.value.json()
        assert not answer.get("node_errors") and "prompt_id" in answer, answer
        self.page.wait_for_function("window.heard.length > 0")
        ((name, detail),) = self.page.evaluate("window.heard")
        assert (name, detail["prompt_id"]) == ("execution_success", answer["prompt_id"]), detail
        return self.server.wait(answer["prompt_id"])

    def shown_images(self) -> int:
        """How many pictures the SaveImage nodes show."""
        self.page.wait_for_function("app.graph._nodes.some((n) => n.type === 'SaveImage' && n.imgs?.[0]?.naturalWidth)")
        return self.page.evaluate(
            "app.graph._nodes.filter((node) => node.type === 'SaveImage').flatMap((node) => node.imgs).length"
        )

    def wait_for(self, condition: str, arg: Any = None) -> None:
        self.page.wait_for_function(condition, arg=arg)
