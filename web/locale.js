// Chinese texts on the nodes where the front end has lost them: 1.32.9, which comes with ComfyUI 0.3.75, reads a pack's
// translations first and then puts its own in their place. Where it keeps them, nothing is left to do here.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2)); // /extensions/PACK/locale.js

function translate(def, texts) {
  def.display_name = texts.display_name;
  def.description = texts.description;
  for (const [name, input] of Object.entries({ ...def.input.required, ...def.input.optional })) {
    if (input[1] && texts.inputs?.[name]) {
      input[1].tooltip = texts.inputs[name].tooltip;
    }
  }
  def.output_tooltips = def.output_tooltips?.map((tooltip, index) => texts.outputs?.[index]?.tooltip ?? tooltip);
}

app.registerExtension({
  name: "Kolors.Locale",
  async addCustomNodeDefs(defs) {
    const ours = Object.values(defs).filter((def) => def.python_module === `custom_nodes.${PACK}`);
    const response = await api.fetchApi("/i18n");
    const locale = app.extensionManager.setting.get("Comfy.Locale");
    const texts = response.ok ? (await response.json())[locale]?.nodeDefs : undefined;
    for (const def of ours) {
      if (texts?.[def.name] && texts[def.name].display_name !== def.display_name) {
        translate(def, texts[def.name]);
      }
    }
  },
});
