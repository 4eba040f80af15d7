// "Kolors help" in the context menu of this pack's nodes, where the front end's own menu has no way to a node's page:
// LiteGraph's. That of Nodes 2.0 has "Node Info".

import { app } from "../../scripts/app.js";
import { isOurs, translate } from "./pack.js";

const ENTRY = { en: "Kolors help", zh: "可图帮助" };
const BUTTON = "[data-testid=info-button]"; // above a selected node; it opens the page where this front end shows it
const TRIES = 60; // frames until the button is there

async function openHelp(node) {
  app.canvas.deselectAll();
  app.canvas.selectNode(node);
  for (let tries = 0; tries < TRIES; tries++) {
    await new Promise(requestAnimationFrame);
    const button = document.querySelector(BUTTON);
    if (button) {
      return button.click();
    }
  }
}

app.registerExtension({
  name: "kolors.help",
  getNodeMenuItems(node) {
    const hasButton = app.extensionManager.setting.get("Comfy.Canvas.SelectionToolbox");
    if (LiteGraph.vueNodesMode || !hasButton || !isOurs(node.constructor.nodeData)) {
      return [];
    }
    return [{ content: translate(ENTRY), callback: () => openHelp(node) }];
  },
});
