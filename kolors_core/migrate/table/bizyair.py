"""siliconflow/BizyAir, whose nodes run those of other packs on its server. Source: its node declarations.

`as_local` gives the stock nodes of such a graph their own names; `NODES` is what belongs to Kolors.
"""

from __future__ import annotations

from typing import Any

from ..graph import Graph, Link, Node
from ..report import Report
from . import mz, wrapper
from .mapping import OldNode, note_prompt_syntax

PREFIX = "BizyAir_"
STOCK = (
    "BasicGuider", "BasicScheduler", "CFGGuider", "CLIPVisionEncode", "CLIPVisionLoader", "CheckpointLoaderSimple",
    "ConditioningAverage", "ConditioningCombine", "ConditioningConcat", "ConditioningSetArea", "ConditioningSetMask",
    "ConditioningSetTimestepRange", "ConditioningZeroOut", "ControlNetApply", "ControlNetApplyAdvanced",
    "ControlNetLoader", "DifferentialDiffusion", "InpaintModelConditioning", "KSampler", "KSamplerAdvanced",
    "KSamplerSelect", "LoraLoader", "LoraLoaderModelOnly", "RandomNoise", "SamplerCustom", "SamplerCustomAdvanced",
    "SetUnionControlNetType", "UNETLoader", "VAEDecode", "VAEEncode", "VAEEncodeForInpaint", "VAELoader",
)  # fmt: skip
#: What stands for a node of the server: a stock node, or one of the table, which goes on from there.
LOCAL = {PREFIX + kind: kind for kind in STOCK}
IN_TABLE = {
    "BizyAir_IPAdapterAdvanced": "MZ_IPAdapterAdvancedKolors",
    "BizyAir_IPAdapterModelLoader": "MZ_IPAdapterModelLoaderKolors",
}
TYPES = {f"BIZYAIR_{kind}": kind for kind in ("CLIP", "CONDITIONING", "CONTROL_NET", "MODEL", "VAE")}
TEXT_ENCODER = "chatglm3-fp16.safetensors"
VAE = "sdxl_vae.safetensors"
ON_SERVER = "its file lay on BizyAir's server. Choose yours in the new loader."


def as_local(data: Any, nodes: list[tuple[Any, str]], report: Report) -> Any:
    """A graph in either format, with the stock names of its `nodes`, given as (id, type); only where it is Kolors'."""
    if not any(kind in NODES for _, kind in nodes):
        return data
    for id, kind in nodes:
        node = f"{id}: {kind}"
        if kind in LOCAL:
            report.map(node, [LOCAL[kind]])
        elif kind.startswith(PREFIX) and kind not in NODES and kind not in IN_TABLE:
            report.leave(node, "it runs on BizyAir's server, which takes nothing from a node here. Replace it.")
        if kind in LOCAL.keys() | IN_TABLE and kind.endswith("Loader"):
            report.note(node, ON_SERVER)
    return _rename(data)


def _rename(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _rename(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rename(value) for value in data]
    return (LOCAL | IN_TABLE | TYPES).get(data, data) if isinstance(data, str) else data


# ---- what the server loaded by itself


def _shared(old: Node, graph: Graph, kind: str, **settings: Any) -> Link:
    """A loader for all nodes of the graph that need one, beside the first of them."""
    for node in graph.nodes:
        if node.type == kind and node.old is not None:
            return Link(node, 0)
    graph.report.note(old, f"the server loaded this by itself. Choose your file in the {kind} that was added.")
    return graph.add_beside(old, kind, **settings)


def _encoder(old: Node, graph: Graph) -> Link:
    return _shared(old, graph, "KolorsChatGLM3Loader", text_encoder_name=TEXT_ENCODER, weight_dtype="default")


def _unet(old: Node, graph: Graph) -> Link:
    return _shared(old, graph, "KolorsUNETLoader", unet_name=wrapper.DIFFUSERS_FILE, weight_dtype="default")


def replace_prompt(old: Node, graph: Graph) -> None:
    link = graph.add(old, "KolorsPromptEncode", clip=_encoder(old, graph), text=old.get("text"))
    graph.replace(old, {0: link})
    note_prompt_syntax(old, old.get("text"), graph)


def replace_text_encode(old: Node, graph: Graph) -> None:
    wrapper.replace_text_encode(old, graph, _encoder)


def replace_sampler(old: Node, graph: Graph) -> None:
    wrapper.replace_sampler(old, graph, _unet)


def replace_decode(old: Node, graph: Graph) -> None:
    vae = _shared(old, graph, "VAELoader", vae_name=VAE)
    graph.replace(old, {0: graph.add(old, "VAEDecode", samples=old.get("samples"), vae=vae)})


def replace_encode(old: Node, graph: Graph) -> None:
    vae = _shared(old, graph, "VAELoader", vae_name=VAE)
    graph.replace(old, {0: graph.add(old, "VAEEncode", pixels=old.get("pixels"), vae=vae)})


def replace_unet_loader(old: Node, graph: Graph) -> None:
    mz.UNET(old, graph)
    graph.report.note(old, ON_SERVER)


def replace_control_net_loader(old: Node, graph: Graph) -> None:
    mz.CONTROL_NET(old, graph)
    graph.report.note(old, ON_SERVER)


SAMPLER, TEXT_ENCODE = wrapper.NODES["KolorsSampler"], wrapper.NODES["KolorsTextEncode"]
NODES = {
    "BizyAir_MZ_KolorsUNETLoaderV2": OldNode(("unet_name",), replace_unet_loader),
    "BizyAir_MZ_KolorsControlNetLoader": OldNode(("control_net_name",), replace_control_net_loader),
    "BizyAir_MinusZoneChatGLM3TextEncode": OldNode(("text",), replace_prompt),
    "BizyAirMZChatGLM3TextEncode": OldNode(("text",), replace_prompt),
    "BizyAirKolorsTextEncode": OldNode(TEXT_ENCODE.widgets, replace_text_encode, gives="KOLORS_EMBEDS"),
    "BizyAirKolorsSampler": OldNode(SAMPLER.widgets, replace_sampler),
    "BizyAirKolorsVAEDecode": OldNode((), replace_decode),
    "BizyAirKolorsVAEEncode": OldNode((), replace_encode),
}
