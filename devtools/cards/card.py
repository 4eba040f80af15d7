"""What a card of a template is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..miniature import DEMO_TOWER

#: The miniature's files by the folders that ComfyUI looks for them in.
MINIATURE = {
    "diffusion_models": "kolors-demo-unet.safetensors",
    "text_encoders": "kolors-demo-chatglm3.safetensors",
    "vae": "kolors-demo-vae.safetensors",
    "ipadapter": "kolors-demo-ip-adapter.safetensors",
    "clip_vision": DEMO_TOWER,
}
#: Files that `demo/train/for_pictures.py` trains, by what it calls them: folder and name.
TRAINED = {
    "control": ("controlnet", "kolors-pictures-control.safetensors"),
    "inpainting": ("diffusion_models", "kolors-pictures-inpainting.safetensors"),
    "blue": ("loras", "kolors-pictures-blue.safetensors"),
    "restyled": ("diffusion_models", "kolors-pictures-restyled.safetensors"),
    "fast": ("loras", "kolors-pictures-fast.safetensors"),
    "guided": ("diffusion_models", "kolors-pictures-guided.safetensors"),
}
UNET = MINIATURE["diffusion_models"]
CONTROL, INPAINTING, BLUE, RESTYLED, FAST, GUIDED = (name for _, name in TRAINED.values())

Changes = Mapping[str, object]  # {"KSampler.seed": 1}; of the second such node, by number, "KSampler:2.seed"
Words = tuple[str, str]  # English, Chinese


@dataclass(frozen=True)
class Input:
    """An image that a template is given: drawn by text to image, with a mask of x, y, width and height if any."""

    prompt: str
    seed: int = 1
    mask: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Run:
    """A run of the graph with some widgets changed.

    output: the node whose image is taken, as `PreviewImage`, or `PreviewImage:2` for the second.
    """

    changes: Changes = field(default_factory=dict)
    output: str = "SaveImage"


@dataclass(frozen=True)
class Shown:
    """An image on a card with the words below it; `sign` stands behind it."""

    source: Input | Run | str  # a string is an icon of a diagram
    words: Words | None = None
    sign: str = ""


@dataclass(frozen=True)
class Card:
    """A picture of 512 x 512. The last image is the result; `even` makes the others as large.

    after: the template whose graph runs before, as its own card says, and leaves a file.
    """

    caption: Words
    shown: tuple[Shown, ...]
    changes: Changes = field(default_factory=dict)  # of all runs
    prompt: str = ""
    even: bool = False
    after: str = ""

    def runs(self) -> list[Run]:
        return [each.source for each in self.shown if isinstance(each.source, Run)]


#: What every template is given, where it has the node: the miniature's size, its guidance, no negative prompt.
ALWAYS: Changes = {
    "EmptyLatentImage.width": 128,
    "EmptyLatentImage.height": 128,
    "ImageScaleToTotalPixels.megapixels": 128 * 128 / 1024**2,
    "CLIPTextEncode:2.text": "",
    "KolorsPromptEncode:2.text": "",
    "KSampler.cfg": 4.0,
    "KolorsKSampler.cfg": 4.0,
    "GrowMask.expand": 2,
    "ImageBlur.blur_radius": 2,
    "ImageBlur.sigma": 1.0,
    "CFGGuider.cfg": 4.0,
}
