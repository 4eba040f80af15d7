"""What the nodes look like that a converted graph is made of: slots, widgets, outputs, and room on the canvas.

A canvas file holds a node's values by position and its slots by type, so writing one takes what ComfyUI knows only
while it runs. Of this pack's nodes and of the stock ones `python3 dev.py texts` writes it into shapes.json.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
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
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                return self.default
            low, high = self.limits or (-math.inf, math.inf)
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
    pack: str

    def input(self, name: str) -> Input:
        return next(one for one in self.inputs if one.name == name)


#: The least that each node needs, in canvas pixels. These are also the nodes of which shapes.json tells the rest.
SIZES = {
    "KolorsUNETLoader": (315, 82),
    "KolorsChatGLM3Loader": (315, 130),
    "KolorsCheckpointLoader": (315, 98),
    "KolorsPromptEncode": (390, 256),
    "KolorsKSampler": (315, 238),
    "KolorsModelSampling": (270, 58),
    "KolorsLoraLoader": (350, 200),
    "KolorsControlNetLoader": (315, 78),
    "KolorsIPAdapterLoader": (315, 58),
    "KolorsIPAdapterApply": (315, 254),
    "KolorsFaceIDApply": (315, 294),
    "CLIPVisionLoader": (315, 58),
    "VAELoader": (315, 58),
    "VAEDecode": (210, 46),
    "VAEEncode": (210, 46),
    "ConditioningZeroOut": (240, 26),
    "ConditioningConcat": (230, 46),
    "ConditioningCombine": (230, 46),
    "ConditioningSetTimestepRange": (315, 82),
    "EmptyLatentImage": (315, 106),
    "LatentFromBatch": (250, 82),
    "LatentBatch": (240, 46),
}
PIPE = {"pipe": "PIPE_LINE", "model": "MODEL", "pos": "CONDITIONING", "neg": "CONDITIONING", "latent": "LATENT"}
PIPE |= {"vae": "VAE", "clip": "CLIP", "image": "IMAGE", "xyPlot": "XYPLOT"}
#: Nodes of other packs, which nothing here can be asked for.
FOREIGN = {
    "IPAdapterModelLoader": Shape(
        (Input("ipadapter_file", "COMBO", default=""),),
        (("IPADAPTER", "IPADAPTER"),),
        (315, 58),
        "comfyui_ipadapter_plus",
    ),
    "IPAdapterInsightFaceLoader": Shape(
        (
            Input("provider", "COMBO", default="CPU", choices=("CPU", "CUDA", "ROCM")),
            Input("model_name", "COMBO", default="buffalo_l", choices=("buffalo_l", "antelopev2")),
        ),
        (("INSIGHTFACE", "INSIGHTFACE"),),
        (315, 82),
        "comfyui_ipadapter_plus",
    ),
    "easy pipeIn": Shape(
        tuple(Input(name, kind, optional=True) for name, kind in PIPE.items()),
        (("pipe", "PIPE_LINE"),),
        (240, 186),
        "comfyui-easy-use",
    ),
}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read() -> dict[str, Shape]:
    """The shapes of shapes.json; a node that is not in it yet is left out, so that it can be written."""
    told = json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))
    shapes = {}
    for kind in SIZES.keys() & told.keys():
        inputs = tuple(Input(**{key: _tuples(value) for key, value in each.items()}) for each in told[kind]["inputs"])
        shapes[kind] = Shape(inputs, _tuples(told[kind]["outputs"]), SIZES[kind], told[kind]["pack"])
    return shapes


SHAPES = _read() | FOREIGN
