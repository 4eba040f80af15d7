"""Small graphs of the older packs in API format, built from what their nodes declare."""

from __future__ import annotations

from typing import Any

CONTROL = "control_after_generate"

APPLY_SLOTS = [("model", "MODEL"), ("ipadapter", "IPADAPTER"), ("image", "IMAGE"), ("image_negative", "IMAGE")]
APPLY_SLOTS += [("attn_mask", "MASK"), ("clip_vision", "CLIP_VISION")]
APPLY_WIDGETS = ["weight_type", "combine_embeds", "start_at", "end_at", "embeds_scaling"]
SIZES = ["width", "height", "crop_w", "crop_h", "target_width", "target_height"]
SAMPLED = [("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")]

#: As their packs declare them: slots, widgets in the order of the canvas, types of the outputs.
DECLARED = {
    "DownloadAndLoadKolorsModel": ([], ["model", "precision"], ["KOLORSMODEL"]),
    "DownloadAndLoadChatGLM3": ([], ["precision"], ["CHATGLM3MODEL"]),
    "LoadChatGLM3": ([], ["chatglm3_checkpoint", "precision"], ["CHATGLM3MODEL"]),
    "LoadKolorsLoRA": ([("kolors_model", "KOLORSMODEL")], ["lora_path", "lora_alpha"], ["KOLORSMODEL"]),
    "KolorsTextEncode": (
        [("chatglm3_model", "CHATGLM3MODEL")],
        ["prompt", "negative_prompt", "num_images_per_prompt"],
        ["KOLORS_EMBEDS"],
    ),
    "KolorsSampler": (
        [("kolors_model", "KOLORSMODEL"), ("kolors_embeds", "KOLORS_EMBEDS"), ("latent", "LATENT")],
        ["width", "height", "seed", CONTROL, "steps", "cfg", "scheduler", "denoise_strength"],
        ["LATENT"],
    ),
    "MZ_KolorsUNETLoader": ([], ["unet_name"], ["MODEL", "TorchLinear"]),
    "MZ_KolorsUNETLoaderV2": ([], ["unet_name"], ["MODEL"]),
    "MZ_KolorsCheckpointLoaderSimple": ([], ["ckpt_name"], ["MODEL", "VAE"]),
    "MZ_ChatGLM3Loader": ([], ["chatglm3_checkpoint"], ["CHATGLM3MODEL"]),
    "MZ_ChatGLM3": (
        [("chatglm3_model", "CHATGLM3MODEL"), ("hid_proj", "TorchLinear")],
        ["text"],
        ["CONDITIONING"],
    ),
    "MZ_ChatGLM3_V2": ([("chatglm3_model", "CHATGLM3MODEL")], ["text"], ["CONDITIONING"]),
    "MZ_ChatGLM3_Advance_V2": ([("chatglm3_model", "CHATGLM3MODEL")], ["text", *SIZES], ["CONDITIONING"]),
    "MZ_ChatGLM3Embeds2Conditioning": (
        [("kolors_embeds", "KOLORS_EMBEDS")],
        SIZES,
        ["CONDITIONING", "CONDITIONING"],
    ),
    "MZ_FakeCond": ([], ["seed", CONTROL, "dtype"], ["CONDITIONING"]),
    "MZ_ApplySDXLSamplingSettings": ([("model", "MODEL")], [], ["MODEL"]),
    "MZ_ApplyCUDAGenerator": ([("model", "MODEL")], [], ["MODEL"]),
    "MZ_KolorsControlNetLoader": ([], ["control_net_name"], ["CONTROL_NET"]),
    "MZ_KolorsControlNetPatch": ([("control_net", "CONTROL_NET"), ("model", "MODEL")], [], ["CONTROL_NET"]),
    "MZ_KolorsCLIPVisionLoader": ([], ["clip_name"], ["CLIP_VISION"]),
    "MZ_IPAdapterModelLoaderKolors": ([], ["ipadapter_file"], ["IPADAPTER"]),
    "MZ_IPAdapterAdvancedKolors": (APPLY_SLOTS, ["weight", *APPLY_WIDGETS], ["MODEL"]),
    "MZ_IPAdapterInsightFaceLoader": ([], ["provider"], ["INSIGHTFACE"]),
    "MZ_IPAdapterFaceID": (
        [*APPLY_SLOTS, ("insightface", "INSIGHTFACE")],
        ["weight", "weight_faceidv2", *APPLY_WIDGETS],
        ["MODEL", "IMAGE"],
    ),
    "IPAdapterFaceIDKolors": (
        [*APPLY_SLOTS, ("insightface", "INSIGHTFACE")],
        ["weight", "weight_faceidv2", "weight_kolors", *APPLY_WIDGETS],
        ["MODEL", "IMAGE"],
    ),
    "IPAdapterFaceIDKolorsV2": (
        [*APPLY_SLOTS, ("insightface", "INSIGHTFACE")],
        ["weight", "weight_faceidv2", "weight_kolors", *APPLY_WIDGETS],
        ["MODEL", "IMAGE"],
    ),
    "IPAdapterModelLoader": ([], ["ipadapter_file"], ["IPADAPTER"]),
    "IPAdapterModelLoaderV2": ([], ["ipadapter_file"], ["IPADAPTER"]),
    "IPAdapterInsightFaceLoaderV2": ([], ["provider", "model_name"], ["INSIGHTFACE"]),
    "IPAdapterAdvanced": (APPLY_SLOTS, ["weight", *APPLY_WIDGETS], ["MODEL"]),
    "IPAdapterInsightFaceLoader": ([], ["provider", "model_name"], ["INSIGHTFACE"]),
    "IPAdapterUnifiedLoader": ([("model", "MODEL")], ["preset"], ["MODEL", "IPADAPTER"]),
    "easy kolorsLoader": (
        [("model_override", "MODEL"), ("vae_override", "VAE"), ("optional_lora_stack", "LORA_STACK")],
        [
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
        ],
        ["PIPE_LINE", "MODEL", "VAE"],
    ),
    "easy ipadapterApplyFaceIDKolors": (
        [
            ("model", "MODEL"),
            ("image", "IMAGE"),
            ("image_negative", "IMAGE"),
            ("attn_mask", "MASK"),
            ("clip_vision", "CLIP_VISION"),
            ("optional_ipadapter", "IPADAPTER"),
        ],
        [
            "preset",
            "lora_strength",
            "provider",
            "weight",
            "weight_faceidv2",
            "weight_kolors",
            *APPLY_WIDGETS,
            "cache_mode",
            "use_tiled",
            "use_batch",
            "sharpening",
        ],
        ["MODEL", "IMAGE", "MASK", "IPADAPTER"],
    ),
    "easy loraStack": ([], ["lora_name"], ["LORA_STACK"]),
    "easy showAnything": ([("anything", "*")], [], ["*"]),
    "easy kSampler": ([("pipe", "PIPE_LINE")], ["image_output"], ["PIPE_LINE", "IMAGE"]),
    "CLIPVisionLoader": ([], ["clip_name"], ["CLIP_VISION"]),
    "SetUnionControlNetType": ([("control_net", "CONTROL_NET")], ["type"], ["CONTROL_NET"]),
    "ControlNetLoader": ([], ["control_net_name"], ["CONTROL_NET"]),
    "ControlNetApply": (
        [("conditioning", "CONDITIONING"), ("control_net", "CONTROL_NET"), ("image", "IMAGE")],
        ["strength"],
        ["CONDITIONING"],
    ),
    "CLIPTextEncode": ([("clip", "CLIP")], ["text"], ["CONDITIONING"]),
    "UNETLoader": ([], ["unet_name", "weight_dtype"], ["MODEL"]),
    "VAELoader": ([], ["vae_name"], ["VAE"]),
    "VAEDecode": ([("samples", "LATENT"), ("vae", "VAE")], [], ["IMAGE"]),
    "VAEEncode": ([("pixels", "IMAGE"), ("vae", "VAE")], [], ["LATENT"]),
    "EmptyImage": ([], ["width", "height", "batch_size", "color"], ["IMAGE"]),
    "EmptyLatentImage": ([], ["width", "height", "batch_size"], ["LATENT"]),
    "KSampler": (
        [("model", "MODEL"), *SAMPLED],
        ["seed", CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"],
        ["LATENT"],
    ),
    "SaveLatent": ([("samples", "LATENT")], ["filename_prefix"], []),
    "SaveImage": ([("images", "IMAGE")], ["filename_prefix"], []),
    "PreviewImage": ([("images", "IMAGE")], [], []),
    "Reroute": ([("", "*")], [], ["*"]),
    "SetNode": ([("value", "*")], ["Constant"], ["*"]),
    "GetNode": ([], ["Constant"], ["*"]),
    "Anything Everywhere": ([("anything", "*")], [], []),
    "Anything Everywhere3": ([("anything", "*"), ("anything2", "*"), ("anything3", "*")], [], []),
    "Anything Everywhere?": ([("anything", "*")], ["title_regex", "input_regex", "group_regex"], []),
    "Seed Everywhere": ([], ["seed", CONTROL], ["INT"]),
    "PrimitiveNode": ([], ["value", CONTROL], ["*"]),
}
#: Of BizyAir: under its names for the types.
ON_SERVER = {
    "BizyAir_MZ_KolorsUNETLoaderV2": ([], ["unet_name"], ["BIZYAIR_MODEL"]),
    "BizyAir_MZ_KolorsControlNetLoader": ([], ["control_net_name"], ["BIZYAIR_CONTROL_NET"]),
    "BizyAir_MinusZoneChatGLM3TextEncode": ([], ["text"], ["BIZYAIR_CONDITIONING"]),
    "BizyAirMZChatGLM3TextEncode": ([], ["text"], ["CONDITIONING"]),
    "BizyAirKolorsTextEncode": ([], ["prompt", "negative_prompt", "num_images_per_prompt"], ["KOLORS_EMBEDS"]),
    "BizyAirKolorsSampler": (
        [("kolors_embeds", "KOLORS_EMBEDS"), ("latent", "LATENT")],
        ["width", "height", "seed", CONTROL, "steps", "cfg", "scheduler", "denoise_strength"],
        ["LATENT"],
    ),
    "BizyAirKolorsVAEEncode": ([("pixels", "IMAGE")], [], ["LATENT"]),
    "BizyAirKolorsVAEDecode": ([("samples", "LATENT")], [], ["IMAGE"]),
    "BizyAir_VAELoader": ([], ["vae_name"], ["BIZYAIR_VAE"]),
    "BizyAir_VAEDecode": ([("samples", "LATENT"), ("vae", "BIZYAIR_VAE")], [], ["IMAGE"]),
    "BizyAir_CLIPVisionLoader": ([], ["clip_name"], ["CLIP_VISION"]),
    "BizyAir_IPAdapterModelLoader": ([], ["ipadapter_file"], ["IPADAPTER"]),
    "BizyAir_IPAdapterAdvanced": (
        [("model", "BIZYAIR_MODEL"), *APPLY_SLOTS[1:]],
        ["weight", *APPLY_WIDGETS],
        ["BIZYAIR_MODEL"],
    ),
    "BizyAir_ControlNetApply": (
        [("conditioning", "BIZYAIR_CONDITIONING"), ("control_net", "BIZYAIR_CONTROL_NET"), ("image", "IMAGE")],
        ["strength"],
        ["BIZYAIR_CONDITIONING"],
    ),
    "BizyAir_KSampler": (
        [("model", "BIZYAIR_MODEL"), *((name, f"BIZYAIR_{kind}") for name, kind in SAMPLED[:2]), SAMPLED[2]],
        ["seed", CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"],
        ["LATENT"],
    ),
    "BizyAirRemoveBackground": ([("image", "IMAGE")], [], ["IMAGE", "MASK"]),
    "BizyAir_SuperUpscaler": ([("model", "BIZYAIR_MODEL")], [], ["BIZYAIR_MODEL"]),
}
DECLARED |= ON_SERVER
TINY = {"width": 64, "height": 64, "batch_size": 1}
APPLIED = {"weight": 0.7, "weight_type": "linear", "combine_embeds": "concat", "start_at": 0.0, "end_at": 0.9}
APPLIED |= {"embeds_scaling": "V only"}
#: Names of the files in the graphs, as users have them.
FILES = {"unet_name": "kolors-unet.safetensors", "chatglm3_checkpoint": "chatglm3-8bit.safetensors"}


class OldGraph(dict):
    """A graph in API format; `node` gives a link to the first output of a new node.

    declared: nodes that another version of their pack declares in another way.
    """

    def __init__(self, declared: dict | None = None):
        super().__init__()
        self.declared = DECLARED | (declared or {})

    def node(self, kind: str, **inputs: Any) -> list:
        slots, widgets, _ = self.declared[kind]
        assert set(inputs) <= {name for name, _ in slots} | set(widgets), (kind, set(inputs))
        self[str(len(self) + 1)] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
        return [str(len(self)), 0]

    def prompts(self, kind: str = "MZ_ChatGLM3_V2", **more: Any) -> list[list]:
        encoder = self.node("MZ_ChatGLM3Loader", chatglm3_checkpoint=FILES["chatglm3_checkpoint"])
        texts = ("一只红苹果, a red apple", "blue")
        return [self.node(kind, chatglm3_model=encoder, text=text, **more) for text in texts]

    def unet(self, kind: str = "MZ_KolorsUNETLoaderV2") -> list:
        return self.node(kind, unet_name=FILES["unet_name"])

    def sample(self, model: list, positive: list, negative: list, **changes: Any) -> list:
        return self.save(self.sampled("KSampler", model, positive, negative, **changes))

    def sampled(self, kind: str, model: list, positive: list, negative: list, **changes: Any) -> list:
        inputs = {"model": model, "positive": positive, "negative": negative, "seed": 3, CONTROL: "randomize"}
        inputs |= {"steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "ddim_uniform", "denoise": 1.0}
        inputs["latent_image"] = self.node("EmptyLatentImage", **TINY)
        return self.node(kind, **inputs | changes)

    def save(self, samples: list) -> list:
        return self.node("SaveLatent", samples=samples, filename_prefix="latents/old")

    def image(self) -> list:
        return self.node("EmptyImage", width=64, height=64, batch_size=1, color=0x4080C0)

    def apply(self, kind: str, adapter: str, **more: Any) -> list:
        """An Apply node of IPAdapter_plus or of MZ with all that it needs."""
        model = self.unet()
        loader = self.node(adapter, ipadapter_file="ip_adapter_plus_general.bin")
        vision = self.node("MZ_KolorsCLIPVisionLoader", clip_name="clip-vit-large-patch14-336.bin")
        inputs = APPLIED | {"model": model, "ipadapter": loader, "clip_vision": vision, "image": self.image()} | more
        return self.node(kind, **inputs)


def kijai(prompt: str = "a red apple", latent: bool = False, images: int = 1, **changes: Any) -> OldGraph:
    """Text to image, or from a picture, with the nodes of ComfyUI-KwaiKolorsWrapper."""
    graph = OldGraph()
    model = graph.node("DownloadAndLoadKolorsModel", model="Kwai-Kolors/Kolors", precision="fp16")
    encoder = graph.node("DownloadAndLoadChatGLM3", precision="quant8")
    texts = {"prompt": prompt, "negative_prompt": "ugly", "num_images_per_prompt": images}
    embeds = graph.node("KolorsTextEncode", chatglm3_model=encoder, **texts)
    inputs = {"width": 64, "height": 64, "seed": 7, CONTROL: "fixed", "steps": 3, "cfg": 5}
    inputs |= {"scheduler": "DPMSolverMultistepScheduler_SDE_karras"} | changes
    vae = graph.node("VAELoader", vae_name="sdxl.vae.safetensors")
    if latent:
        inputs |= {"latent": graph.node("VAEEncode", pixels=graph.image(), vae=vae), "denoise_strength": 0.7}
    samples = graph.node("KolorsSampler", kolors_model=model, kolors_embeds=embeds, **inputs)
    graph.node("SaveImage", images=graph.node("VAEDecode", samples=samples, vae=vae), filename_prefix="old")
    graph.save(samples)
    return graph


def local_encoder() -> OldGraph:
    """ComfyUI-KwaiKolorsWrapper with its loader for one file."""
    graph = kijai()
    graph["2"] = {"class_type": "LoadChatGLM3", "inputs": {"chatglm3_checkpoint": FILES["chatglm3_checkpoint"]}}
    return graph


FIRST_EMBEDS = ([("kolors_model", "KOLORSMODEL")], ["prompt", "negative_prompt"], ["KOLORS_EMBEDS"])
FIRST_SAMPLER = (DECLARED["KolorsSampler"][0][:2], ["width", "height", "seed", CONTROL, "steps", "cfg"], ["IMAGE"])


def first_day(latent: bool) -> OldGraph:
    """ComfyUI-KwaiKolorsWrapper of its first day, when one loader loaded all; of its first hours without `latent`."""
    sampler = (FIRST_SAMPLER[0], FIRST_SAMPLER[1], ["LATENT"]) if latent else FIRST_SAMPLER
    graph = OldGraph({"KolorsTextEncode": FIRST_EMBEDS, "KolorsSampler": sampler})
    model = graph.node("DownloadAndLoadKolorsModel", model="Kwai-Kolors/Kolors", precision="fp16")
    embeds = graph.node("KolorsTextEncode", kolors_model=model, prompt="a red apple", negative_prompt="blurry")
    inputs = {"width": 64, "height": 64, "seed": 7, CONTROL: "fixed", "steps": 2, "cfg": 5}
    image = graph.node("KolorsSampler", kolors_model=model, kolors_embeds=embeds, **inputs)
    if latent:
        graph.save(image)
        image = graph.node("VAEDecode", samples=image, vae=graph.node("VAELoader", vae_name="x"))
    graph.node("SaveImage", images=image, filename_prefix="old")
    return graph


def contest_lora() -> OldGraph:
    """The LoRA loader of the packages around a contest."""
    graph = kijai()
    lora = {"lora_path": "/data/epoch=0-step=500.ckpt", "lora_alpha": 2.0}
    loaded = graph.node("LoadKolorsLoRA", kolors_model=["1", 0], **lora)
    next(node for node in graph.values() if node["class_type"] == "KolorsSampler")["inputs"]["kolors_model"] = loaded
    return graph


def on_server() -> OldGraph:
    """BizyAir's nodes with a ControlNet and an image prompt, of which nothing runs on this machine."""
    graph = OldGraph()
    model = graph.node("BizyAir_MZ_KolorsUNETLoaderV2", unet_name="kolors/Kolors.safetensors")
    adapter = graph.node("BizyAir_IPAdapterModelLoader", ipadapter_file="kolors/ip_adapter_plus_general.bin")
    vision = graph.node("BizyAir_CLIPVisionLoader", clip_name="kolors/pytorch_model.bin")
    links = {"model": model, "ipadapter": adapter, "clip_vision": vision, "image": graph.image()}
    model = graph.node("BizyAir_IPAdapterAdvanced", **APPLIED | links)
    positive, negative = [graph.node("BizyAir_MinusZoneChatGLM3TextEncode", text=text) for text in ("一只红苹果", "")]
    control = graph.node("BizyAir_MZ_KolorsControlNetLoader", control_net_name="kolors/Kolors-ControlNet-Canny.x")
    links = {"conditioning": positive, "control_net": control, "image": graph.image()}
    positive = graph.node("BizyAir_ControlNetApply", **links, strength=0.7)
    vae = graph.node("BizyAir_VAELoader", vae_name="sdxl/sdxl_vae.safetensors")
    samples = graph.sampled("BizyAir_KSampler", model, positive, negative)
    graph.save(samples)
    graph.node("PreviewImage", images=graph.node("BizyAir_VAEDecode", samples=samples, vae=vae))
    return graph


def on_server_at_first(picture: bool = False) -> OldGraph:
    """BizyAir's first nodes, after those of ComfyUI-KwaiKolorsWrapper."""
    graph = OldGraph()
    embeds = graph.node(
        "BizyAirKolorsTextEncode", prompt="a red apple|bird", negative_prompt="", num_images_per_prompt=1
    )
    inputs = {"width": 64, "height": 64, "seed": 7, CONTROL: "fixed", "steps": 2, "cfg": 5}
    inputs |= {"scheduler": "EulerDiscreteScheduler", "denoise_strength": 0.75}
    inputs |= {"latent": graph.node("BizyAirKolorsVAEEncode", pixels=graph.image())} if picture else {}
    samples = graph.node("BizyAirKolorsSampler", kolors_embeds=embeds, **inputs)
    graph.save(samples)
    graph.node("PreviewImage", images=graph.node("BizyAirKolorsVAEDecode", samples=samples))
    return graph


def prompts_on_server() -> OldGraph:
    """BizyAir's text encoder for a sampler on this machine."""
    graph = OldGraph()
    texts = [graph.node("BizyAirMZChatGLM3TextEncode", text=text) for text in ("一只红苹果", "")]
    graph.sample(graph.unet(), *texts)
    return graph


def text_to_image() -> OldGraph:
    graph = OldGraph()
    graph.sample(graph.unet(), *graph.prompts())
    return graph


def legacy() -> OldGraph:
    graph = OldGraph()
    model = graph.unet("MZ_KolorsUNETLoader")
    graph.sample(model, *graph.prompts("MZ_ChatGLM3", hid_proj=[model[0], 1]))
    return graph


def checkpoint() -> OldGraph:
    graph = OldGraph()
    model = graph.node("MZ_KolorsCheckpointLoaderSimple", ckpt_name="kolors_fp16.safetensors")
    graph.sample(model, *graph.prompts())
    samples = next(key for key, node in graph.items() if node["class_type"] == "KSampler")
    graph.node("PreviewImage", images=graph.node("VAEDecode", samples=[samples, 0], vae=[model[0], 1]))
    return graph


def sizes() -> OldGraph:
    graph = OldGraph()
    size = dict(zip(SIZES, (1024, 768, 8, 16, 512, 640)))
    graph.sample(graph.unet(), *graph.prompts("MZ_ChatGLM3_Advance_V2", **size))
    return graph


def embeds() -> OldGraph:
    """Both packs together, two samplers on the same prompts."""
    graph = kijai()
    size = dict(zip(SIZES, (1024, 768, 8, 16, 512, 640)))
    positive = graph.node("MZ_ChatGLM3Embeds2Conditioning", kolors_embeds=["3", 0], **size)
    model = graph.node("MZ_ApplyCUDAGenerator", model=graph.unet())
    graph.sample(graph.node("MZ_ApplySDXLSamplingSettings", model=model), positive, [positive[0], 1])
    return graph


def fake_prompt() -> OldGraph:
    graph = OldGraph()
    positive, _ = graph.prompts()
    zeros = graph.node("MZ_FakeCond", **{"seed": 0, CONTROL: "fixed", "dtype": "fp16"})
    graph.sample(graph.unet(), positive, zeros)
    return graph


def control_net(patch: bool, loader: str = "MZ_KolorsControlNetLoader") -> OldGraph:
    graph = OldGraph()
    positive, negative = graph.prompts()
    model = graph.unet()
    control = graph.node(loader, control_net_name="Kolors-ControlNet-Depth.safetensors")
    if patch:
        control = graph.node("MZ_KolorsControlNetPatch", control_net=control, model=model)
    inputs = {"conditioning": positive, "control_net": control, "image": graph.image(), "strength": 0.7}
    graph.sample(model, graph.node("ControlNetApply", **inputs), negative)
    return graph


def picture(
    kind: str = "MZ_IPAdapterAdvancedKolors", adapter: str = "MZ_IPAdapterModelLoaderKolors", **more
) -> OldGraph:
    graph = OldGraph()
    model = graph.apply(kind, adapter, **more)
    graph.sample(model, *graph.prompts())
    return graph


def unioned() -> OldGraph:
    """A union ControlNet of SDXL, of which a node before the patch chooses the type."""
    graph = control_net(patch=True, loader="ControlNetLoader")
    patch = next(node for node in graph.values() if node["class_type"] == "MZ_KolorsControlNetPatch")
    chosen = graph.node("SetUnionControlNetType", control_net=patch["inputs"]["control_net"], type="auto")
    patch["inputs"]["control_net"] = chosen
    return graph


def easy_face() -> OldGraph:
    graph = OldGraph()
    settings = APPLIED | {
        "preset": "FACEID PLUS KOLORS",
        "lora_strength": 0.6,
        "provider": "CUDA",
        "weight_kolors": 0.8,
    }
    settings |= {"weight_faceidv2": 1.0, "cache_mode": "all", "use_tiled": False, "use_batch": False, "sharpening": 0.0}
    model = graph.node("easy ipadapterApplyFaceIDKolors", model=graph.unet(), image=graph.image(), **settings)
    graph.sample(model, *graph.prompts())
    graph.node("PreviewImage", images=[model[0], 1])
    return graph


def face(kind: str = "MZ_IPAdapterFaceID", adapter: str = "MZ_IPAdapterModelLoaderKolors", **more: Any) -> OldGraph:
    graph = OldGraph()
    if kind.startswith("MZ"):
        faces = graph.node("MZ_IPAdapterInsightFaceLoader", provider="CPU")
    else:
        loader = "IPAdapterInsightFaceLoader" + ("V2" if kind.endswith("V2") else "")
        faces = graph.node(loader, provider="CPU", model_name="antelopev2")
        more = {"weight_kolors": 1.0} | more
    model = graph.apply(kind, adapter, **({"insightface": faces, "weight_faceidv2": 1.0} | more))
    graph.sample(model, *graph.prompts())
    graph.node("PreviewImage", images=[model[0], 1])
    return graph


def easy(pipe: bool = False, **changes: Any) -> OldGraph:
    graph = OldGraph()
    inputs = {"unet_name": FILES["unet_name"], "vae_name": "sdxl.vae.safetensors"}
    inputs |= {"chatglm3_name": FILES["chatglm3_checkpoint"], "lora_name": "None", "lora_model_strength": 0.5}
    inputs |= {"lora_clip_strength": 0.25, "resolution": "width x height (custom)", "empty_latent_width": 64}
    inputs |= {"empty_latent_height": 128, "positive": "a red apple", "negative": "", "batch_size": 2}
    loader = graph.node("easy kolorsLoader", **inputs | {"auto_clean_gpu": False} | changes)
    if pipe:
        graph.node("easy kSampler", pipe=loader, image_output="Preview")
    image = graph.node("VAEDecode", samples=graph.node("EmptyLatentImage", **TINY), vae=[loader[0], 2])
    graph.node("PreviewImage", images=image)
    graph.sample([loader[0], 1], *graph.prompts())
    return graph


#: One graph at least for every node type of the table.
GRAPHS = {
    "kijai": kijai,
    "kijai, several prompts": lambda: kijai("a red apple | {big|small} blue bird | girl", images=2),
    "kijai, from a picture": lambda: kijai(latent=True),
    "kijai, several prompts from a picture": lambda: kijai("apple|bird", latent=True),
    "kijai, one file": local_encoder,
    "text to image": text_to_image,
    "legacy": legacy,
    "checkpoint": checkpoint,
    "sizes": sizes,
    "both packs": embeds,
    "fake prompt": fake_prompt,
    "ControlNet": lambda: control_net(patch=False),
    "ControlNet, patched": lambda: control_net(patch=True),
    "ControlNet of SDXL, patched": lambda: control_net(patch=True, loader="ControlNetLoader"),
    "ControlNet of SDXL, not patched": lambda: control_net(patch=False, loader="ControlNetLoader"),
    "picture": picture,
    "picture, adapter of IPAdapter_plus": lambda: picture(adapter="IPAdapterModelLoader"),
    "face": face,
    "face of IPAdapter_plus": lambda: face("IPAdapterFaceIDKolors", "IPAdapterModelLoader"),
    "face of the V2 nodes": lambda: face("IPAdapterFaceIDKolorsV2", "IPAdapterModelLoaderV2"),
    "face of EasyUse": easy_face,
    "kijai, first hours": lambda: first_day(latent=False),
    "kijai, first day": lambda: first_day(latent=True),
    "kijai, LoRA of a contest": contest_lora,
    "ControlNet, union": unioned,
    "BizyAir": on_server,
    "BizyAir, at first": on_server_at_first,
    "BizyAir, at first, from a picture": lambda: on_server_at_first(picture=True),
    "BizyAir, prompts only": prompts_on_server,
    "EasyUse": easy,
    "EasyUse, with a LoRA": lambda: easy(lora_name="style.safetensors", resolution="128 x 64"),
}
