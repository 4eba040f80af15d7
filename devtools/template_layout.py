"""Lays templates out in a running front end, and writes them as it saves them.

    python -m devtools.template_layout URL FILE...

Needs playwright and a Chromium. The sizes are those of the nodes as both renderers draw them, in both languages.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .chromium import find_chromium
from .drawing import NOTE_COLOURS, Drawing
from .front_end_page import AS_GRAPH, BOXES, READY, SETTINGS, SETTLE, SHOW_WHOLE
from .graph_layout import GAP, NOTE, TITLE, Link
from .server import request

VIEWPORT = {"width": 4000, "height": 3000}

GRAPHS = "() => ['', ...(app.graph.subgraphs?.keys() ?? [])]"
ENTER = """(id) => {
  const graph = id ? app.graph.subgraphs.get(id) : app.graph;
  if (app.canvas.graph !== graph) app.canvas.setGraph(graph);
}"""
NODES = """() => app.canvas.graph._nodes.map(
  (node) => [node.id, node.isSubgraphNode?.() ? "Subgraph" : node.type, ...node.computeSize()])"""
LINKS = """() => [...app.canvas.graph.links.values()].map(
  (link) => [link.origin_id, link.origin_slot, link.target_id, link.target_slot])"""
PLACE = """(places) => {
  for (const [id, x, y, width, height] of places) {
    const node = app.canvas.graph.getNodeById(id);
    node.pos = [x, y];
    node.setSize([width, height]);
  }
}"""
PLACE_ENDS = """([left, right]) => {
  const {inputNode, outputNode} = app.canvas.graph;
  if (inputNode) inputNode.pos = [left - inputNode.size[0], 0];
  if (outputNode) outputNode.pos = [right, 0];
}"""
#: Pixels by which the text of a note is longer than the note.
HIDDEN = """() => app.canvas.graph._nodes.filter((node) => node.widgets?.[0]?.element).map((node) => {
  const parts = [...node.widgets[0].element.querySelectorAll(":not(textarea)"), node.widgets[0].element];
  return [node.id, Math.max(0, ...parts.map((part) => part.scrollHeight - part.clientHeight))];
})"""
SAVE = """([template, kind, colours]) => {
  for (const node of app.graph._nodes) if (node.type === kind) Object.assign(node, colours);
  const known = template.definitions?.subgraphs ?? [];
  app.graph.extra.frontendVersion = window.__COMFYUI_FRONTEND_VERSION__;
  const saved = app.graph.serialize();
  delete saved.extra.ds; // without a place to look at, all of it is shown
  for (const part of saved.definitions?.subgraphs ?? []) {
    part.category = known.find((one) => one.id === part.id)?.category; // which the front end reads, but does not save
    part.state.lastNodeId = Number(part.state.lastNodeId); // a text is what 1.32.9 warns of
  }
  return JSON.stringify(saved, null, 2);
}"""


def names_of_files(templates: list[dict]) -> dict[str, set[str]]:
    """What the nodes of a type name in all templates, as if it were all there: what is missing is drawn larger."""
    found: dict[str, set[str]] = {}
    for template in templates:
        for graph in (template, *template.get("definitions", {}).get("subgraphs", ())):
            for node in graph["nodes"]:
                values = node.get("widgets_values") or []
                texts = {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()
                found.setdefault(node["type"], set()).update(texts)
    return found


def with_files(info: dict[str, dict], names: dict[str, set[str]]) -> dict[str, dict]:
    """The declarations of all nodes, with these names in the lists that they choose from."""
    for kind, more in names.items():
        for inputs in info.get(kind, {}).get("input", {}).values():
            for declared in inputs.values():
                if isinstance(declared[0], list):
                    declared[0] = [*declared[0], *sorted(more - set(map(str, declared[0])))]
    return info


@contextmanager
def opened(browser: Any, url: str, names: dict[str, set[str]], language: str, vue: bool) -> Iterator[Any]:
    """A page of the front end in a language and a renderer."""
    request(f"{url}/settings", SETTINGS | {"Comfy.Locale": language, "Comfy.VueNodes.Enabled": vue})
    page = browser.new_page(viewport=VIEWPORT, locale="en-US")
    page.set_default_timeout(120_000)
    page.route(lambda address: "//127.0.0.1" not in address, lambda route: route.abort())
    page.route("**/object_info", lambda route: route.fulfill(json=with_files(route.fetch().json(), names)))
    page.goto(url)
    page.wait_for_function(READY)
    yield page
    page.close()


def draw(page: Any, template: dict) -> Iterator[str]:
    """Opens a template; each of its graphs in turn, by id, as the one on the canvas."""
    page.evaluate("(template) => app.loadGraphData(template)", template)
    page.evaluate(AS_GRAPH)
    for graph in page.evaluate(GRAPHS):
        page.evaluate(ENTER, graph)
        yield graph
    page.evaluate(ENTER, "")


def place(page: Any, drawing: Drawing) -> None:
    page.evaluate(PLACE, drawing.rows())
    page.evaluate(PLACE_ENDS, [-2 * GAP, drawing.right() + 2 * GAP])
    page.evaluate(SHOW_WHOLE)
    page.evaluate(SETTLE)


def measure(page: Any, drawing: Drawing, vue: bool) -> None:
    """Raises the sizes to what is drawn where nodes are HTML, and notes to their text."""
    place(page, drawing)
    if vue:
        for node, _kind, _left, top, _right, bottom in page.evaluate(BOXES):
            drawing.need(node, 0.0, bottom - top - TITLE)
    else:
        for node, hidden in page.evaluate(HIDDEN):
            if node in drawing.notes():
                drawing.need(node, 0.0, drawing.sizes[node][1] + hidden)
    drawing.arrange()


def lay_out(browser: Any, url: str, templates: dict[str, dict]) -> dict[str, str]:
    """The templates as the front end saves them, laid out. Told twice what is drawn: the widths change the heights."""
    names = names_of_files(list(templates.values()))
    drawings: dict[tuple[str, str], Drawing] = {}
    for language in ("zh", "en"):
        with opened(browser, url, names, language, vue=False) as page:
            for name, template in templates.items():
                for graph in draw(page, template):
                    drawing = drawings.setdefault((name, graph), Drawing())
                    for node in page.evaluate(NODES):
                        drawing.add(*node)
                    drawing.links = [Link(*link) for link in page.evaluate(LINKS)]
                    drawing.arrange()
    for language, vue in (("zh", True), ("en", True), ("en", False)):
        with opened(browser, url, names, language, vue) as page:
            for name, template in templates.items():
                for graph in draw(page, template):
                    measure(page, drawings[name, graph], vue)
    saved = {}
    with opened(browser, url, names, "en", vue=False) as page:
        for name, template in templates.items():
            for graph in draw(page, template):
                place(page, drawings[name, graph])
            saved[name] = page.evaluate(SAVE, [template, NOTE, NOTE_COLOURS])
    return saved


def in_ascii(text: str) -> str:
    """The same JSON: ComfyUI 0.3.75 reads a subgraph in the encoding of the system."""
    return re.sub(r"[^\x00-\x7f]+", lambda part: json.dumps(part[0])[1:-1], text)


def main(url: str, *files: str) -> int:
    from playwright.sync_api import sync_playwright

    paths = [Path(file) for file in files]
    templates = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(Path(sys.executable)))
        saved = lay_out(browser, url, templates)
    for path in paths:
        text = saved[path.name] + "\n"
        text = in_ascii(text) if path.parent.name == "subgraphs" else text
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
