"""Which node of the older packs becomes what, readable from top to bottom.

Sources: the node declarations of kijai/ComfyUI-KwaiKolorsWrapper, MinusZoneAI/ComfyUI-Kolors-MZ,
cubiq/ComfyUI_IPAdapter_plus and yolain/ComfyUI-Easy-Use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph, Link, Node, Texts, Unmapped
from .shapes import CONTROL


@dataclass(frozen=True)
class Old:
    """A node of an older pack: the widgets in the order of its canvas values, and what to do with it.

    convert: adds nodes to the graph and says what its outputs are now. Raises Unmapped where it cannot.
    """

    widgets: tuple[str, ...]
    convert: Callable[[Node, Graph], None]


@dataclass(frozen=True)
class Swap:
    """One node for one other: the old name of each input (all were required), values to set, and the outputs.

    These also serve a ComfyUI that replaces nodes by itself.
    """

    new: str
    inputs: dict[str, str]  # new name -> old name
    values: dict[str, Any] = field(default_factory=dict)
    outputs: dict[int, int] = field(default_factory=lambda: {0: 0})  # old -> new
    note: str = ""

    def __call__(self, old: Node, graph: Graph) -> None:
        given = {new: old.values.get(name) for new, name in self.inputs.items()}
        link = graph.add(old, self.new, **given, **self.values)
        graph.replace(old, {slot: link.output(new) for slot, new in self.outputs.items()})
        for new, name in self.inputs.items():
            graph.renamed[str(old.id), name] = (link.node, new)
        if self.note:
            graph.report.note(old, self.note)
        if "text" in given:
            check_prompt(old, given["text"], graph)


SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
ENCODER_PRECISIONS = {"fp16": "fp16", "quant8": "int8", "quant4": "int4"}
SCHEDULERS = {
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverMultistepScheduler_SDE_karras": "dpmpp_2m_sde_karras",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
}
#: IPAdapter_plus' weight types; those that have no equal become the nearest.
WEIGHT_TYPES = {
    "linear": "linear",
    "ease in": "ease in",
    "ease out": "ease out",
    "ease in-out": "ease in-out",
    "style transfer": "style",
    "composition": "composition",
    "style and composition": "style and composition",
}
NEAREST_WEIGHT_TYPES = {
    "strong style transfer": "style",
    "style transfer precise": "style",
    "composition precise": "composition",
}
ADAPTER_LOADERS = ("IPAdapterModelLoader", "MZ_IPAdapterModelLoaderKolors")
CONTROL_NET_LOADERS = ("ControlNetLoader", "MZ_KolorsControlNetLoader")


def only_widget(loader: Node, name: str) -> Any:
    """The one widget of a loader: of a node that is not in the table, the canvas knows it only by its place."""
    widgets = loader.raw.get("widgets_values")
    return loader.values.get(name, widgets[0] if isinstance(widgets, list) and widgets else None)


# ---- loaders --------------------------------------------------------------------------------------------------------


def load_kolors_model(old: Node, graph: Graph) -> None:
    name = "diffusion_pytorch_model.fp16.safetensors"
    graph.replace(old, {0: graph.add(old, "KolorsUNETLoader", unet_name=name, weight_dtype="default")})
    graph.report.note(
        old,
        f"the old node found its file by itself. Move models/diffusers/Kolors/unet/{name} into "
        "models/diffusion_models, or choose another UNet in the new loader.",
    )


def load_chatglm3(old: Node, graph: Graph) -> None:
    precision = ENCODER_PRECISIONS.get(old.values.get("precision"), "default")
    name = "pytorch_model.bin.index.json"
    link = graph.add(old, "KolorsChatGLM3Loader", text_encoder_name=name, weight_dtype=precision)
    graph.replace(old, {0: link})
    graph.report.note(
        old,
        "the old node found its files by itself. Move what is in models/diffusers/Kolors/text_encoder into "
        "models/text_encoders, or choose another ChatGLM3 in the new loader.",
    )


def load_easy_kolors(old: Node, graph: Graph) -> None:
    """EasyUse's loader for everything; its pipe goes on into nodes of that pack."""
    given = old.values.get
    model = given("model_override") or graph.add(
        old, "KolorsUNETLoader", unet_name=given("unet_name"), weight_dtype="default"
    )
    encoder = {"text_encoder_name": given("chatglm3_name"), "weight_dtype": "default"}
    clip = graph.add(old, "KolorsChatGLM3Loader", **encoder)
    vae = given("vae_override") or graph.add(old, "VAELoader", vae_name=given("vae_name"))
    if given("lora_name") not in (None, "None"):
        strength = {"strength_model": given("lora_model_strength"), "strength_clip": given("lora_clip_strength")}
        model = graph.add(old, "KolorsLoraLoader", model=model, clip=clip, lora_name=given("lora_name"), **strength)
        clip = model.output(1)
        graph.report.note(
            old, "the LoRA now changes the text encoder too, if it has such a part; strength_clip sets it."
        )
    if isinstance(given("optional_lora_stack"), Link):
        graph.report.note(old, "the LoRA stack is not connected. Put each LoRA into a 'Load Kolors LoRA' of its own.")
    prompts = [graph.add(old, "KolorsPromptEncode", clip=clip, text=given(name)) for name in ("positive", "negative")]
    for name in ("positive", "negative"):
        check_prompt(old, given(name), graph)
    size = re.match(r"(\d+) x (\d+)", str(given("resolution")))  # else the two widgets below it count
    width, height = map(int, size.groups()) if size else (given("empty_latent_width"), given("empty_latent_height"))
    latent = graph.add(old, "EmptyLatentImage", width=width, height=height, batch_size=given("batch_size"))
    outputs = {1: model, 2: vae}
    if any(link.node is old and link.slot == 0 for node in graph.nodes for link in node.links):
        positive, negative = prompts
        parts = {"model": model, "pos": positive, "neg": negative, "latent": latent, "vae": vae, "clip": clip}
        outputs[0] = graph.add(old, "easy pipeIn", **parts)
        graph.report.note(old, "its pipe still goes into nodes of ComfyUI-Easy-Use, which has to stay installed.")
    graph.replace(old, outputs)


