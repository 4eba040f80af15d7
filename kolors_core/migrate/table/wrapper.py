"""kijai/ComfyUI-KwaiKolorsWrapper. Source: its node declarations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..graph import EncodedPrompts, Graph, Link, Node, Unmapped
from ..shapes import CONTROL
from .mapping import OldNode, Swap, note_prompt_syntax

ENCODER_PRECISIONS = {"fp16": "fp16", "quant8": "int8", "quant4": "int4"}
SCHEDULERS = {
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverMultistepScheduler_SDE_karras": "dpmpp_2m_sde_karras",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
}
IMAGE_INPUTS = ("image", "images", "pixels")
LORA_RANK = 16
FOLDER = "diffusers/Kolors"  # where that pack downloads, below models/; the new loaders read it there
DIFFUSERS_FILE = "diffusion_pytorch_model.fp16.safetensors"  # the name of the UNet, and of the VAE
#: What reads the prompts that KolorsTextEncode makes.
READERS = ("KolorsSampler", "BizyAirKolorsSampler", "MZ_ChatGLM3Embeds2Conditioning")

Finder = Callable[[Node, Graph], Link | None]

# ---- loaders


def replace_model_loader(old: Node, graph: Graph) -> None:
    name = f"{FOLDER}/unet/{DIFFUSERS_FILE}"
    graph.replace(old, {0: graph.add(old, "KolorsUNETLoader", unet_name=name, weight_dtype="default")})
    _note_place(old, graph, name)


def _note_place(old: Node, graph: Graph, name: str) -> None:
    graph.report.note(
        old,
        f"the old node located its files by itself. The new loader reads models/{name}, where that node put it; if "
        "yours is elsewhere, choose it there.",
    )


def replace_encoder_loader(old: Node, graph: Graph) -> None:
    precision = ENCODER_PRECISIONS.get(graph.typed(old, "precision"), "default")
    graph.replace(old, {0: _add_encoder(old, graph, precision)})


def _add_encoder(old: Node, graph: Graph, precision: str) -> Link:
    name = f"{FOLDER}/text_encoder/pytorch_model.bin.index.json"
    _note_place(old, graph, name)
    return graph.add(old, "KolorsChatGLM3Loader", text_encoder_name=name, weight_dtype=precision)


def _encoder_of(old: Node, graph: Graph) -> Link | None:
    """The CLIP for KolorsTextEncode; in its first days the loader of the model loaded the text encoder as well."""
    loader = graph.source(old, "kolors_model")
    if isinstance(old.get("chatglm3_model"), Link) or loader is None:
        return old.get("chatglm3_model")
    owner = loader if loader in graph.nodes else old
    added = [node for node in graph.added.get(owner, ()) if node.type == "KolorsChatGLM3Loader"]
    return Link(added[0], 0) if added else _add_encoder(owner, graph, "default")


def replace_lora_loader(old: Node, graph: Graph) -> None:
    """LoadKolorsLoRA, of the packages around a contest of ModelScope: scaled by lora_alpha / rank of the file."""
    path, alpha = old.get("lora_path"), old.get("lora_alpha")
    name = re.split(r"[/\\]", path)[-1] if isinstance(path, str) else path
    strength = alpha / LORA_RANK if type(alpha) in (int, float) else None
    settings = {"lora_name": name, "strength_model": strength, "strength_clip": 1.0}
    link = graph.add(old, "KolorsLoraLoader", model=old.get("kolors_model"), **settings)
    graph.rename(old, "lora_path", link.node, "lora_name")
    graph.replace(old, {0: link})
    graph.report.note(
        old,
        f"it took its file from {path!r}. Copy that into models/loras. Its strength was lora_alpha / rank, for which "
        f"strength_model is {alpha} / {LORA_RANK}: that contest's script trains rank {LORA_RANK}. Divide by another "
        "rank if your file has one.",
    )


# ---- prompts


def is_namesake(node: Node) -> bool:
    """Whether this KolorsTextEncode is of another package, from a text to CONDITIONING."""
    return "text" in node.values or [slot.get("type") for slot in node.slots("outputs")] == ["CONDITIONING"]


def replace_text_encode(old: Node, graph: Graph, find_clip: Finder = _encoder_of) -> None:
    """KolorsTextEncode: one output for the positive and the negative prompt, several prompts separated by |."""
    if is_namesake(old):
        raise Unmapped(
            "it belongs to another package, which gave it this name. Use 'Kolors Prompt Encode' in its place."
        )
    others = [node for node in graph.consumers(old) if node.type not in READERS]
    if others:
        raise Unmapped(
            f"its output goes into {others[0]}, and it is not known what that node does with it. Connect it directly "
            "to the sampler (take the nodes out of a subgraph or group first), and convert again."
        )
    clip = find_clip(old, graph)
    prompts = split_prompts(old.get("prompt"))
    positives = [graph.add(old, "KolorsPromptEncode", clip=clip, text=text) for text in prompts]
    negative = graph.add(old, "KolorsPromptEncode", clip=clip, text=old.get("negative_prompt"))
    for name in ("prompt", "negative_prompt"):
        note_prompt_syntax(old, old.get(name), graph)
    graph.rename(old, "prompt", positives[0].node, "text")
    graph.rename(old, "negative_prompt", negative.node, "text")
    if len(prompts) > 1:
        graph.report.note(
            old,
            f"its {len(prompts)} prompts, separated by |, are now sampled one after another, each by its own nodes.",
        )
    images = graph.typed(old, "num_images_per_prompt", 1)
    graph.encoded[old] = EncodedPrompts(clip, prompts, positives, negative, images)
    graph.replace(old, {})


def split_prompts(text: Any) -> list[Any]:
    """The prompts that KolorsTextEncode makes of one text: it splits at |, but not within {a|b}."""
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


def find_encoded(old: Node, graph: Graph) -> EncodedPrompts:
    """The prompts behind `kolors_embeds`. Raises Unmapped where there are none."""
    source = graph.source(old, "kolors_embeds")
    if source in graph.encoded:
        return graph.encoded[source]
    where = f"comes from {source}, which is not converted" if source else "is not connected"
    raise Unmapped(
        f"its kolors_embeds {where}. Build the prompts with two 'Kolors Prompt Encode' and connect them to a "
        "'Kolors KSampler'."
    )


# ---- sampling


def _model_of(old: Node, graph: Graph) -> Link | None:
    return old.get("kolors_model")


def replace_sampler(old: Node, graph: Graph, find_model: Finder = _model_of) -> None:
    """KolorsSampler. Several prompts were one batch: here each is sampled on its own, and the latents are joined."""
    encoded = find_encoded(old, graph)
    scheduler = graph.typed(old, "scheduler", "EulerDiscreteScheduler")
    settings = {
        "model": find_model(old, graph),
        "seed": old.get("seed"),
        "steps": old.get("steps"),
        "cfg": old.get("cfg"),
        "sampler": SCHEDULERS.get(scheduler, "euler"),
        "denoise": old.get("denoise_strength", 1.0),
        CONTROL: old.get(CONTROL, "fixed"),
    }
    if scheduler not in SCHEDULERS:
        graph.report.note(old, f"its scheduler {scheduler!r} is unknown; euler is used instead.")
    samples = [
        graph.add(old, "KolorsKSampler", **settings, positive=positive, negative=encoded.negative, latent_image=latent)
        for positive, latent in zip(encoded.positives, _add_latents(old, graph, encoded))
    ]
    graph.stand_in(samples[0].node)
    graph.rename(old, "scheduler", samples[0].node, "sampler")
    graph.rename(old, "denoise_strength", samples[0].node, "denoise")
    joined = samples[0]
    for link in samples[1:]:
        joined = graph.add(old, "LatentBatch", samples1=joined, samples2=link)
    graph.replace(old, {0: _decode(old, graph, joined) if _gave_image(old, graph) else joined})
    graph.report.note(
        old,
        "the old node generated its noise on the GPU and told the model the size in its widgets; here the noise comes "
        "from the CPU and the size from the latent. The same seed gives a different image of the same kind.",
    )


def _gave_image(old: Node, graph: Graph) -> bool:
    """Whether it is of the very first version, which decoded its latent: an API graph shows it by what it goes into."""
    if graph.on_canvas:
        return [slot.get("type") for slot in old.slots("outputs")[:1]] == ["IMAGE"]
    into = [(name, value) for node in graph.nodes for name, value in node.values.items() if isinstance(value, Link)]
    return any(link.node is old and name in IMAGE_INPUTS for name, link in into)


def _decode(old: Node, graph: Graph, samples: Link) -> Link:
    vae = graph.add(old, "VAELoader", vae_name=DIFFUSERS_FILE)
    graph.report.note(
        old,
        f"it gave an image; that is decoded by a node of its own now. Choose SDXL's VAE there, or connect the VAE of a "
        f"'Load Kolors Checkpoint' with {FOLDER}, which loads all of that folder.",
    )
    return graph.add(old, "VAEDecode", samples=samples, vae=vae)


def _add_latents(old: Node, graph: Graph, encoded: EncodedPrompts) -> list[Link]:
    """The latent for each prompt: that of the old node, or a part of an empty batch for all of them."""
    images = encoded.images if isinstance(encoded.images, int) else 1
    count = len(encoded.positives)
    if isinstance(old.get("latent"), Link):
        if images > 1:
            graph.report.note(
                old, f"num_images_per_prompt {images} made the same image {images} times; now it is made once."
            )
        return [old.get("latent")] * count
    if old.get("denoise_strength", 1.0) != 1.0:
        graph.report.note(
            old,
            "its denoise_strength is not 1, but no latent is connected: the old node drew from too much noise there.",
        )
    size = {"width": old.get("width"), "height": old.get("height"), "batch_size": images * count}
    batch = graph.add(old, "EmptyLatentImage", **size)
    if count == 1:
        return [batch]
    parts = [{"batch_index": index * images, "length": images} for index in range(count)]
    return [graph.add(old, "LatentFromBatch", samples=batch, **part) for part in parts]


class EncoderSwap(Swap):
    """The first version of LoadChatGLM3 had a precision."""

    def __call__(self, old: Node, graph: Graph) -> None:
        precision = ENCODER_PRECISIONS.get(graph.typed(old, "precision"), "default")
        Swap(self.new, self.inputs, {"weight_dtype": precision})(old, graph)


ENCODER = EncoderSwap("KolorsChatGLM3Loader", {"text_encoder_name": "chatglm3_checkpoint"}, {"weight_dtype": "default"})
NODES = {
    "DownloadAndLoadKolorsModel": OldNode(("model", "precision"), replace_model_loader, gives="KOLORSMODEL"),
    "DownloadAndLoadChatGLM3": OldNode(("precision",), replace_encoder_loader, gives="CHATGLM3MODEL"),
    "LoadChatGLM3": OldNode(("chatglm3_checkpoint", "precision"), ENCODER, gives="CHATGLM3MODEL"),
    "LoadKolorsLoRA": OldNode(("lora_path", "lora_alpha"), replace_lora_loader, gives="KOLORSMODEL"),
    "KolorsTextEncode": OldNode(
        ("prompt", "negative_prompt", "num_images_per_prompt"), replace_text_encode, gives="KOLORS_EMBEDS"
    ),
    "KolorsSampler": OldNode(
        ("width", "height", "seed", CONTROL, "steps", "cfg", "scheduler", "denoise_strength"), replace_sampler
    ),
}
