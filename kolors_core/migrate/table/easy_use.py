"""The loader for everything and the face adapter of yolain/ComfyUI-Easy-Use.

Source: its node declarations.
"""

from __future__ import annotations

import re

from ..graph import Graph, Link, Node
from . import ipadapter
from .mapping import OldNode, keep_sdxl_schedule, note_prompt_syntax

FACE_ADAPTER = "ipa-faceid-plus.bin"
VISION_TOWER = "clip-vit-large-patch14-336.bin"
WIDGETS = (
    "unet_name",
    "vae_name",
    "chatglm3_name",
    "lora_name",
    "lora_model_strength",
    "lora_clip_strength",
    "resolution",
    "empty_latent_width",
    "empty_latent_height",
    "positive",
    "negative",
    "batch_size",
    "auto_clean_gpu",
)


def replace_kolors_loader(old: Node, graph: Graph) -> None:
    """A node for each thing that it loaded, and its pipe for the nodes of that pack."""
    model = old.get("model_override") or _add_model(old, graph)
    encoder = {"text_encoder_name": old.get("chatglm3_name"), "weight_dtype": "default"}
    clip = graph.add(old, "KolorsChatGLM3Loader", **encoder)
    graph.rename(old, "chatglm3_name", clip.node, "text_encoder_name")
    vae = old.get("vae_override") or graph.add(old, "VAELoader", vae_name=old.get("vae_name"))
    model = _add_lora(old, graph, model)
    prompts = [_add_prompt(old, graph, clip, name) for name in ("positive", "negative")]
    latent = _add_latent(old, graph)
    outputs = {1: model, 2: vae}
    if any(link.node is old and link.slot == 0 for node in graph.nodes for link in node.links):
        positive, negative = prompts
        parts = {"model": model, "pos": positive, "neg": negative, "latent": latent, "vae": vae, "clip": clip}
        outputs[0] = graph.add(old, "easy pipeIn", **parts)
        graph.report.note(old, "its pipe still goes into nodes of ComfyUI-Easy-Use, which must stay installed.")
    graph.replace(old, outputs)


def _add_model(old: Node, graph: Graph) -> Link:
    """Its own model was left on SDXL's schedule."""
    model = graph.add(old, "KolorsUNETLoader", unet_name=old.get("unet_name"), weight_dtype="default")
    return keep_sdxl_schedule(old, graph, model)


def _add_prompt(old: Node, graph: Graph, clip: Link, name: str) -> Link:
    """CONDITIONING of a prompt in that pack's own syntax, as chatglm3_adv_text_encode of its text_encode.py reads it.

    BREAK joins parts that are encoded alone; TIMESTEP:a:b lets the prompt act until a, and zeros from a to b.
    """
    text = old.get(name)
    if not isinstance(text, str):
        return graph.add(old, "KolorsPromptEncode", clip=clip, text=text)
    note_prompt_syntax(old, text, graph)
    start, end, text = read_timestep(text)
    parts = [part.strip() for part in text.split("BREAK")]
    parts = [part for part in parts if part] or [""]
    if any("|" in re.sub(r"\{[^{}]*\}", "", part) for part in parts):
        graph.report.note(
            old,
            f"its {name} prompt has a | between texts, of which each was for one image of the batch. Here it is one "
            "text for all. Encode the others with a 'Kolors Prompt Encode' of their own, and sample them alone.",
        )
    cond, *others = [graph.add(old, "KolorsPromptEncode", clip=clip, text=part) for part in parts]
    graph.rename(old, name, cond.node, "text")
    for other in others:
        cond = graph.add(old, "ConditioningConcat", conditioning_to=cond, conditioning_from=other)
    if start > 0 or end < 1:
        zeros = graph.add(old, "ConditioningZeroOut", conditioning=cond)
        ranges = [(zeros, start, end), (cond, 0.0, start)]
        first, second = [
            graph.add(old, "ConditioningSetTimestepRange", conditioning=link, start=begin, end=stop)
            for link, begin, stop in ranges
        ]
        cond = graph.add(old, "ConditioningCombine", conditioning_1=first, conditioning_2=second)
    return cond


def read_timestep(text: str) -> tuple[float, float, str]:
    """Start and end of the zeros, as parts of the run, and the prompt without its TIMESTEP; 0 and 1 without one."""
    found = re.search(r"TIMESTEP.*$", text)
    if not found:
        return 0.0, 1.0, text
    word = found.group().split(" ")[0]
    try:
        numbers = [float(value) for value in word.split(":")[1:3]] or [0.1]
    except ValueError:  # the old node failed there
        return 0.0, 1.0, text
    start, end = [*numbers, 1.0][:2]
    return start, end, text.replace(word, "")


def _add_lora(old: Node, graph: Graph, model: Link) -> Link:
    """MODEL with the LoRA, if the node has one; that pack loads it without the text encoder."""
    if isinstance(old.get("optional_lora_stack"), Link):
        graph.report.note(
            old, "the LoRA stack is not converted. Load each of its LoRAs with its own 'Load Kolors LoRA'."
        )
    if old.get("lora_name") in (None, "None"):
        return model
    strength = {"strength_model": old.get("lora_model_strength"), "strength_clip": 1.0}
    link = graph.add(old, "KolorsLoraLoader", model=model, lora_name=old.get("lora_name"), **strength)
    graph.rename(old, "lora_model_strength", link.node, "strength_model")
    return link


def _add_latent(old: Node, graph: Graph) -> Link:
    size = re.match(
        r"(\d+) x (\d+)", str(graph.typed(old, "resolution"))
    )  # otherwise the two widgets below it set the size
    width, height = map(int, size.groups()) if size else (old.get("empty_latent_width"), old.get("empty_latent_height"))
    link = graph.add(old, "EmptyLatentImage", width=width, height=height, batch_size=old.get("batch_size"))
    graph.rename(old, "empty_latent_width", link.node, "width")
    graph.rename(old, "empty_latent_height", link.node, "height")
    return link


def replace_face_apply(old: Node, graph: Graph) -> None:
    """easy ipadapterApplyFaceIDKolors, which located all its files by itself."""
    old.values["ipadapter"] = old.get("optional_ipadapter") or graph.add_beside(
        old, "KolorsIPAdapterLoader", ipadapter_name=FACE_ADAPTER
    )
    old.values["clip_vision"] = old.get("clip_vision") or graph.add_beside(
        old, "CLIPVisionLoader", clip_name=VISION_TOWER
    )
    ipadapter.replace_face_apply(old, graph)
    graph.report.note(old, "it located its files by itself; choose yours in the new loaders.")
    if old.get("use_tiled") is True:
        graph.report.note(old, "use_tiled has no counterpart: the image is seen as a whole.")


FACE_WIDGETS = ("preset", "lora_strength", "provider", "weight", "weight_faceidv2", "weight_kolors")
FACE_WIDGETS += (*ipadapter.APPLY, "cache_mode", "use_tiled", "use_batch", "sharpening")
NODES = {
    "easy kolorsLoader": OldNode(WIDGETS, replace_kolors_loader),
    "easy ipadapterApplyFaceIDKolors": OldNode(FACE_WIDGETS, replace_face_apply),
}