# ---- prompts --------------------------------------------------------------------------------------------------------


def check_prompt(old: Node, text: Any, graph: Graph) -> None:
    """Note what a prompt means here and did not mean there."""
    if not isinstance(text, str):
        return
    if re.search(r"(?<!\\)[()]", text):
        graph.report.note(
            old,
            "round brackets in the prompt now weight words, as everywhere in ComfyUI; before they were read as text. "
            r"Write \( and \) to keep them as text.",
        )
    if not graph.on_canvas and re.search(r"\{[^{}]*\|[^{}]*\}", text):
        graph.report.note(
            old, "{a|b} in the prompt was a random choice on the server; here only the canvas makes it. Choose one."
        )


def split_prompts(text: Any) -> list[Any]:
    """The prompts that KolorsTextEncode makes of one text: it parts at |, but not within {a|b}."""
    if not isinstance(text, str):
        return [text]
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def encode_both(old: Node, graph: Graph) -> None:
    """KolorsTextEncode: one output for the positive and the negative prompt, several prompts parted by |."""
    others = [
        node for node in graph.consumers(old) if node.type not in ("KolorsSampler", "MZ_ChatGLM3Embeds2Conditioning")
    ]
    if others:
        raise Unmapped(
            f"its output goes into {others[0]}, and what that does with it is not known. Connect it straight to the "
            "sampler (take the nodes out of a subgraph or group first), and convert again."
        )
    given = old.values.get
    prompts = split_prompts(given("prompt", ""))
    positives = [graph.add(old, "KolorsPromptEncode", clip=given("chatglm3_model"), text=text) for text in prompts]
    negative = graph.add(old, "KolorsPromptEncode", clip=given("chatglm3_model"), text=given("negative_prompt", ""))
    for text in (given("prompt"), given("negative_prompt")):
        check_prompt(old, text, graph)
    graph.renamed[str(old.id), "prompt"] = (positives[0].node, "text")
    graph.renamed[str(old.id), "negative_prompt"] = (negative.node, "text")
    if len(prompts) > 1:
        graph.report.note(
            old, f"its {len(prompts)} prompts, parted by |, are sampled one after the other by nodes of their own."
        )
    graph.texts[old] = Texts(given("chatglm3_model"), positives, negative, prompts, given("num_images_per_prompt", 1))
    graph.replace(old, {})


