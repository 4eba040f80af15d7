// Under the text box of a prompt: how many tokens it takes, and from where it would be cut. Counted by the server, with
// the tokenizer of the encoder that the prompt is connected to.
//
// Nothing is added to a node, so nothing is saved and no size changes: the line lies in the same element of the page as
// the text box, which LiteGraph and Nodes 2.0 both have.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { translate } from "./pack.js";

const ROUTE = "/kolors/tokens";
const TICK = 100; // milliseconds between two looks at the canvas
const PAUSE = 300; // milliseconds without a change before a prompt is counted
const LIMIT = 256; // tokens of a node that has no limit of its own
const SHOWN = 40; // characters of what is cut
const FARTHEST = 100; // nodes between a prompt and its encoder

const OUR_PROMPT = "KolorsPromptEncode";
const PROMPTS = new Set([OUR_PROMPT, "CLIPTextEncode"]);
const LOADERS = { KolorsChatGLM3Loader: "text_encoder_name", KolorsCheckpointLoader: "ckpt_name" };

const TEXTS = {
  en: {
    count: (tokens, limit) => `${tokens} / ${limit} tokens`,
    cut: (text) => `cut from: “${text}”`,
    missing: "Not counted: no tokenizer.model",
  },
  zh: {
    count: (tokens, limit) => `${tokens} / ${limit} 个 token`,
    cut: (text) => `从此处截断：“${text}”`,
    missing: "无法计数：缺少 tokenizer.model",
  },
};

// 1.32.9 gives all that is in a widget's element its whole size, unless it is told that this is important.
const STYLE = `
  position: absolute; right: 2px; bottom: 2px; width: auto !important; height: 14px !important;
  max-width: calc(100% - 4px); box-sizing: border-box; padding: 0 4px; border-radius: 3px; font: 10px/14px sans-serif;
  background: var(--comfy-input-bg); white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
  pointer-events: none;
`;
const COLOUR = "var(--input-text)";
const WARNING = `color-mix(in srgb, var(--error-text) 40%, ${COLOUR})`;
const ROOM = "16px"; // for the line, below the text

// ---- which prompt ---------------------------------------------------------------------------------------------------

function isLinked(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null);
}

/** Of a widget's value, undefined where it comes from another node. */
function valueOf(node, name) {
  return isLinked(node, name) ? undefined : node.widgets?.find((widget) => widget.name === name)?.value;
}

/** What the server is asked of a node; undefined where it has no text of its own, or not for this model. */
function jobOf(node) {
  const text = valueOf(node, "text");
  const limit = node.type === OUR_PROMPT ? valueOf(node, "max_tokens") : LIMIT;
  const loader = loaderOf(node);
  if (typeof text !== "string" || limit === undefined || !(loader || node.type === OUR_PROMPT)) {
    return undefined;
  }
  const name = LOADERS[loader?.type];
  return { text: written(text), max_tokens: limit, ...(name && { [name]: valueOf(loader, name) }) };
}

/** A prompt as the front end sends it: without comments, and of {a|b} one; here the longest. */
function written(text) {
  text = text.replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
  for (let before = ""; before !== text; ) {
    before = text;
    text = text.replace(/(?<!\\)((?:\\\\)*)\{((?:[^\\{}]|\\[^])*)(?:\}|$)/g, (_, slashes, choices) => {
      const options = choices.match(/(?:[^\\|]|\\[^])*(?:\||$)/g).map((option) => option.replace(/\|$/, ""));
      return slashes + options.reduce((longest, option) => (option.length > longest.length ? option : longest));
    });
  }
  return text.replace(/\\([{}|])/g, "$1");
}

// ---- which encoder --------------------------------------------------------------------------------------------------

/** The loader that a node's CLIP comes from, through LoRAs, reroutes and subgraphs; undefined where it is another's. */
function loaderOf(node) {
  let link = clipLink(node);
  let graph = node.graph;
  for (let passed = 0; link && passed < FARTHEST; passed++) {
    const origin = graph.getNodeById(link.origin_id);
    if (!origin) {
      const outer = nodeAround(graph); // the link comes from an input of the subgraph
      link = outer && linkInto(outer, link.origin_slot);
      graph = outer?.graph;
    } else if (origin.type in LOADERS) {
      return origin;
    } else if (origin.isSubgraphNode?.()) {
      graph = origin.subgraph;
      link = graph.getLink(graph.outputs[link.origin_slot]?.linkIds[0]);
    } else {
      link = clipLink(origin);
    }
  }
  return undefined;
}

