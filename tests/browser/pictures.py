"""Draws the pictures of the help pages with the real front end.

    python3 dev.py test tests/browser/pictures.py

No test run collects this file by itself. Each node of the pack is shown in a small graph, in both languages.
"""

from __future__ import annotations

import io

import pytest
import tiny_models
import torch
from comfyui_kolors.kolors_core.files.conditioning import save_conditioning
from comfyui_kolors.kolors_core.files.image_prompt import ImagePrompt, save_image_prompt
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.browser]

ROOT = tiny_models.ROOT
MARGIN = 14  # pixels around a graph

# What stands before and behind each node: {input: (node, its output)} and {output: (node, its input)}.
BESIDE = {
    "KolorsUNETLoader": ({}, {0: ("KSampler", "model")}),
    "KolorsChatGLM3Loader": ({}, {0: ("CLIPTextEncode", "clip")}),
    "KolorsCheckpointLoader": ({}, {1: ("CLIPTextEncode", "clip")}),
    "KolorsPromptEncode": ({"clip": ("KolorsChatGLM3Loader", 0)}, {0: ("KSampler", "positive")}),
    "KolorsConditioningSave": ({"conditioning": ("KolorsPromptEncode", 0)}, {}),
    "KolorsConditioningLoad": ({}, {0: ("KSampler", "positive")}),
    "KolorsImageSize": ({}, {0: ("EmptyLatentImage", "width"), 1: ("EmptyLatentImage", "height")}),
    "KolorsKSampler": ({"model": ("KolorsUNETLoader", 0), "latent_image": ("EmptyLatentImage", 0)},
                       {0: ("VAEDecode", "samples")}),
    "KolorsScheduler": ({"model": ("KolorsUNETLoader", 0)}, {0: ("SamplerCustomAdvanced", "sigmas")}),
    "KolorsModelSampling": ({"model": ("KolorsLoraLoader", 0)}, {0: ("KSampler", "model")}),
    "KolorsLoraLoader": ({"model": ("KolorsUNETLoader", 0)}, {0: ("KSampler", "model")}),
    "KolorsControlNetLoader": ({}, {0: ("ControlNetApplyAdvanced", "control_net")}),
    "KolorsIPAdapterLoader": ({}, {0: ("KolorsIPAdapterApply", "ipadapter")}),
    "KolorsImagePromptCombine": ({"image_prompt_1": ("KolorsImagePromptEncode", 0),
                                  "image_prompt_2": ("KolorsImagePromptEncode", 0)},
                                 {0: ("KolorsImagePromptApply", "image_prompt")}),
    "KolorsImagePromptSave": ({"image_prompt": ("KolorsImagePromptEncode", 0)}, {}),
    "KolorsImagePromptLoad": ({}, {0: ("KolorsImagePromptApply", "image_prompt")}),
    "KolorsImagePromptApply": ({"model": ("KolorsUNETLoader", 0), "ipadapter": ("KolorsIPAdapterLoader", 0),
                                "image_prompt": ("KolorsImagePromptLoad", 0)},
                               {0: ("KSampler", "model")}),
    # those with an image last: the front end may show it in the next graph, on the node of the same number
    "KolorsIPAdapterApply": ({"model": ("KolorsUNETLoader", 0), "ipadapter": ("KolorsIPAdapterLoader", 0),
                              "clip_vision": ("CLIPVisionLoader", 0), "image": ("LoadImage", 0)},
                             {0: ("KSampler", "model")}),
    "KolorsFaceIDApply": ({"model": ("KolorsUNETLoader", 0), "ipadapter": ("KolorsIPAdapterLoader", 0),
                           "clip_vision": ("CLIPVisionLoader", 0), "image": ("LoadImage", 0)},
                          {0: ("KSampler", "model")}),
    "KolorsImagePromptEncode": ({"clip_vision": ("CLIPVisionLoader", 0), "image": ("LoadImage", 0)},
                                {0: ("KolorsImagePromptApply", "image_prompt")}),
}  # fmt: skip