def find_texts(old: Node, graph: Graph) -> Texts:
    source = graph.source(old, "kolors_embeds")
    if source not in graph.texts:
        where = f"comes from {source}, which is not converted" if source else "is not connected"
        raise Unmapped(
            f"its kolors_embeds {where}. Build the prompts with two 'Kolors Prompt Encode' and connect them to a "
            "'Kolors KSampler'."
        )
    return graph.texts[source]


def embeds_to_conditioning(old: Node, graph: Graph) -> None:
    """The positive prompt gets the sizes, the negative one none, as before."""
    texts = find_texts(old, graph)
    sizes = {name: old.values.get(name) for name in SIZES}
    positive = graph.add(old, "KolorsPromptEncode", clip=texts.clip, text=texts.prompts[0], **sizes)
    graph.replace(old, {0: positive, 1: texts.negative})
    if len(texts.prompts) > 1:
        graph.report.note(
            old, "only the first of the prompts parted by | goes on from here. Encode the others likewise."
        )


# ---- sampling -------------------------------------------------------------------------------------------------------


def sample(old: Node, graph: Graph) -> None:
    """KolorsSampler. Several prompts were one batch: here each is sampled for itself, and the latents joined."""
    texts = find_texts(old, graph)
    given = old.values.get
    settings = {
        "model": given("kolors_model"),
        "seed": given("seed"),
        "steps": given("steps"),
        "cfg": given("cfg"),
        "sampler": SCHEDULERS.get(given("scheduler"), "euler"),
        "denoise": given("denoise_strength", 1.0),
        CONTROL: given(CONTROL, "fixed"),
    }
    if given("scheduler") not in SCHEDULERS:
        graph.report.note(old, f"its scheduler {given('scheduler')!r} is not known; euler is taken.")
    images = texts.images if isinstance(texts.images, int) else 1
    count = len(texts.positives)
    if isinstance(given("latent"), Link):
        latents = [given("latent")] * count
        if images > 1:
            graph.report.note(old, f"num_images_per_prompt {images} gave the same picture {images} times; now once.")
    else:
        size = {"width": given("width"), "height": given("height"), "batch_size": images * count}
        latents = [graph.add(old, "EmptyLatentImage", **size)]
        if count > 1:
            parts = [{"batch_index": index * images, "length": images} for index in range(count)]
            latents = [graph.add(old, "LatentFromBatch", samples=latents[0], **part) for part in parts]
    samples = [
        graph.add(old, "KolorsKSampler", **settings, positive=positive, negative=texts.negative, latent_image=latent)
        for positive, latent in zip(texts.positives, latents)
    ]
    graph.stand_in(samples[0].node)
    joined = samples[0]
    for link in samples[1:]:
        joined = graph.add(old, "LatentBatch", samples1=joined, samples2=link)
    graph.replace(old, {0: joined})
    graph.report.note(
        old,
        "the old node drew its noise on the graphics card and told the model the size in its widgets; here noise comes "
        "from the CPU and the size from the latent. The same seed gives another picture of the same kind.",
    )


def pass_model_on(old: Node, graph: Graph) -> None:
    graph.replace(old, {0: old.values.get("model")})
    graph.report.note(
        old,
        "it made ComfyUI draw all noise on the graphics card, which this pack does not do. The same seed gives another "
        "picture.",
    )


def zero_conditioning(old: Node, graph: Graph) -> None:
    """MZ_FakeCond: zeros instead of a prompt."""
    loaders = [node for node in graph.nodes if node.type in ("KolorsChatGLM3Loader", "KolorsCheckpointLoader")]
    if not loaders:
        raise Unmapped("there is no text encoder in this graph. Connect an empty 'Kolors Prompt Encode' instead.")
    clip = Link(loaders[0], 0 if loaders[0].type == "KolorsChatGLM3Loader" else 1)
    empty = graph.add(old, "KolorsPromptEncode", clip=clip, text="")
    zero = graph.add(old, "ConditioningZeroOut", conditioning=empty)
    graph.stand_in(zero.node)
    graph.replace(old, {0: zero})


# ---- ControlNet -----------------------------------------------------------------------------------------------------


def patch_control_net(old: Node, graph: Graph) -> None:
    """The patch goes; the loader of its ControlNet gets the model instead."""
    loader = graph.source(old, "control_net")
    if loader is None or loader.type not in CONTROL_NET_LOADERS:
        raise Unmapped(
            f"its ControlNet comes from {loader or 'nowhere'}. Load it with 'Load Kolors ControlNet', connect the "
            "MODEL there, and remove this node."
        )
    name = only_widget(loader, "control_net_name")
    link = graph.add(old, "KolorsControlNetLoader", control_net_name=name, model=old.values.get("model"))
    graph.replace(old, {0: link})


