"""Which inputs of a graph a column of the table sets.

`prompt`, `negative`, `seed`, `steps`, `cfg`, `width` and `height` are found from the samplers backwards, as the data
flow: `prompt` is the text behind whatever reaches a sampler's positive. Any other column is ``NODE.input``, with the id
or the title of a node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import KolorsError
from .workflow import Graph, link, links, title

SEEDS = "seeds"  # several numbers in one cell
KNOWN = ("prompt", "negative", "seed", "steps", "cfg", "width", "height")
TEXTS = ("text", "text_g", "text_l", "prompt", "clip_l", "t5xxl")  # inputs of nodes that encode text
SEED_INPUTS = ("seed", "noise_seed")
WHOLE = {*SEED_INPUTS, "steps", "width", "height", "batch_size", "start_at_step", "end_at_step"}
#: What leads from a conditioning to something else than a text.
NO_CONDITIONING = {"model", "clip", "vae", "control_net", "clip_vision", "image", "images", "mask", "pixels", "samples"}
LATENTS = ("latent_image", "samples", "latent", "pixels", "image")
WITHOUT_TEXT = {"ConditioningZeroOut"}  # which keeps nothing of what it gets


@dataclass(frozen=True)
class Target:
    """One input of one node. kind: text, whole, number, truth, image, or any where the graph does not tell."""

    node: str
    input: str
    kind: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


def find_targets(columns: Iterable[str], graph: Graph) -> dict[str, list[Target]]:
    """What each column sets; SEEDS sets what a `seed` would.

    Raises KolorsError, which lists what there is, for a column that sets nothing, not one thing, or what another sets.
    """
    found: dict[str, list[Target]] = {}
    setters: dict[tuple[str, str], str] = {}
    for column in columns:
        found[column] = _known("seed" if column == SEEDS else column, graph) or _named(column, graph)
        for target in found[column]:
            other = setters.setdefault((target.node, target.input), column)
            if other != column and {other, column} != {"seed", SEEDS}:  # a row has one of them
                raise KolorsError(f"The columns '{other}' and '{column}' both set {target}. Leave one of them out.")
    return found


def list_inputs(graph: Graph) -> list[str]:
    """All that a column may be called: the known names that this graph has, and every input that holds a value."""
    names = [name for name in KNOWN if _try(name, graph)]
    names += [SEEDS] if "seed" in names else []
    for id, node in graph.items():
        values = [name for name, value in node["inputs"].items() if link(value, graph) is None]
        names += [f"{id}.{name}" for name in values]
    return names


def find_seed(graph: Graph) -> Target | None:
    """The seed of the first sampler."""
    return next(iter(_try("seed", graph)), None)


def _try(name: str, graph: Graph) -> list[Target]:
    try:
        return _known(name, graph)
    except KolorsError:
        return []


# ---- NODE.input


def _named(column: str, graph: Graph) -> list[Target]:
    name, dot, given = column.rpartition(".")
    nodes = [name] if name in graph else [id for id in graph if name in (title(id, graph), graph[id]["class_type"])]
    if not dot or not nodes:
        raise KolorsError(f"The column '{column}' sets nothing in this workflow. {_choices(graph)}")
    if len(nodes) > 1:
        raise KolorsError(
            f"The column '{column}' could mean {len(nodes)} nodes: {', '.join(f'{id}.{given}' for id in nodes)}. "
            "Name the column after one of them."
        )
    inputs = graph[nodes[0]]["inputs"]
    if given not in inputs:
        raise KolorsError(
            f"The column '{column}': node {nodes[0]}, '{title(nodes[0], graph)}', has no input '{given}'. "
            f"It has {', '.join(inputs) or 'none'}."
        )
    if source := link(inputs[given], graph):
        raise KolorsError(
            f"The column '{column}': this input is connected to node {source}, '{title(source, graph)}'. "
            "Set an input of that node."
        )
    return [_target(nodes[0], given, graph)]


def _choices(graph: Graph) -> str:
    return (
        f"Known here: {', '.join(list_inputs(graph))}. A column that is only to be kept for the report is named with "
        "--keep."
    )


def _target(node: str, name: str, graph: Graph, kind: str = "") -> Target:
    value = graph[node]["inputs"].get(name)
    if not kind:
        if name == "image" and graph[node]["class_type"].startswith("LoadImage"):
            kind = "image"
        elif isinstance(value, bool):
            kind = "truth"
        elif isinstance(value, (int, float)):
            kind = "whole" if name in WHOLE else "number"
        else:
            kind = "text" if isinstance(value, str) else "any"
    return Target(node, name, kind)


# ---- the known names


def _known(name: str, graph: Graph) -> list[Target]:
    """What one of KNOWN sets; nothing for another name. Raises KolorsError where the graph has none, or several."""
    if name not in KNOWN:
        return []
    samplers = [id for id in graph if _is_sampler(id, graph)]
    if not samplers:
        raise KolorsError(
            f"The column '{name}' needs a sampler, and this workflow has none: no node with a latent image and with "
            f"positive and negative, or a guider. Name the column NODE.input instead. {_choices_without(graph)}"
        )
    found: dict[Target, None] = {}
    for sampler in samplers:
        if name in ("prompt", "negative"):
            found |= dict.fromkeys(_texts("positive" if name == "prompt" else name, sampler, graph))
        elif name in ("width", "height"):
            found |= dict.fromkeys(_sizes(name, sampler, graph))
        else:
            found |= dict.fromkeys(_settings(name, sampler, graph))
    targets = list(found)
    if not targets:
        raise KolorsError(f"The column '{name}': {_reason(name)} {_choices_without(graph)}")
    if name != "seed" and len({target.node for target in targets}) > 1:
        raise KolorsError(
            f"The column '{name}' could set several nodes: "
            f"{', '.join(f'{target} ({title(target.node, graph)})' for target in targets)}. "
            "Name the column after one of them."
        )
    return targets


def _choices_without(graph: Graph) -> str:
    names = [f"{id}.{name}" for id, node in graph.items() for name in node["inputs"] if name not in links(node, graph)]
    return f"Known here: {', '.join(names)}."


def _reason(name: str) -> str:
    if name in ("width", "height"):
        return "the size comes from an image, not from an empty latent."
    if name in ("prompt", "negative"):
        return f"no text reaches the sampler's {'positive' if name == 'prompt' else name}."
    return f"no sampler has {name}."


def _is_sampler(id: str, graph: Graph) -> bool:
    linked = links(graph[id], graph)
    return "latent_image" in linked and ({"positive", "negative"} <= linked.keys() or "guider" in linked)


def _settings(name: str, sampler: str, graph: Graph) -> list[Target]:
    """`seed`, `steps` or `cfg` of a sampler: its own, or of the node that it gets noise, sigmas or guidance from."""
    through = {"seed": ("noise",), "steps": ("sigmas",), "cfg": ("guider",)}[name]
    names = SEED_INPUTS if name == "seed" else (name,)
    waiting, seen = [sampler], set[str]()
    while waiting:
        id = waiting.pop(0)
        if id in seen:
            continue
        seen.add(id)
        for each in names:
            if each in graph[id]["inputs"]:
                return [_settle(id, each, graph, "number" if name == "cfg" else "whole")]
        linked = links(graph[id], graph)
        waiting += [source for key, source in linked.items() if key in through]
    return []


def _settle(id: str, name: str, graph: Graph, kind: str) -> Target:
    """The input itself, or the one value of a node that does nothing but hold it."""
    source = link(graph[id]["inputs"][name], graph)
    held = list(graph[source]["inputs"].items()) if source else []
    if source and len(held) == 1 and link(held[0][1], graph) is None:
        return _target(source, held[0][0], graph, kind)
    return _target(id, name, graph, kind)


def _sizes(name: str, sampler: str, graph: Graph) -> list[Target]:
    """The width or height of the empty latent that a sampler begins with, however far back."""
    id: str | None = sampler
    seen = set[str]()
    while id is not None and id not in seen:
        seen.add(id)
        linked = links(graph[id], graph)
        before = next((linked[key] for key in LATENTS if key in linked), None)
        if before is None and {"width", "height"} <= graph[id]["inputs"].keys():
            return [_settle(id, name, graph, "whole")]
        id = before
    return []


def _texts(side: str, sampler: str, graph: Graph) -> list[Target]:
    """The texts behind a sampler's positive or negative."""
    found: list[Target] = []
    waiting, seen = [sampler], set[str]()
    while waiting:
        id = waiting.pop(0)
        if id in seen or graph[id]["class_type"] in WITHOUT_TEXT:
            continue
        seen.add(id)
        linked = links(graph[id], graph)
        if "clip" in linked:
            names = [name for name in TEXTS if name in graph[id]["inputs"]]
            found += [_text(id, name, graph) for name in names]
        elif "guider" in linked:
            waiting.append(linked["guider"])
        elif side in linked:
            waiting.append(linked[side])
        elif side == "positive" or "positive" not in linked:  # a guider of one conditioning has no negative
            waiting += _upstream(id, side, linked, graph)
    return found


