"""MinusZoneAI/ComfyUI-Kolors-MZ without its copy of IPAdapter_plus. Source: its node declarations."""

from __future__ import annotations

from typing import Any

from ..graph import Graph, Link, Node, Unmapped, skip_passing
from ..shapes import CONTROL
from .mapping import SDXL_SCHEDULE, OldNode, Swap, keep_sdxl_schedule, only_widget
from .wrapper import ENCODER, find_encoded

SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
MODEL_LOADERS = ("KolorsUNETLoader", "KolorsCheckpointLoader")
UNION_TYPE = "SetUnionControlNetType"
CONTROL_NET_LOADERS = ("ControlNetLoader", "MZ_KolorsControlNetLoader")
CLIP_OUTPUTS = {"KolorsChatGLM3Loader": 0, "KolorsCheckpointLoader": 1}


def replace_embeds_to_conditioning(old: Node, graph: Graph) -> None:
    """The positive prompt gets the sizes, the negative one none, as before."""
    encoded = find_encoded(old, graph)
    sizes = {name: old.get(name) for name in SIZES}
    positive = graph.add(old, "KolorsPromptEncode", clip=encoded.clip, text=encoded.prompts[0], **sizes)
    graph.replace(old, {0: positive, 1: encoded.negative})
    if len(encoded.prompts) > 1:
        graph.report.note(
            old, "only the first of the prompts separated by | is used here. Encode the others the same way."
        )


def replace_fake_cond(old: Node, graph: Graph) -> None:
    """MZ_FakeCond: zeros instead of a prompt."""
    encoders = [Link(node, CLIP_OUTPUTS[node.type]) for node in graph.nodes if node.type in CLIP_OUTPUTS]
    if not encoders:
        raise Unmapped("there is no text encoder in this graph. Connect an empty 'Kolors Prompt Encode' instead.")
    empty = graph.add(old, "KolorsPromptEncode", clip=encoders[0], text="")
    zero = graph.add(old, "ConditioningZeroOut", conditioning=empty)
    graph.stand_in(zero.node)
    graph.replace(old, {0: zero})


def remove_cuda_generator(old: Node, graph: Graph) -> None:
    graph.replace(old, {0: old.get("model")})
    graph.report.note(
        old,
        "it made ComfyUI generate all noise on the GPU, which this pack does not do. The same seed gives a different "
        "image.",
    )


def replace_legacy_loader(old: Node, graph: Graph) -> None:
    """The first version of the loader left the model on SDXL's schedule."""
    model = graph.add(old, "KolorsUNETLoader", unet_name=old.get("unet_name"), weight_dtype="default")
    graph.replace(old, {0: keep_sdxl_schedule(old, graph, model)})


def replace_control_net_patch(old: Node, graph: Graph) -> None:
    """The patch goes; the loader of its ControlNet gets the model instead."""
    given = old.get("control_net")
    if old.is_bypassed:
        graph.replace(old, {0: given})
        return
    loader, before = _trace_control_net(old, graph)
    if loader is None or loader.type not in CONTROL_NET_LOADERS:
        raise Unmapped(
            f"its ControlNet comes from {loader or 'nowhere'}. Load it with 'Load Kolors ControlNet', connect the "
            "MODEL there, and remove this node."
        )
    name = only_widget(loader, "control_net_name")
    link = graph.add(old, "KolorsControlNetLoader", control_net_name=name, model=old.get("model"))
    graph.rename(loader, "control_net_name", link.node, "control_net_name")
    if before is None:
        graph.replace(old, {0: link})
        return
    node, key = before
    node.values[key] = link
    graph.replace(old, {0: given})


def replace_bare_control_nets(graph: Graph) -> None:
    """Stock loaders that the first versions of that pack let work on Kolors without a patch."""
    models = [Link(node, 0) for node in graph.nodes if node.old and node.type in MODEL_LOADERS]
    for loader in [node for node in graph.nodes if node.type == "ControlNetLoader" and node not in graph.outputs]:
        users = graph.consumers(loader)
        users = [user for node in users for user in (graph.consumers(node) if node.type == UNION_TYPE else [node])]
        if not models or not users or not all(graph.reaches("KolorsPromptEncode", user) for user in users):
            continue
        name = only_widget(loader, "control_net_name")
        link = graph.add(loader, "KolorsControlNetLoader", control_net_name=name, model=models[0])
        graph.rename(loader, "control_net_name", link.node, "control_net_name")
        graph.replace(loader, {0: link})
        if len(models) > 1:
            graph.report.note(loader, "there are several models in the graph; connect that of its sampler.")


def _trace_control_net(old: Node, graph: Graph) -> tuple[Node | None, tuple[Node, Any] | None]:
    """The loader behind `old`, and the node between them that chooses the type of a union, with its input's key."""
    source = graph.source(old, "control_net")
    if source is None or source.type != UNION_TYPE:
        return source, None
    inputs = [(key, skip_passing(value)) for key, value in source.values.items() if isinstance(value, Link)]
    key, link = next(((key, link) for key, link in inputs if link), (None, None))
    if link is None:
        return None, None
    if graph.consumers(source) != [old]:
        raise Unmapped(
            f"{source} before it feeds other nodes too. Load the ControlNet with 'Load Kolors ControlNet', connect the "
            "MODEL there, and remove this node."
        )
    return link.node, (source, key)


PROMPT = Swap("KolorsPromptEncode", {"clip": "chatglm3_model", "text": "text"})
PROMPT_WITH_SIZES = Swap("KolorsPromptEncode", {**PROMPT.inputs, **dict(zip(SIZES, SIZES))})
UNET = Swap("KolorsUNETLoader", {"unet_name": "unet_name"}, {"weight_dtype": "default"})
CHECKPOINT = Swap("KolorsCheckpointLoader", {"ckpt_name": "ckpt_name"}, outputs={0: 0, 1: 2})
CONTROL_NET = Swap("KolorsControlNetLoader", {"control_net_name": "control_net_name"})
VISION = Swap("CLIPVisionLoader", {"clip_name": "clip_name"})
SDXL_SAMPLING = Swap("KolorsModelSampling", {"model": "model"}, {"schedule": "sdxl"}, note=SDXL_SCHEDULE)
NODES = {
    "MZ_KolorsUNETLoader": OldNode(("unet_name",), replace_legacy_loader),
    "MZ_KolorsUNETLoaderV2": OldNode(("unet_name",), UNET),
    "MZ_KolorsCheckpointLoaderSimple": OldNode(("ckpt_name",), CHECKPOINT),
    "MZ_ChatGLM3Loader": OldNode(("chatglm3_checkpoint",), ENCODER, gives="CHATGLM3MODEL"),
    "MZ_ChatGLM3": OldNode(("text",), PROMPT),
    "MZ_ChatGLM3_V2": OldNode(("text",), PROMPT),
    "MZ_ChatGLM3_Advance_V2": OldNode(("text", *SIZES), PROMPT_WITH_SIZES),
    "MZ_ChatGLM3Embeds2Conditioning": OldNode(SIZES, replace_embeds_to_conditioning),
    "MZ_FakeCond": OldNode(("seed", CONTROL, "dtype"), replace_fake_cond),
    "MZ_ApplySDXLSamplingSettings": OldNode((), SDXL_SAMPLING),
    "MZ_ApplyCUDAGenerator": OldNode((), remove_cuda_generator),
    "MZ_KolorsControlNetPatch": OldNode((), replace_control_net_patch),
    "MZ_KolorsControlNetLoader": OldNode(("control_net_name",), CONTROL_NET),
    "MZ_KolorsCLIPVisionLoader": OldNode(("clip_name",), VISION),
}