# ---- pictures and faces as prompts ----------------------------------------------------------------------------------


def load_adapter(old: Node, graph: Graph) -> None:
    """For our Apply nodes each adapter is loaded by `kolors_adapter`; for those of IPAdapter_plus by its own loader."""
    link = graph.add(old, "IPAdapterModelLoader", ipadapter_file=old.values.get("ipadapter_file"))
    graph.replace(old, {0: link})
    if graph.consumers(old):
        graph.report.note(old, "it still feeds nodes of ComfyUI_IPAdapter_plus, which has to stay installed.")


def kolors_adapter(old: Node, graph: Graph) -> Link:
    """Our loader for the adapter that `old` is given; one for all that are given the same."""
    loader = graph.source(old, "ipadapter")
    if loader is None or loader.type not in ADAPTER_LOADERS:
        raise Unmapped(
            f"its adapter comes from {loader or 'nowhere'}, which also brings other things. Load the adapter of Kolors "
            "with 'Load Kolors IP-Adapter', and put 'Apply Kolors IP-Adapter' or 'Apply Kolors FaceID' here."
        )
    found = [node for node in graph.nodes if node.old is loader and node.type == "KolorsIPAdapterLoader"]
    if found:
        return Link(found[0], 0)
    return graph.add(loader, "KolorsIPAdapterLoader", ipadapter_name=only_widget(loader, "ipadapter_file"))


def apply_adapter(new: str) -> Callable[[Node, Graph], None]:
    """An Apply node of IPAdapter_plus, or of the copy of it in MZ, by one of ours."""

    def convert(old: Node, graph: Graph) -> None:
        given = old.values.get
        adapter = kolors_adapter(old, graph)
        face = new == "KolorsFaceIDApply"
        same = {name: given(name) for name in ("model", "clip_vision", "image", "weight", "start_at", "end_at")}
        masks = {name: given(name) for name in ("image_negative", "attn_mask")}
        wanted = given("weight_type")
        weight_type = WEIGHT_TYPES.get(wanted) or NEAREST_WEIGHT_TYPES.get(wanted, "linear")
        link = graph.add(old, new, ipadapter=adapter, **same, **masks, weight_type=weight_type)
        graph.replace(old, {0: link, 1: link.output(2)} if face else {0: link})
        note = graph.report.note
        if wanted not in WEIGHT_TYPES:
            note(
                old,
                f"there is no weight_type {wanted!r}; {weight_type!r} is the nearest. For the same picture take the "
                "nodes of ComfyUI_IPAdapter_plus, which accept the MODEL of this pack.",
            )
        if given("combine_embeds", "concat") != "concat":
            note(
                old,
                f"combine_embeds {given('combine_embeds')!r} matters for several pictures only: here all are shown.",
            )
        if given("embeds_scaling", "V only") != "V only":
            note(old, f"embeds_scaling {given('embeds_scaling')!r} is left out: the weight scales the values only.")
        for name in ("weight_faceidv2", "weight_kolors"):
            if given(name, 1) != 1:
                note(old, f"{name} {given(name)!r} has no counterpart; adjust weight instead.")
        if not isinstance(given("image_negative"), Link):
            instead = "zeros, as the reference" if face else "an even grey, as the reference"
            note(old, f"without image_negative it took a black picture; now it takes {instead}.")
        if isinstance(given("insightface"), Link):
            note(old, "the face models are loaded by the new node itself: antelopev2 in models/insightface/models.")

    return convert


def load_insightface(old: Node, graph: Graph) -> None:
    """Our node for faces loads insightface by itself; others still need it."""
    settings = {"provider": old.values.get("provider"), "model_name": "antelopev2"}
    graph.replace(old, {0: graph.add(old, "IPAdapterInsightFaceLoader", **settings)})


# ---- the table ------------------------------------------------------------------------------------------------------

