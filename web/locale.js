// Chinese texts on the nodes where the front end has lost them: 1.32.9, which comes with ComfyUI 0.3.75, reads a pack's
// translations first and then puts its own in their place. Where it keeps them, nothing is left to do here.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { getLocale, isOurs } from "./pack.js";

function putTexts(def, texts) {
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
  name: "kolors.locale",
  async addCustomNodeDefs(defs) {
    const response = await api.fetchApi("/i18n");
    const texts = response.ok ? (await response.json())[getLocale()]?.nodeDefs : undefined;
    for (const def of Object.values(defs).filter(isOurs)) {
      if (texts?.[def.name] && texts[def.name].display_name !== def.display_name) {
        putTexts(def, texts[def.name]);
      }
    }
  },
});
