"""Mixed prompts on one server, one after another, and what its process holds meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

import numpy
import torch
import vision_tower
from client import ENCODER, UNET, Client, Graph, KolorsGraph, Link, PromptError, messages
from comfyui_kolors.demo.random_models import (
    TINY,
    random_chatglm3,
    random_control_net,
    random_face_adapter,
    random_ip_adapter,
    random_unet,
)
from control_nets import random_control_lora
from image_prompts import nested
from loras import random_pairs, written
from safetensors.torch import load_file, save_file

WATCH_EVERY = 10  # prompts
OTHER, INPAINTING, CONTROL, SDXL, CONTROL_LORA = (
    f"soak-{name}.safetensors" for name in ("other", "inpainting", "control", "sdxl", "control-lora")
)
PLUS, LORA, CHECKPOINT, PROMPT = (f"soak-{name}.safetensors" for name in ("plus", "lora", "checkpoint", "prompt"))
FACE, DAMAGED = "soak-face.bin", "soak-damaged.safetensors"


class SoakGraph(KolorsGraph):
    """The plain graph; a kind of prompt changes a part of it and gives what is saved."""

    def hint(self) -> Link:
        return self.add("EmptyImage", width=64, height=64, batch_size=1, color=0xC08040)

    def control(self, name: str, model: Link | None = None) -> tuple[Link, Link]:
        given = {"control_net_name": name} | ({"model": model} if model else {})
        control_net = self.add("KolorsControlNetLoader", **given)
        prompts = {"positive": self.encode(), "negative": self.encode("")}
        settings = {"strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}
        applied = self.add("ControlNetApplyAdvanced", control_net=control_net, image=self.hint(), **prompts, **settings)
        return applied, applied.output(1)

    def adapted(self, node: str, adapter: str, **changes) -> Link:
        inputs = {"model": self.model, "ipadapter": self.add("KolorsIPAdapterLoader", ipadapter_name=adapter)}
        inputs |= {"clip_vision": self.add("KolorsTestTower"), "image": self.hint()}
        return self.add(node, **inputs, weight=0.8, start_at=0.0, end_at=0.9, **changes)

    def encoder(self, weight_dtype: str) -> Link:
        return self.add("KolorsChatGLM3Loader", text_encoder_name=ENCODER, weight_dtype=weight_dtype)


# ---- kinds of prompts -----------------------------------------------------------------------------------------------


def text(graph, seed):
    return graph.sample(graph.add("KolorsPromptEncode", clip=graph.clip, text=f"一只红苹果 {seed}"), seed=seed)


def clip_text_encode(graph, seed):
    return graph.sample(graph.encode(f"(a red apple:1.2) {seed}"), seed=seed)


def reference_sampler(graph, seed):
    settings = {"steps": 3, "cfg": 5.0, "sampler": "dpmpp_2m_sde_karras", "denoise": 1.0}
    prompts = {"positive": graph.encode(), "negative": graph.encode("")}
    return graph.add(
        "KolorsKSampler", model=graph.model, seed=seed, latent_image=graph.empty_latent(), **prompts, **settings
    )


def sigmas(graph, seed):
    scheduler = {"scheduler": "dpmpp_2m_karras", "steps": 3, "denoise": 1.0}
    return graph.add(
        "SamplerCustom", model=graph.model, add_noise=True, noise_seed=seed, cfg=5.0, positive=graph.encode(),
        negative=graph.encode(""), sampler=graph.add("KSamplerSelect", sampler_name="dpmpp_2m"),
        sigmas=graph.add("KolorsScheduler", model=graph.model, **scheduler), latent_image=graph.empty_latent(),
    )  # fmt: skip


def sdxl_schedule(graph, seed):
    return graph.sample(model=graph.add("KolorsModelSampling", model=graph.model, schedule="sdxl"), seed=seed)


def ip_adapter(graph, seed):
    mask = graph.add("SolidMask", value=0.5, width=64, height=64)
    return graph.sample(model=graph.adapted("KolorsIPAdapterApply", PLUS, attn_mask=mask), seed=seed)


def face_id(graph, seed):
    face = graph.add("KolorsTestFace", seed=1, width=512)
    return graph.sample(model=graph.adapted("KolorsFaceIDApply", FACE, face_embedding=face), seed=seed)


def control_net(graph, seed):
    return graph.sample(*graph.control(CONTROL), seed=seed)


def sdxl_control_net(graph, seed):
    return graph.sample(*graph.control(SDXL, graph.model), seed=seed)


def control_lora(graph, seed):
    return graph.sample(*graph.control(CONTROL_LORA), seed=seed)


def lora(graph, seed):
    settings = {"lora_name": LORA, "strength_model": 0.8, "strength_clip": 1.0}
    return graph.sample(model=graph.add("KolorsLoraLoader", model=graph.model, **settings), seed=seed)


def inpainting(graph, seed):
    model = graph.add("KolorsUNETLoader", unet_name=INPAINTING, weight_dtype="default")
    mask = graph.add("SolidMask", value=1.0, width=64, height=64)
    prompts = {"positive": graph.encode(), "negative": graph.encode("")}
    given = graph.add(
        "InpaintModelConditioning", vae=graph.vae, pixels=graph.hint(), mask=mask, noise_mask=True, **prompts
    )
    return graph.sample(given, given.output(1), given.output(2), model=model, seed=seed)


def image_to_image(graph, seed):
    latent = graph.add("VAEEncode", pixels=graph.hint(), vae=graph.vae)
    return graph.sample(latent=latent, denoise=0.6, steps=4, seed=seed)


def checkpoint(graph, seed, loader="KolorsCheckpointLoader"):
    loaded = graph.add(loader, ckpt_name=CHECKPOINT)
    positive = graph.add("KolorsPromptEncode", clip=loaded.output(1), text="a boat")
    return graph.sample(positive, model=loaded, seed=seed)


def stock_checkpoint(graph, seed):
    return checkpoint(graph, seed, "CheckpointLoaderSimple")


def merged(graph, seed):
    other = graph.add("KolorsUNETLoader", unet_name=OTHER, weight_dtype="default")
    return graph.sample(model=graph.add("ModelMergeSimple", model1=graph.model, model2=other, ratio=0.5), seed=seed)


def int4_encoder(graph, seed):
    graph.clip = graph.encoder("int4")
    return graph.sample(seed=seed)


def int8_encoder(graph, seed):
    graph.clip = graph.encoder("int8")
    return graph.sample(seed=seed)


def fp8_unet(graph, seed):
    model = graph.add("KolorsUNETLoader", unet_name=UNET, weight_dtype="fp8_e4m3fn")
    return graph.sample(model=model, seed=seed)


def saved_prompt(graph, seed):
    return graph.sample(graph.add("KolorsConditioningLoad", conditioning_name=PROMPT), seed=seed)


def batch(graph, seed):
    return graph.sample(latent=graph.empty_latent(64, 96, 3), seed=seed)


def damaged_file(graph, seed):
    return graph.sample(model=graph.add("KolorsUNETLoader", unet_name=DAMAGED, weight_dtype="default"), seed=seed)


def wrong_width(graph, seed):
    return graph.sample(graph.add("KolorsTestWidths", width=2048, pooled_width=1280), seed=seed)


def interrupted(graph, seed):
    return graph.sample(model=graph.add("KolorsTestPostDuring", value=graph.model, path="/interrupt"), seed=seed)


KINDS: tuple[Callable[[SoakGraph, int], Link], ...] = (
    text, clip_text_encode, reference_sampler, sigmas, sdxl_schedule, ip_adapter, face_id, control_net,
    sdxl_control_net, control_lora, lora, inpainting, image_to_image, checkpoint, stock_checkpoint, merged,
    int4_encoder, int8_encoder, fp8_unet, saved_prompt, batch, damaged_file, wrong_width, interrupted,
)  # fmt: skip
FAILING = {damaged_file: "damaged safetensors", wrong_width: "needs text embeddings", interrupted: "interrupted"}


def write_files(server: Client) -> None:
    """What the kinds of prompts read."""
    from comfyui_kolors.kolors_core.host.control_net import to_sd_names

    models = server.base / "models"
    for folder in ("controlnet", "ipadapter", "loras", "checkpoints"):
        (models / folder).mkdir(exist_ok=True)
    save_file(random_unet(TINY, seed=1).state_dict(), models / "diffusion_models" / OTHER)
    save_file(random_unet(TINY, in_channels=9).state_dict(), models / "diffusion_models" / INPAINTING)
    whole = (models / "diffusion_models" / OTHER).read_bytes()
    (models / "diffusion_models" / DAMAGED).write_bytes(whole[: len(whole) // 2])
    save_file(random_control_net(TINY).state_dict(), models / "controlnet" / CONTROL)
    sdxl = random_control_net(TINY, label_width=2816).state_dict()
    save_file(sdxl, models / "controlnet" / SDXL)
    save_file(random_control_lora(to_sd_names(dict(sdxl))), models / "controlnet" / CONTROL_LORA)
    save_file(random_ip_adapter(TINY, vision_tower.SMALL_WIDTH), models / "ipadapter" / PLUS)
    torch.save(nested(random_face_adapter(TINY, vision_tower.SMALL_WIDTH)), models / "ipadapter" / FACE)
    pairs = random_pairs(random_unet(TINY))
    save_file(written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight"), models / "loras" / LORA)
    tokenizer = load_file(models / "text_encoders" / ENCODER)["spiece_model"]
    encoder = random_chatglm3(TINY, 480, seed=1) | {"spiece_model": tokenizer}
    save_file(encoder, models / "text_encoders" / OTHER)
    graph = KolorsGraph(encoder=OTHER)
    links = {"model": graph.model, "clip": graph.clip, "vae": graph.vae}
    graph.add("CheckpointSave", filename_prefix="soak/checkpoint", **links)
    prompt = graph.encode("a boat on a lake")
    graph.add("KolorsConditioningSave", conditioning=prompt, filename_prefix="soak/prompt", precision="fp32")
    server.run(graph)
    (server.base / "input").mkdir(exist_ok=True)
    for prefix, target in (
        ("checkpoint", models / "checkpoints" / CHECKPOINT),
        ("prompt", server.base / "input" / PROMPT),
    ):
        (saved,) = (server.base / "output" / "soak").glob(f"{prefix}*")
        saved.replace(target)


# ---- the run --------------------------------------------------------------------------------------------------------


def draw(server: Client, kind: Callable, seed: int) -> str:
    """Run one prompt to its picture and its latent; a digest of the latent's bytes, or how it failed."""
    graph = SoakGraph()
    samples = kind(graph, seed)
    latent = server.save_latent(graph, samples)
    images = graph.add("VAEDecode", samples=samples, vae=graph.vae)
    graph.add("PreviewImage", images=images)
    try:
        entry = server.run(graph)
    except PromptError as error:
        return str(error)
    if "execution_interrupted" in messages(entry):
        return "interrupted"
    return hashlib.sha256(server.read_latent(entry, latent).numpy().tobytes()).hexdigest()


