"""MinusZoneAI/ComfyUI-Kolors-MZ without its copy of IPAdapter_plus. Source: its node declarations."""

from __future__ import annotations

from ..graph import Graph, Link, Node, Unmapped
from ..shapes import CONTROL
from .mapping import OldNode, Swap, only_widget
from .wrapper import ENCODER, find_encoded

SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
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


def replace_control_net_patch(old: Node, graph: Graph) -> None:
    """The patch goes; the loader of its ControlNet gets the model instead."""
    loader = graph.source(old, "control_net")
    if loader is None or loader.type not in CONTROL_NET_LOADERS:
        raise Unmapped(
            f"its ControlNet comes from {loader or 'nowhere'}. Load it with 'Load Kolors ControlNet', connect the "
            "MODEL there, and remove this node."
        )
    name = only_widget(loader, "control_net_name")
    link = graph.add(old, "KolorsControlNetLoader", control_net_name=name, model=old.get("model"))
    graph.replace(old, {0: link})


PROMPT = Swap("KolorsPromptEncode", {"clip": "chatglm3_model", "text": "text"})
PROMPT_WITH_SIZES = Swap("KolorsPromptEncode", {**PROMPT.inputs, **dict(zip(SIZES, SIZES))})
UNET = Swap("KolorsUNETLoader", {"unet_name": "unet_name"}, {"weight_dtype": "default"})
CHECKPOINT = Swap("KolorsCheckpointLoader", {"ckpt_name": "ckpt_name"}, outputs={0: 0, 1: 2})
CONTROL_NET = Swap("KolorsControlNetLoader", {"control_net_name": "control_net_name"})
VISION = Swap("CLIPVisionLoader", {"clip_name": "clip_name"})
SDXL_SAMPLING = Swap(
    "KolorsModelSampling",
    {"model": "model"},
    {"schedule": "sdxl"},
    note="SDXL's schedule is kept, as the old node set it. Remove the new node to use the schedule that Kolors was "
    "trained with, unless a few-step LoRA needs SDXL's.",
)
NODES = {
    "MZ_KolorsUNETLoader": OldNode(("unet_name",), UNET),
    "MZ_KolorsUNETLoaderV2": OldNode(("unet_name",), UNET),
    "MZ_KolorsCheckpointLoaderSimple": OldNode(("ckpt_name",), CHECKPOINT),
    "MZ_ChatGLM3Loader": OldNode(("chatglm3_checkpoint",), ENCODER),
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