# Columns from left to right; a source that has the node's main file is shown with the name of the published one.
BUILD = """async ([type, before, behind, files]) => {
  app.graph.clear();
  const add = (type, x, y) => {
    const node = LiteGraph.createNode(type);
    for (const widget of node.widgets ?? []) {
      const file = files.find((file) => widget.options?.values?.includes?.(file));
      if (file) widget.value = file;
    }
    const height = type === "LoadImage" ? 340 : node.size[1]; // it grows when its picture has come
    node.setSize([Math.max(node.computeSize()[0], 290), height]);
    node.pos = [x, y];
    return app.graph.add(node);
  };
  const sources = Object.keys(before).length, x = sources ? 340 : 0;
  const node = add(type, x, 0);
  let y = 0;
  for (const [input, [source, output]] of Object.entries(before)) {
    const other = add(source, 0, y);
    other.connect(output, node, node.findInputSlot(input));
    y += other.size[1] + 80;
  }
  const targets = {};
  for (const [output, [target, input]] of Object.entries(behind)) {
    const other = (targets[target] ??= add(target, x + node.size[0] + 60, 0));
    node.connect(Number(output), other, other.findInputSlot(input));
  }
  app.canvas.deselectAll?.();
}"""
# The graph at its own size with its corner at (400, 200) of the page; the area that it covers there.
FRAME = """async ([hidden, scale, margin]) => {
  await new Promise((done) => setTimeout(done, 600));
  const nodes = app.graph._nodes.filter((node) => !hidden.includes(node.type));
  const left = Math.min(...nodes.map((node) => node.pos[0])), top = Math.min(...nodes.map((node) => node.pos[1])) - 52;
  const right = Math.max(...nodes.map((node) => node.pos[0] + node.size[0]));
  const bottom = Math.max(...nodes.map((node) => node.pos[1] + node.size[1]));
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [70 / scale - left, 140 / scale - top];
  app.canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 600));
  const [x, y] = app.canvasPosToClientPos([left, top]), [x2, y2] = app.canvasPosToClientPos([right, bottom]);
  return {x: x - margin, y: y - margin, width: x2 - x + 2 * margin, height: y2 - y + 2 * margin};
}"""


def picture(canvas, hidden: list[str], scale: float) -> Image.Image:
    """The graph without the nodes of some types."""
    clip = canvas.page.evaluate(FRAME, [hidden, scale, MARGIN])
    # Menus and buttons lie over the canvas, which fills the page.
    hide = "body > :not(:has(#graph-canvas)), .side-tool-bar-container { visibility: hidden }"
    style = canvas.page.add_style_tag(content=hide)
    image = Image.open(io.BytesIO(canvas.page.screenshot(clip=clip))).convert("RGB")
    style.evaluate("(style) => style.remove()")
    return image


@pytest.fixture
def saved(server):
    """A file of each kind that a node saves and another lists."""
    prompt = ImagePrompt.of(torch.zeros(1, 577, 1), torch.zeros(1, 577, 1))
    for name, save, value in (
        ("conditioning/kolors", save_conditioning, [[torch.zeros(1, 2, 1), {}]]),
        ("image_prompts/kolors", save_image_prompt, prompt),
    ):
        path = server.base / "output" / f"{name}_00001_.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, value)


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_write_help_pictures(canvas, saved, locale):
    canvas.page.set_viewport_size({"width": 1800, "height": 1300})
    canvas.open(locale, **{"Comfy.Graph.CanvasInfo": False})
    names = (name for _, name in tiny_models.requested())
    files = sorted(names, key=lambda name: "Inpainting" in name or "faceid" in name)
    folder = ROOT / "web/docs/images"
    folder.mkdir(exist_ok=True)
    for node, (before, behind) in BESIDE.items():
        canvas.page.evaluate(BUILD, [node, before, behind, files])
        suffix = "" if locale == "en" else f".{locale}"
        picture(canvas, [], 1.0).save(folder / f"{node}{suffix}.webp", lossless=True, quality=100, method=6)
