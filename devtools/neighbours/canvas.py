"""What the page of a running ComfyUI makes of a graph with nodes that are on the canvas alone.

    python -m devtools.neighbours.canvas URL < REQUESTS > PROMPTS

Needs playwright and a Chromium. A request is a prompt in API form and a script, which changes it on the canvas; what
the front end then sends to the server comes back, or an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..chromium import find_chromium
from ..front_end_page import READY, SETTINGS, SETTLE
from ..server import request
from .scene import Scene
from .tries.recipe import OnCanvas

OPEN = "(prompt) => app.loadApiJson(prompt, 'neighbours')"
#: A script gets the node that loads the model, the sampler, and the sampler's input for it.
CHANGE = """async ([script, loader]) => {
  const source = app.graph._nodes.find((node) => node.type === loader);
  const target = app.graph._nodes.find((node) => node.type === "KSampler");
  const slot = target.findInputSlot("model");
  const make = (type) => {
    const node = LiteGraph.createNode(type);
    if (!node) throw new Error(`there is no node ${type} here`);
    app.graph.add(node);
    return node;
  };
  await new Function("source", "target", "slot", "make", script)(source, target, slot, make);
}"""
#: What Run would send; some packages change the graph for that moment only.
SENT = """async () => {
  const send = app.api.queuePrompt;
  let sent;
  app.api.queuePrompt = async (number, {output}) => ((sent = output), {prompt_id: "none", node_errors: {}});
  try {
    await app.queuePrompt(0, 1);
  } finally {
    app.api.queuePrompt = send;
  }
  return sent;
}"""


def as_request(one: OnCanvas, scene: Scene) -> dict[str, Any]:
    """The plain graph of a scene, in which a node is to bring the model to the sampler."""
    scene.save(scene.sample())
    return {"prompt": scene, "script": one.script, "loader": scene.family.model[0]}


def main(url: str) -> None:
    from playwright.sync_api import Error, sync_playwright

    request(f"{url}/settings", SETTINGS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(Path(sys.executable)))
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.route(lambda address: not address.startswith(url), lambda route: route.abort())
        page.goto(url)
        page.wait_for_function(READY)
        page.evaluate(SETTLE)
        found: list[dict[str, Any]] = []
        for asked in json.load(sys.stdin):
            try:
                page.evaluate(OPEN, asked["prompt"])
                page.evaluate(SETTLE)
                page.evaluate(CHANGE, [asked["script"], asked["loader"]])
                page.evaluate(SETTLE)
                found.append({"prompt": page.evaluate(SENT)})
            except Error as error:
                found.append({"error": str(error).splitlines()[0]})
        browser.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