PROMPT = Swap("KolorsPromptEncode", {"clip": "chatglm3_model", "text": "text"})
ENCODER = Swap("KolorsChatGLM3Loader", {"text_encoder_name": "chatglm3_checkpoint"}, {"weight_dtype": "default"})
UNET = Swap("KolorsUNETLoader", {"unet_name": "unet_name"}, {"weight_dtype": "default"})
CHECKPOINT = Swap("KolorsCheckpointLoader", {"ckpt_name": "ckpt_name"}, outputs={0: 0, 1: 2})
CONTROL_NET = Swap("KolorsControlNetLoader", {"control_net_name": "control_net_name"})
SDXL_SAMPLING = Swap(
    "KolorsModelSampling",
    {"model": "model"},
    {"schedule": "sdxl"},
    note="SDXL's schedule is kept, as this node set it. Remove it for the schedule that Kolors was trained with, "
    "unless a few-step LoRA needs SDXL's.",
)
VISION = Swap("CLIPVisionLoader", {"clip_name": "clip_name"})
APPLY = ("weight", "weight_type", "combine_embeds", "start_at", "end_at", "embeds_scaling")

#: In the order of conversion: what others ask for comes first.
TABLE = {
    # ComfyUI-KwaiKolorsWrapper
    "DownloadAndLoadKolorsModel": Old(("model", "precision"), load_kolors_model),
    "DownloadAndLoadChatGLM3": Old(("precision",), load_chatglm3),
    "LoadChatGLM3": Old(("chatglm3_checkpoint",), ENCODER),
    "KolorsTextEncode": Old(("prompt", "negative_prompt", "num_images_per_prompt"), encode_both),
    "KolorsSampler": Old(("width", "height", "seed", CONTROL, "steps", "cfg", "scheduler", "denoise_strength"), sample),
    # ComfyUI-Kolors-MZ
    "MZ_KolorsUNETLoader": Old(("unet_name",), UNET),
    "MZ_KolorsUNETLoaderV2": Old(("unet_name",), UNET),
    "MZ_KolorsCheckpointLoaderSimple": Old(("ckpt_name",), CHECKPOINT),
    "MZ_ChatGLM3Loader": Old(("chatglm3_checkpoint",), ENCODER),
    "MZ_ChatGLM3": Old(("text",), PROMPT),
    "MZ_ChatGLM3_V2": Old(("text",), PROMPT),
    "MZ_ChatGLM3_Advance_V2": Old(
        ("text", *SIZES), Swap("KolorsPromptEncode", {**PROMPT.inputs, **dict(zip(SIZES, SIZES))})
    ),
    "MZ_ChatGLM3Embeds2Conditioning": Old(SIZES, embeds_to_conditioning),
    "MZ_FakeCond": Old(("seed", CONTROL, "dtype"), zero_conditioning),
    "MZ_ApplySDXLSamplingSettings": Old((), SDXL_SAMPLING),
    "MZ_ApplyCUDAGenerator": Old((), pass_model_on),
    "MZ_KolorsControlNetPatch": Old((), patch_control_net),
    "MZ_KolorsControlNetLoader": Old(("control_net_name",), CONTROL_NET),
    "MZ_KolorsCLIPVisionLoader": Old(("clip_name",), VISION),
    # ComfyUI-Kolors-MZ's copy of IPAdapter_plus, and what Kolors needs of IPAdapter_plus itself
    "MZ_IPAdapterAdvancedKolors": Old(APPLY, apply_adapter("KolorsIPAdapterApply")),
    "MZ_IPAdapterFaceID": Old(("weight", "weight_faceidv2", *APPLY[1:]), apply_adapter("KolorsFaceIDApply")),
    "IPAdapterFaceIDKolors": Old(
        ("weight", "weight_faceidv2", "weight_kolors", *APPLY[1:]), apply_adapter("KolorsFaceIDApply")
    ),
    "MZ_IPAdapterModelLoaderKolors": Old(("ipadapter_file",), load_adapter),
    "MZ_IPAdapterInsightFaceLoader": Old(("provider",), load_insightface),
    # ComfyUI-Easy-Use
    "easy kolorsLoader": Old(
        (
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
        ),
        load_easy_kolors,
    ),
}
#: Inputs of the old nodes whose links change their type, so that reroutes in between cannot stay.
RETYPED = ("kolors_model", "chatglm3_model", "kolors_embeds", "hid_proj", "ipadapter", "insightface")
#: What goes, of the nodes that are not in the table, when its last consumer has gone.
REMOVABLE = {"Reroute", "PrimitiveNode", "ControlNetLoader", "IPAdapterModelLoader", "IPAdapterInsightFaceLoader"}
