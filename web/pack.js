// What the extensions of this pack share.

import { app } from "../../scripts/app.js";

export const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2)); // /extensions/PACK/pack.js

/** Whether a node's definition is one of this pack's. */
export function isOurs(def) {
  return def?.python_module === `custom_nodes.${PACK}`;
}

/** The language of the front end, such as "en" or "zh". */
export function getLocale() {
  return app.extensionManager.setting.get("Comfy.Locale");
}

/** What a table of languages has in that of the front end; in English where there is none. */
export function translate(texts) {
  return texts[getLocale()] ?? texts.en;
}
