"""What the nodes look like that a converted graph is made of: slots, widgets, outputs, and room on the canvas.

A canvas file holds a node's values by position and its slots by type, so writing one takes what ComfyUI knows only
while it runs. tests/server/test_migration.py compares this table with what a running ComfyUI says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONTROL = "control_after_generate"  # the value that the front end stores behind a seed


@dataclass(frozen=True)
class Input:
    """One input. Without a `default` it is a slot; with one, a widget, which a link may replace."""

    name: str
    type: str
    optional: bool = False
    default: Any = None
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    control: bool = False  # a CONTROL value follows on the canvas

    @property
    def is_widget(self) -> bool:
        return self.default is not None

    def fit(self, value: Any) -> Any:
        """`value` as this widget can hold it; the default where it is of another kind."""
        if self.type in ("INT", "FLOAT"):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return self.default
            low, high = self.limits
            value = min(max(value, low), high)
            return int(value) if self.type == "INT" else value
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            return self.default
        return value


@dataclass(frozen=True)
class Shape:
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]  # (name, type)
    size: tuple[int, int]  # the least that it needs, in canvas pixels
    pack: str = "comfyui-kolors"

    def input(self, name: str) -> Input:
        return next(one for one in self.inputs if one.name == name)


def slot(name: str, kind: str, optional: bool = False) -> Input:
    return Input(name, kind, optional)


def file(name: str) -> Input:
    return Input(name, "COMBO", default="")


def choice(name: str, *choices: str, optional: bool = False) -> Input:
    return Input(name, "COMBO", optional, choices[0], choices=choices)


def integer(name: str, default: int, low: int, high: int, **more: bool) -> Input:
    return Input(name, "INT", default=default, limits=(low, high), **more)


def number(name: str, default: float, low: float, high: float) -> Input:
    return Input(name, "FLOAT", default=default, limits=(low, high))


def pixels(name: str) -> Input:
    return integer(name, 0, 0, 16384, optional=True)


DTYPES = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2")
SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde_karras", "unipc", "deis")
WEIGHT_TYPES = ("linear", "ease in", "ease out", "ease in-out", "style", "composition", "style and composition")
SEED = integer("seed", 0, 0, 2**64 - 1, control=True)
IP_ADAPTER = (
    slot("model", "MODEL"),
    slot("ipadapter", "KOLORS_IPADAPTER"),
    slot("clip_vision", "CLIP_VISION"),
    slot("image", "IMAGE"),
)
IP_ADAPTER_WIDGETS = (number("start_at", 0.0, 0.0, 1.0), number("end_at", 1.0, 0.0, 1.0))
WEIGHT_TYPE = choice("weight_type", *WEIGHT_TYPES, optional=True)
IP_ADAPTER_EXTRAS = (slot("image_negative", "IMAGE", True), slot("attn_mask", "MASK", True))
IMAGE_BATCH = choice("image_batch", "combine", "one per latent", optional=True)
CORE = "comfy-core"

SHAPES = {
    "KolorsUNETLoader": Shape(
        (file("unet_name"), choice("weight_dtype", "default", *DTYPES, "fp8_e4m3fn_fast")),
        (("model", "MODEL"),),
        (315, 82),
    ),
    "KolorsChatGLM3Loader": Shape(
        (
            file("text_encoder_name"),
            choice("weight_dtype", "default", *DTYPES, "int8", "int4"),
            choice("device", "default", "cpu", optional=True),
        ),
        (("clip", "CLIP"),),
        (315, 106),
    ),
    "KolorsCheckpointLoader": Shape(
        (file("ckpt_name"),), (("model", "MODEL"), ("clip", "CLIP"), ("vae", "VAE")), (315, 98)
    ),
    "KolorsPromptEncode": Shape(
        (
            slot("clip", "CLIP"),
            Input("text", "STRING", default=""),
            *map(pixels, ("width", "height", "crop_w", "crop_h", "target_width", "target_height")),
            integer("max_tokens", 256, 256, 4096, optional=True),
        ),
        (("conditioning", "CONDITIONING"),),
        (390, 300),
    ),
    "KolorsKSampler": Shape(
        (
            slot("model", "MODEL"),
            SEED,
            integer("steps", 25, 1, 1000),
            number("cfg", 5.0, 0.0, 100.0),
            choice("sampler", *SAMPLERS),
            slot("positive", "CONDITIONING"),
            slot("negative", "CONDITIONING"),
            slot("latent_image", "LATENT"),
            number("denoise", 1.0, 0.0, 1.0),
        ),
        (("latent", "LATENT"),),
        (315, 238),
    ),
    "KolorsModelSampling": Shape(
        (slot("model", "MODEL"), choice("schedule", "kolors", "sdxl")), (("model", "MODEL"),), (270, 58)
    ),
    "KolorsLoraLoader": Shape(
        (
            slot("model", "MODEL"),
            file("lora_name"),
            number("strength_model", 1.0, -10.0, 10.0),
            number("strength_clip", 1.0, -10.0, 10.0),
            slot("clip", "CLIP", True),
        ),
        (("model", "MODEL"), ("clip", "CLIP"), ("lora", "LORA_MODEL")),
        (350, 200),
    ),
    "KolorsControlNetLoader": Shape(
        (file("control_net_name"), slot("model", "MODEL", True)), (("control_net", "CONTROL_NET"),), (315, 78)
    ),
    "KolorsIPAdapterLoader": Shape((file("ipadapter_name"),), (("ipadapter", "KOLORS_IPADAPTER"),), (315, 58)),
    "KolorsIPAdapterApply": Shape(
        (
            *IP_ADAPTER,
            number("weight", 0.5, -1.0, 3.0),
            *IP_ADAPTER_WIDGETS,
            WEIGHT_TYPE,
            *IP_ADAPTER_EXTRAS,
            IMAGE_BATCH,
        ),
        (("model", "MODEL"),),
        (315, 254),
    ),
    "KolorsFaceIDApply": Shape(
        (
            *IP_ADAPTER,
            number("weight", 0.8, -1.0, 3.0),
            *IP_ADAPTER_WIDGETS,
            WEIGHT_TYPE,
            *IP_ADAPTER_EXTRAS,
            slot("face_analysis", "INSIGHTFACE,FACEANALYSIS", True),
            slot("face_embedding", "FACE_EMBEDDING", True),
            IMAGE_BATCH,
        ),
        (("model", "MODEL"), ("face_embedding", "FACE_EMBEDDING"), ("face", "IMAGE")),
        (315, 294),
    ),
    "CLIPVisionLoader": Shape((file("clip_name"),), (("CLIP_VISION", "CLIP_VISION"),), (315, 58), CORE),
    "VAELoader": Shape((file("vae_name"),), (("VAE", "VAE"),), (315, 58), CORE),
    "ConditioningZeroOut": Shape(
        (slot("conditioning", "CONDITIONING"),), (("CONDITIONING", "CONDITIONING"),), (240, 26), CORE
    ),
    "EmptyLatentImage": Shape(
        (
            integer("width", 512, 16, 16384),
            integer("height", 512, 16, 16384),
            integer("batch_size", 1, 1, 4096),
        ),
        (("LATENT", "LATENT"),),
        (315, 106),
        CORE,
    ),
    "LatentFromBatch": Shape(
        (slot("samples", "LATENT"), integer("batch_index", 0, 0, 63), integer("length", 1, 1, 64)),
        (("LATENT", "LATENT"),),
        (250, 82),
        CORE,
    ),
    "LatentBatch": Shape(
        (slot("samples1", "LATENT"), slot("samples2", "LATENT")), (("LATENT", "LATENT"),), (210, 46), CORE
    ),
    "IPAdapterModelLoader": Shape(
        (file("ipadapter_file"),), (("IPADAPTER", "IPADAPTER"),), (315, 58), "comfyui_ipadapter_plus"
    ),
    "IPAdapterInsightFaceLoader": Shape(
        (choice("provider", "CPU", "CUDA", "ROCM"), choice("model_name", "buffalo_l", "antelopev2")),
        (("INSIGHTFACE", "INSIGHTFACE"),),
        (315, 82),
        "comfyui_ipadapter_plus",
    ),
    "easy pipeIn": Shape(
        (
            slot("pipe", "PIPE_LINE", True),
            slot("model", "MODEL", True),
            slot("pos", "CONDITIONING", True),
            slot("neg", "CONDITIONING", True),
            slot("latent", "LATENT", True),
            slot("vae", "VAE", True),
            slot("clip", "CLIP", True),
            slot("image", "IMAGE", True),
            slot("xyPlot", "XYPLOT", True),
        ),
        (("pipe", "PIPE_LINE"),),
        (240, 186),
        "comfyui-easy-use",
    ),
}
