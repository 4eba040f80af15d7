"""What is asked of ComfyUI's page in a browser, by `dev.py templates` and by the tests: settings, sizes, boxes."""

from __future__ import annotations

from typing import Any

from .graph_layout import NOTE, TITLE

#: What would lie over the canvas of a new user, and what differs between the front ends.
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
    "Comfy.RightSidePanel.IsOpen": False,  # a node's help opens it; it has the node's text boxes once more
    "Comfy.ColorPalette": "dark",
    "Comfy.OnboardingCoachmarks.Seen": {"appMode": True},  # the tour of the first form that is opened
}
READY = """() => window.app?.extensionManager && window.LiteGraph?.registered_node_types.KSampler
  && document.querySelector('.side-tool-bar-container')"""

#: Until what was changed on the canvas has been drawn, in both renderers.
SETTLE = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300))"

#: The graph of a workflow that opens as a form.
AS_GRAPH = """() => {
  const {activeWorkflow} = app.extensionManager.workflow;
  if (activeWorkflow && "activeMode" in activeWorkflow) activeWorkflow.activeMode = "graph";
}"""

#: The graph at its own size, its origin in the page where all of it is drawn: a node outside may be left out.
SHOW_WHOLE = """() => {
  const nodes = app.canvas.graph._nodes;
  const left = Math.min(...nodes.map((node) => node.pos[0])), top = Math.min(...nodes.map((node) => node.pos[1]));
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [80 - left, 120 - top];
  app.canvas.setDirty(true, true);
}"""

#: Boxes of the nodes, with their titles, as they are drawn: [id, type, left, top, right, bottom] in the graph's pixels.
BOXES = f"""() => {{
  const vue = app.extensionManager.setting.get("Comfy.VueNodes.Enabled");
  const {{scale, offset}} = app.canvas.ds, origin = app.canvas.canvas.getBoundingClientRect();
  return app.canvas.graph._nodes.map((node) => {{
    const drawn = vue && document.querySelector(`[data-node-id="${{node.id}}"]`)?.getBoundingClientRect();
    if (vue && !drawn) throw new Error(`${{node.type}} ${{node.id}} is not drawn`);
    const [x, y] = drawn
      ? [(drawn.x - origin.x) / scale - offset[0], (drawn.y - origin.y) / scale - offset[1]]
      : [node.pos[0], node.pos[1] - {TITLE}];
    const [width, height] = drawn
      ? [drawn.width / scale, drawn.height / scale]
      : [node.size[0], node.size[1] + {TITLE}];
    return [node.id, node.type, x, y, x + width, y + height];
  }});
}}"""

#: Notes that do not show their whole text: [id, pixels that are hidden]. A note's text may be in an element of its own.
CUT_NOTES = f"""() => app.canvas.graph._nodes.filter((node) => node.type === "{NOTE}").flatMap((node) => {{
  const vue = app.extensionManager.setting.get("Comfy.VueNodes.Enabled");
  const root = vue ? document.querySelector(`[data-node-id="${{node.id}}"]`) : node.widgets[0].element;
  const parts = [root, ...root.querySelectorAll(":not(textarea)")].filter((part) => part.clientHeight);
  if (!parts.length) return [[node.id, Infinity]];
  const hidden = parts.filter((part) => getComputedStyle(part).overflowY !== "visible")
    .map((part) => part.scrollHeight - part.clientHeight);
  const most = Math.max(0, ...hidden);
  return most > 1 ? [[node.id, most]] : [];
}})"""


def faults(boxes: list[list[Any]], gap: float) -> list[str]:
    """Pairs of boxes, as from BOXES, that are less than `gap` pixels apart in both directions."""
    found = []
    for index, (id, kind, *box) in enumerate(boxes):
        for other_id, other_kind, *other in boxes[index + 1 :]:
            apart = max(other[0] - box[2], box[0] - other[2], other[1] - box[3], box[1] - other[3])
            if apart < gap - 1:
                found.append(f"{id} {kind} and {other_id} {other_kind} are {apart:.0f} pixels apart, not {gap:.0f}")
    return found