def watch(server: Client) -> dict[str, int]:
    """What the process holds, without the host's own history of all prompts."""
    server.request("/history", {"clear": True})
    graph = Graph()
    node = graph.add("KolorsTestWatch")
    return server.run(graph)["outputs"][node[0]]["figures"][0]


def soak(server: Client, count: int, seed: int = 0) -> dict:
    """The figures of `count` prompts at least: the first round and the last are the same, those between differ."""
    random = Random(seed)
    rounds = max(3, -(-count // len(KINDS)))
    done, seen, digests = 0, [], []
    for number in range(rounds):
        same = number in (0, rounds - 1)
        order = list(KINDS)
        random.shuffle(order)
        found = {}
        for kind in order:
            found[kind] = draw(server, kind, 1 if same else 100 + number)
            done += 1
            if number and done % WATCH_EVERY == 0:
                seen.append((done, watch(server)))
        digests.append(found)
        if number == 0 or number == rounds - 1:
            seen.append((done, watch(server)))
        if number == rounds - 2:
            server.free()
    return summarize(done, seen, digests)


def summarize(done: int, seen: list[tuple[int, dict[str, int]]], digests: list[dict[Callable, str]]) -> dict:
    """The figures of the report; memory is fitted by a line from the end of the second round on."""
    first, last = seen[0][1], seen[-1][1]
    warm = [(prompts, figures["memory"]) for prompts, figures in seen if prompts >= 2 * len(KINDS)]
    slope = numpy.polyfit(*zip(*warm), 1)[0] if len(warm) > 2 else 0.0
    different = [kind.__name__ for kind in KINDS if digests[0][kind] != digests[-1][kind]]
    unexpected = [
        f"{kind.__name__}: {found[kind]}"
        for found in digests
        for kind in KINDS
        if FAILING.get(kind, "") not in found[kind] or (kind not in FAILING and len(found[kind]) != 64)
    ]
    figures = {"prompts": done, "kinds of prompts": len(KINDS), "unexpected ends": unexpected}
    figures["kinds with other bytes at the end"] = different
    figures["memory after the first round, MiB"] = first["memory"] >> 20
    figures["memory at the end, MiB"] = last["memory"] >> 20
    figures["memory per 100 prompts after two rounds, MiB"] = round(float(slope) * 100 / (1 << 20), 2)
    for name in ("files", "threads", "patchers", "modules", "loaded"):
        figures[f"{name} after the first round"], figures[f"{name} at the end"] = first[name], last[name]
        figures[f"{name} at most"] = max(found[name] for _, found in seen)
    return figures


def faults(figures: dict, memory: float) -> list[str]:
    """What is wrong with the figures of a run; `memory` is what may be added per 100 prompts, in MiB."""
    found = [*figures["unexpected ends"]]
    found += [f"{kind} gave other bytes at the end" for kind in figures["kinds with other bytes at the end"]]
    for name, more in (("files", 2), ("threads", 2), ("patchers", 0), ("modules", 0), ("loaded", 0)):
        before, after = figures[f"{name} after the first round"], figures[f"{name} at the end"]
        if after > before + more:
            found.append(f"{name} grew from {before} to {after}")
    if figures["memory per 100 prompts after two rounds, MiB"] > memory:
        found.append(f"memory grows by {figures['memory per 100 prompts after two rounds, MiB']} MiB per 100 prompts")
    return found