def _upstream(id: str, side: str, linked: dict[str, str], graph: Graph) -> list[str]:
    if side == "negative" and "conditioning" in linked and "model" in linked:  # BasicGuider
        return []
    return [source for name, source in linked.items() if name not in NO_CONDITIONING]


def _text(id: str, name: str, graph: Graph) -> Target:
    source = link(graph[id]["inputs"][name], graph)
    target = _settle(id, name, graph, "text")
    if source and target.node == id:
        raise KolorsError(
            f"The text of node {id}, '{title(id, graph)}', is put together by node {source}, "
            f"'{title(source, graph)}'. Name the column after an input of a node before it."
        )
    return target


def as_value(cell: Any, kind: str) -> Any:
    """What a cell of a table means to an input of that kind. Raises ValueError: what was expected."""
    if kind in ("text", "image"):
        return cell if isinstance(cell, str) else _refuse(cell, "text")
    if kind == "truth":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        value = words.get(cell.strip().lower()) if isinstance(cell, str) else cell
        return bool(value) if isinstance(value, (bool, int)) and value in (0, 1) else _refuse(cell, "true or false")
    if kind in ("whole", "number"):
        expected = "a whole number" if kind == "whole" else "a number"
        try:
            value = (_number(cell) if isinstance(cell, str) else cell) if not isinstance(cell, bool) else None
        except ValueError:
            value = None
        if not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
            return _refuse(cell, expected)
        if kind == "whole":
            return int(value) if value == int(value) and value >= 0 else _refuse(cell, f"{expected}, not negative")
        return value
    return cell


def _number(text: str) -> int | float:
    try:
        return int(text.strip())
    except ValueError:
        return float(text.strip())


def _refuse(cell: Any, expected: str) -> Any:
    raise ValueError(f"{cell!r} is not {expected}")
