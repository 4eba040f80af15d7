"""A template's graph as the server takes it, and changes of its widgets."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from ..progress import SetupError
from .card import MINIATURE, Changes

WIDGETS = {"COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"}
SEEDS = {"seed", "noise_seed"}  # widgets behind which the front end has one of its own
MUTED, BYPASSED = 2, 4  # what the front end does not send, such as Save Checkpoint in the template of merges
SIZE = "KolorsImageSize"


def to_prompt(workflow: dict, declared: Mapping[str, dict]) -> dict[str, dict]:
    """What the front end sends for a template; widgets are read in the order of the server's `declared` inputs."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in sorted(workflow["nodes"], key=lambda node: node["id"]):
        if node["type"] not in declared or node.get("mode") in (MUTED, BYPASSED):  # the first are notes
            continue
        info, stored, inputs = declared[node["type"]]["input"], list(node.get("widgets_values") or []), {}
        for name, (kind, *options) in {**info.get("required", {}), **info.get("optional", {})}.items():
            if not (isinstance(kind, list) or kind in WIDGETS):
                continue
            if stored:
                inputs[name] = stored.pop(0)
                if name in SEEDS:
                    stored[:1] = []
            elif options and "default" in options[0]:  # newer than the template
                inputs[name] = options[0]["default"]
        linked = {one["name"]: links[one["link"]] for one in node.get("inputs", []) if one.get("link") is not None}
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs | linked,
            "_meta": {"title": node["type"]},
            "models": {model["name"]: model["directory"] for model in node.get("properties", {}).get("models", [])},
        }
    return prompt


def with_miniature(prompt: Mapping[str, dict]) -> dict[str, dict]:
    """The same with the miniature's files in the place of the published ones."""
    changed = {}
    for key, node in prompt.items():
        files = {name: MINIATURE.get(folder, name) for name, folder in node["models"].items()}
        inputs = {
            name: files.get(value, value) if isinstance(value, str) else value for name, value in node["inputs"].items()
        }
        changed[key] = {**node, "inputs": inputs}
        del changed[key]["models"]
    return changed


def find_node(prompt: Mapping[str, dict], name: str) -> str | None:
    """The key of the node that `Type`, or `Type:2` for the second of its type, speaks of."""
    kind, _, number = name.partition(":")
    keys = [key for key, node in prompt.items() if node["class_type"] == kind]
    index = int(number or 1) - 1
    return keys[index] if index < len(keys) else None


def change(prompt: Mapping[str, dict], changes: Changes, must: bool = True) -> dict[str, dict]:
    """The prompt with other values of widgets, each by `Type.widget` or `Type:2.widget`.

    must: each widget has to be there, with a value to be changed, or with the link of a node that only gives a size.
    """
    prompt = copy.deepcopy(dict(prompt))
    sizes = {key for key, node in prompt.items() if node["class_type"] == SIZE}
    for address, value in changes.items():
        name, _, widget = address.partition(".")
        key = find_node(prompt, name)
        inputs = prompt[key]["inputs"] if key else {}
        if widget in inputs and (not isinstance(inputs[widget], list) or inputs[widget][0] in sizes):
            inputs[widget] = value
        elif must:
            raise SetupError(f"The template has no widget {address} to be changed; correct devtools/cards.")
    return prompt


def masked(image: str, mask: tuple[int, int, int, int]) -> dict[str, dict]:
    """A workflow that makes a rectangle of an image in the input folder transparent, as the mask editor does."""
    x, y, width, height = mask

    def node(kind: str, **inputs: object) -> dict:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}

    return {
        "image": node("LoadImage", image=image),
        "nothing": node("SolidMask", value=0.0, width=128, height=128),
        "all": node("SolidMask", value=1.0, width=width, height=height),
        "mask": node("MaskComposite", destination=["nothing", 0], source=["all", 0], x=x, y=y, operation="add"),
        "joined": node("JoinImageWithAlpha", image=["image", 0], alpha=["mask", 0]),
        "save": node("SaveImage", images=["joined", 0], filename_prefix="kolors-masked"),
    }
