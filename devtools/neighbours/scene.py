"""A graph in which every input that nobody gave gets what it has on the canvas, or something to draw with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Link = tuple[str, int]

PROMPT, NEGATIVE = "a red apple on a yellow background", ""
SIZE = 128  # pixels
#: What a sampler of any pack is given, where it has an input of that name.
SETTINGS = {
    "seed": 1, "noise_seed": 1, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal",
    "denoise": 1.0, "width": SIZE, "height": SIZE, "batch_size": 1, "prompt": PROMPT, "text": PROMPT,
}  # fmt: skip
#: Inputs of a sampler by the types of what a node gives; the second CONDITIONING is the negative one.
PARTS = {"MODEL": "model", "CONDITIONING": "positive", "LATENT": "latent_image", "CLIP": "clip"}


class NoSuchNode(Exception):
    """The ComfyUI that runs has no node of that name."""


@dataclass(frozen=True)
class Family:
    """The models of a graph, each as (node, inputs, output), and the names of further files."""

    name: str
    model: tuple[str, dict[str, Any], int]
    clip: tuple[str, dict[str, Any], int]
    vae: tuple[str, dict[str, Any], int]
    control_net: tuple[str, dict[str, Any], int]
    files: dict[str, Any]


class Scene(dict[str, dict[str, Any]]):
    """A graph in API form. declared: the server's /object_info."""

    def __init__(self, declared: dict[str, Any], family: Family):
        super().__init__()
        self.declared, self.family, self.files = declared, family, family.files
        self.made: dict[str, Link] = {}

    def add(self, kind: str, output: int | str = 0, **inputs: Any) -> Link:
        """A node of this kind; its output by number or by name. Raises NoSuchNode."""
        if kind not in self.declared:
            raise NoSuchNode(kind)
        filled = {**self.filled(kind, inputs), **inputs}
        key = str(len(self) + 1)
        self[key] = {"class_type": kind, "inputs": {name: plain(value) for name, value in filled.items()}}
        number = output if isinstance(output, int) else self.declared[kind]["output_name"].index(output)
        return key, number

    def filled(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        """What `add` puts into the inputs of a node that nobody gave."""
        declared, found = self.declared[kind]["input"], {}
        for part in ("required", "optional"):
            for name, what in declared.get(part, {}).items():
                options = what[1] if len(what) > 1 and isinstance(what[1], dict) else {}
                if name in given:
                    continue
                if is_widget(what[0], options):
                    found[name] = self.value(name, what[0], options)
                elif part == "required":
                    found[name] = self.something(what[0], name)
        return found

    def value(self, name: str, kind: Any, options: dict[str, Any]) -> Any:
        """Of a widget: a setting of ours that it can take, else what it begins with."""
        choices = kind if isinstance(kind, list) else options.get("options")
        if name in SETTINGS and (choices is None or SETTINGS[name] in choices):
            return SETTINGS[name]
        if "default" in options and (choices is None or options["default"] in choices):
            return options["default"]
        if choices is not None:
            return choices[0] if choices else ""
        return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(str(kind).split(":")[0], "")

    # ---- something to draw with -------------------------------------------------------------------------------------

    def something(self, kind: str, name: str = "") -> Link:
        """A link of a type; of prompts, the negative one where the input's name says so. Raises KeyError."""
        maker = "negative" if kind == "CONDITIONING" and "neg" in name else MAKERS[kind.split(",")[0]]
        if maker not in self.made:
            self.made[maker] = getattr(self, f"_make_{maker}")()
        return self.made[maker]

    @property
    def model(self) -> Link:
        return self.something("MODEL")

    @property
    def clip(self) -> Link:
        return self.something("CLIP")

    @property
    def vae(self) -> Link:
        return self.something("VAE")

    def _part(self, part: tuple[str, dict[str, Any], int]) -> Link:
        kind, inputs, output = part
        for key, node in self.items():
            if node["class_type"] == kind:
                return key, output
        return self.add(kind, output, **inputs)

    def _make_model(self) -> Link:
        return self._part(self.family.model)

    def _make_clip(self) -> Link:
        return self._part(self.family.clip)

    def _make_vae(self) -> Link:
        return self._part(self.family.vae)

    def _make_positive(self) -> Link:
        return self.encode()

    def _make_negative(self) -> Link:
        return self.encode(NEGATIVE)

    def encode(self, text: str | Link = PROMPT, clip: Link | None = None) -> Link:
        return self.add("CLIPTextEncode", clip=clip or self.clip, text=text)

    def _make_latent(self) -> Link:
        return self.add("EmptyLatentImage")

    def _make_image(self) -> Link:
        return self.add("LoadImage", image=self.files["image"])

    def _make_mask(self) -> Link:
        """The left half of the picture."""
        left = self.add("SolidMask", value=1.0, width=SIZE // 2, height=SIZE)
        right = self.add("SolidMask", value=0.0, width=SIZE, height=SIZE)
        return self.add("MaskComposite", destination=right, source=left, x=0, y=0, operation="add")

    def _make_sampler(self) -> Link:
        return self.add("KSamplerSelect")

    def _make_sigmas(self) -> Link:
        return self.add("BasicScheduler")

    def _make_guider(self) -> Link:
        return self.add("CFGGuider")

    def _make_noise(self) -> Link:
        return self.add("RandomNoise")

    def _make_upscaler(self) -> Link:
        return self.add("UpscaleModelLoader", model_name=self.files["upscaler"])

    def _make_control_net(self) -> Link:
        return self._part(self.family.control_net)

    # ---- a picture --------------------------------------------------------------------------------------------------

    def sample(self, **inputs: Any) -> Link:
        """A LATENT by the host's sampler; `inputs` are its own."""
        return self.add("KSampler", **inputs)

    def draw_node(self, key: str) -> Link:
        """A LATENT or an IMAGE, drawn with all that a node gives. Raises ValueError where none is drawn with it."""
        outputs = self.declared[self[key]["class_type"]]["output"]
        parts: dict[str, Link] = {}
        for number, kind in enumerate(outputs):
            name = PARTS.get(kind, "")
            parts.setdefault("negative" if name == "positive" and name in parts else name, (key, number))
        if "model" in parts or "positive" in parts:
            return self.sample_parts(parts)
        drawn = [kind for kind in DRAWERS if kind in outputs]
        if not drawn:
            raise ValueError(f"no image is drawn with {', '.join(outputs)}")
        return self.draw_output((key, outputs.index(drawn[0])))

    def sample_parts(self, parts: dict[str, Link]) -> Link:
        """With a MODEL, prompts, a CLIP for the prompt where there is none, a LATENT."""
        inputs = {
            name: link for name, link in parts.items() if name in ("model", "positive", "negative", "latent_image")
        }
        if "clip" in parts and "positive" not in parts:
            inputs["positive"] = self.encode(clip=parts["clip"])
        return self.sample(**inputs)

    def draw_output(self, link: Link) -> Link:
        """A LATENT or an IMAGE, drawn with one output of a node. Raises KeyError for a type that none is drawn with."""
        drawn = DRAWERS[self.kind(link)]
        return drawn(self, link) if drawn else link

    def kind(self, link: Link) -> str:
        return self.declared[self[link[0]]["class_type"]]["output"][link[1]]

    def decoded(self, link: Link) -> Link:
        """A LATENT or an IMAGE as an IMAGE."""
        return self.add("VAEDecode", samples=link) if self.kind(link) == "LATENT" else link

    def save(self, link: Link) -> Link:
        """Writes a LATENT or an IMAGE; the node that does."""
        kind, made = ("SaveLatent", "samples") if self.kind(link) == "LATENT" else ("SaveImage", "images")
        return self.add(kind, **{made: link, "filename_prefix": "neighbours/drawn"})


MAKERS = {
    "MODEL": "model", "CLIP": "clip", "VAE": "vae", "CONDITIONING": "positive", "LATENT": "latent", "IMAGE": "image",
    "MASK": "mask", "SAMPLER": "sampler", "SIGMAS": "sigmas", "GUIDER": "guider", "NOISE": "noise",
    "UPSCALE_MODEL": "upscaler", "CONTROL_NET": "control_net",
}  # fmt: skip
#: How a picture is drawn with a type of output; those first that are nearer to it.
DRAWERS: dict[str, Callable[[Scene, Link], Link] | None] = {
    "LATENT": None,
    "IMAGE": None,
    "MASK": lambda scene, link: scene.add("MaskToImage", mask=link),
    "GUIDER": lambda scene, link: scene.add("SamplerCustomAdvanced", guider=link),
    "SAMPLER": lambda scene, link: scene.add("SamplerCustomAdvanced", sampler=link),
    "SIGMAS": lambda scene, link: scene.add("SamplerCustomAdvanced", sigmas=link),
    "NOISE": lambda scene, link: scene.add("SamplerCustomAdvanced", noise=link),
    "MODEL": lambda scene, link: scene.sample(model=link),
    "CONDITIONING": lambda scene, link: scene.sample(positive=link),
    "CLIP": lambda scene, link: scene.sample(positive=scene.encode(clip=link)),
    "VAE": lambda scene, link: scene.add("VAEDecode", samples=scene.sample(), vae=link),
    "STRING": lambda scene, link: scene.sample(positive=scene.encode(link)),
    "CONTROL_NET": lambda scene, link: scene.sample(positive=scene.add("ControlNetApply", control_net=link)),
}


def is_widget(kind: Any, options: dict[str, Any]) -> bool:
    """Whether the canvas has a widget for an input, where nothing is connected."""
    simple = isinstance(kind, list) or kind.split(":")[0] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return simple and not options.get("forceInput")


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
