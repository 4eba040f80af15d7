"""The loader for everything in yolain/ComfyUI-Easy-Use. Source: its node declaration."""

from __future__ import annotations

import re

from ..graph import Graph, Link, Node
from .mapping import OldNode, note_prompt_syntax

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
    model = old.get("model_override") or graph.add(
        old, "KolorsUNETLoader", unet_name=old.get("unet_name"), weight_dtype="default"
    )
    encoder = {"text_encoder_name": old.get("chatglm3_name"), "weight_dtype": "default"}
    clip = graph.add(old, "KolorsChatGLM3Loader", **encoder)
    vae = old.get("vae_override") or graph.add(old, "VAELoader", vae_name=old.get("vae_name"))
    model, clip = _add_lora(old, graph, model, clip)
    prompts = [graph.add(old, "KolorsPromptEncode", clip=clip, text=old.get(name)) for name in ("positive", "negative")]
    for name in ("positive", "negative"):
        note_prompt_syntax(old, old.get(name), graph)
    latent = _add_latent(old, graph)
    outputs = {1: model, 2: vae}
    if any(link.node is old and link.slot == 0 for node in graph.nodes for link in node.links):
        positive, negative = prompts
        parts = {"model": model, "pos": positive, "neg": negative, "latent": latent, "vae": vae, "clip": clip}
        outputs[0] = graph.add(old, "easy pipeIn", **parts)
        graph.report.note(old, "its pipe still goes into nodes of ComfyUI-Easy-Use, which must stay installed.")
    graph.replace(old, outputs)


def _add_lora(old: Node, graph: Graph, model: Link, clip: Link) -> tuple[Link, Link]:
    """MODEL and CLIP with the LoRA, if the node has one."""
    if old.get("lora_name") not in (None, "None"):
        strength = {
            "strength_model": old.get("lora_model_strength"),
            "strength_clip": old.get("lora_clip_strength"),
        }
        model = graph.add(old, "KolorsLoraLoader", model=model, clip=clip, lora_name=old.get("lora_name"), **strength)
        clip = model.output(1)
        graph.report.note(
            old, "the LoRA now changes the text encoder too, if it has weights for it; strength_clip sets how much."
        )
    if isinstance(old.get("optional_lora_stack"), Link):
        graph.report.note(
            old, "the LoRA stack is not converted. Load each of its LoRAs with its own 'Load Kolors LoRA'."
        )
    return model, clip


def _add_latent(old: Node, graph: Graph) -> Link:
    size = re.match(r"(\d+) x (\d+)", str(old.get("resolution")))  # otherwise the two widgets below it set the size
    width, height = map(int, size.groups()) if size else (old.get("empty_latent_width"), old.get("empty_latent_height"))
    return graph.add(old, "EmptyLatentImage", width=width, height=height, batch_size=old.get("batch_size"))


NODES = {"easy kolorsLoader": OldNode(WIDGETS, replace_kolors_loader)}