function linkInto(node, slot) {
  return node.graph?.getLink(node.inputs[slot]?.link); // none for a node that has been removed
}

/** The link into a node's only input for a CLIP. */
function clipLink(node) {
  const slots = [...(node.inputs ?? []).keys()];
  const takers = slots.filter((slot) => node.inputs[slot].type === "CLIP" || node.type === "Reroute");
  return takers.length === 1 ? linkInto(node, takers[0]) : undefined;
}

function nodeAround(subgraph) {
  const root = subgraph.rootGraph;
  const graphs = [root, ...(root?.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph?.nodes ?? []).find((node) => node.subgraph === subgraph);
}

// ---- the line -------------------------------------------------------------------------------------------------------

const lines = new WeakMap(); // by node
let isBusy = false; // while the server counts
let runs = 0; // prompts that have run: one may have fetched the tokenizer

function lineOf(node) {
  if (!lines.has(node)) {
    const element = document.createElement("div");
    element.className = "kolors-tokens";
    element.style.cssText = STYLE;
    write(element, "");
    lines.set(node, { element, job: "", since: 0, counted: "", missedAt: undefined });
  }
  return lines.get(node);
}

/** The text box of a node: in LiteGraph its widget's own, in Nodes 2.0 the only one in the node's element. */
function textBoxOf(node) {
  const element = node.widgets.find((widget) => widget.name === "text").element;
  return element?.isConnected ? element : document.querySelector(`[data-node-id="${node.id}"] textarea`);
}

function place(element, box) {
  if (box && box.nextElementSibling !== element) {
    box.after(element);
    makeRoom(element);
  }
}

function show(element, { max_tokens: limit, text }, answer) {
  const texts = translate(TEXTS);
  const parts = [answer.tokens === undefined ? answer.text ?? "" : texts.count(answer.tokens, limit)];
  const isCut = typeof answer.cut === "number";
  if (isCut) {
    const rest = [...text].slice(answer.cut).join("").trim().replace(/\s+/g, " ");
    const words = [...rest];
    parts.push(texts.cut(words.slice(0, SHOWN).join("") + (words.length > SHOWN ? "…" : "")));
  }
  write(element, parts.join(" · "), isCut);
}

/** Shows a text, in a colour that warns or not; without one there is no line, and the text box has all its room. */
function write(element, text, warns = false) {
  element.textContent = text;
  element.style.display = text ? "block" : "none";
  element.classList.toggle("over", warns);
  element.style.color = warns ? WARNING : COLOUR;
  element.style.fontWeight = warns ? "bold" : "normal";
  makeRoom(element);
}

function makeRoom(element) {
  if (element.previousElementSibling) {
    element.previousElementSibling.style.paddingBottom = element.textContent ? ROOM : "";
  }
}

async function count(line) {
  const body = line.job;
  isBusy = true;
  let answer = {};
  line.missedAt = undefined;
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await api.fetchApi(ROUTE, { method: "POST", headers, body });
    if (response.ok) {
      answer = await response.json();
    } else if (response.status === 404) {
      line.missedAt = runs;
      answer = { text: translate(TEXTS).missing };
    }
  } catch {
    // The server is gone, which the front end says itself.
  }
  isBusy = false;
  line.counted = body;
  show(line.element, JSON.parse(body), answer);
}

function look() {
  for (const node of app.canvas?.graph?.nodes ?? []) {
    if (!PROMPTS.has(node.type)) {
      continue;
    }
    const line = lineOf(node);
    const job = jobOf(node);
    if (!job) {
      write(line.element, "");
      line.element.remove();
      line.job = line.counted = "";
      continue;
    }
    place(line.element, textBoxOf(node));
    const text = JSON.stringify(job);
    const now = performance.now();
    if (text !== line.job) {
      line.job = text;
      line.since = now;
    }
    const isMissed = line.missedAt !== undefined && line.missedAt !== runs;
    if ((line.counted !== text || isMissed) && !isBusy && now - line.since >= PAUSE) {
      count(line);
    }
  }
}

app.registerExtension({
  name: "kolors.tokens",
  setup() {
    api.addEventListener("execution_success", () => runs++);
    setInterval(look, TICK);
  },
});
