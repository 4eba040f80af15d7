"""A try of a node, and what its inputs are made of: each of these functions gives one of a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..scene import PROMPT, SETTINGS, SIZE, Family, Link, Scene

#: What a try does to the picture that is drawn without it.
CHANGES, KEEPS, DRAWS = "changes", "keeps", "draws"

Maker = Callable[[Scene], Any]
Inputs = dict[str, Any]  # values, or makers of them


@dataclass(frozen=True)
class Try:
    """A node with inputs of its own; those that nobody gives are as on the canvas.

    output: the one that is drawn, or drawn with, by its name; without it all that a picture can be drawn with.
    effect: it CHANGES the picture, KEEPS it as it is, or DRAWS another one, which is not compared.
    refusal: what it says, as a regular expression, where it is made for other models and tells so.
    title: what tells it from other tries of the node.
    """

    node: str
    inputs: Inputs = field(default_factory=dict)
    output: str = ""
    effect: str = CHANGES
    refusal: str = ""
    title: str = ""

    @property
    def name(self) -> str:
        return f"{self.node}: {self.title}" if self.title else self.node

    def draw(self, scene: Scene) -> Link:
        """A LATENT or an IMAGE."""
        key, number = scene.add(self.node, self.output or 0, **made(scene, self.inputs))
        return scene.draw_output((key, number)) if self.output else scene.draw_node(key)


@dataclass(frozen=True)
class OnCanvas:
    """A node of the page, which the server never sees: it brings the model to the sampler, and nothing changes.

    script: in JavaScript, puts it between `source` and the `slot` of `target`; `make(type)` adds a node.
    """

    node: str
    script: str


@dataclass(frozen=True)
class Script:
    """A program that draws the plain image through a server, and saves its LATENT: nothing changes.

    code: Python, called with the server's address and the pack's folder; {model} and {clip} are a family's loaders as
    calls, {settings} the sampler's inputs before the prompts, {size} those of the empty LATENT.
    """

    node: str
    code: str

    def written(self, family: Family) -> str:
        calls = {
            name: f"{kind}({', '.join(map(repr, inputs.values()))})"
            for name, (kind, inputs, _) in (("model", family.model), ("clip", family.clip))
        }
        settings = ", ".join(repr(SETTINGS[name]) for name in ("seed", "steps", "cfg", "sampler_name", "scheduler"))
        return self.code.format(**calls, settings=settings, prompt=repr(PROMPT), size=f"{SIZE}, {SIZE}, 1")


@dataclass(frozen=True)
class Pack:
    """What is tried of a pack, and what users should know, in each language; nothing where all works.

    beside: packs that some of its nodes need; they are there too, where they are given.
    canvas: its nodes that the page alone knows. scripts: programs that use it.
    """

    tries: tuple[Try, ...]
    en: str = ""
    zh: str = ""
    beside: tuple[str, ...] = ()
    canvas: tuple[OnCanvas, ...] = ()
    scripts: tuple[Script, ...] = ()


def node(name: str, effect: str = CHANGES, refusal: str = "", title: str = "", output: str = "", **inputs: Any) -> Try:
    return Try(name, inputs, output, effect, refusal, title)


def of(kind: str, output: int | str = 0, **inputs: Any) -> Maker:
    """What another node gives."""
    return lambda scene: scene.add(kind, output, **made(scene, inputs))


def sampled(**inputs: Any) -> Maker:
    """A LATENT of the host's sampler."""
    return lambda scene: scene.sample(**made(scene, inputs))


def encoded(text: str) -> Maker:
    """The CONDITIONING of a prompt."""
    return lambda scene: scene.encode(text)


def given(kind: str) -> Maker:
    """The scene's own of a type."""
    return lambda scene: scene.something(kind)


def file(kind: str) -> Maker:
    """The name of a file of the scene's models."""
    return lambda scene: scene.files[kind]


def sized(name: str, widget: str) -> Try:
    """A node that gives an empty LATENT of a size that it lists, the last of which is drawn in."""

    def latent(scene: Scene) -> Link:
        return scene.add(name, **{widget: scene.declared[name]["input"]["required"][widget][0][-1]})

    return Try("KSampler", {"latent_image": latent}, effect=DRAWS, title=name)


def made(scene: Scene, inputs: Inputs) -> Inputs:
    return {name: value(scene) if callable(value) else value for name, value in inputs.items()}
