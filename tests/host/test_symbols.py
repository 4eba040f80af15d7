"""What the seam uses of ComfyUI: the table in symbols.json is whole and true, and holds on this host.

The table has for each symbol the oldest of `HOSTS` that has it, and what it is used for: after an update of ComfyUI a
name that went away is found here before it is found in a workflow.

Symbols are found by `ast`: what is imported, attributes of imported modules and classes, what our classes override or
imitate or take from a class of the host, and attributes of the host's objects where a variable's name tells their kind.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from house import HOST_MODULES, SEAM

pytestmark = pytest.mark.host

TABLE = Path(__file__).with_name("symbols.json")
SYMBOLS: dict[str, tuple[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
HOSTS = ("0.3.65", "0.3.75", "0.8.0", "0.16.0", "0.25.0", "0.29.0", "0.31.0", "0.33.0")  # that the table was made with

#: What the seam calls the host's objects; the first class that has an attribute is the one that is meant.
VARIABLES = {
    "model": ("comfy.model_patcher.ModelPatcher", "comfy.model_base.BaseModel"),
    "block": ("comfy.ldm.modules.attention.BasicTransformerBlock",),
    "clone": ("comfy.model_patcher.ModelPatcher",),
    "patcher": ("comfy.model_patcher.ModelPatcher",),
    "clip": ("comfy.sd.CLIP",),
    "clip_vision": ("comfy.clip_vision.ClipVisionModel",),
    "control": ("comfy.controlnet.ControlBase",),
    "layer": ("comfy.ldm.modules.attention.SpatialTransformer",),
    "bar": ("comfy.utils.ProgressBar",),
    "sampling": ("comfy.model_sampling.ModelSamplingDiscrete",),
    "unet": ("comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel",),
}
#: The classes of what these hold or give.
KINDS = {
    "comfy.clip_vision.ClipVisionModel.patcher": "comfy.model_patcher.ModelPatcher",
    "comfy.ldm.modules.attention.BasicTransformerBlock.attn2": "comfy.ldm.modules.attention.CrossAttention",
    "comfy.model_base.BaseModel.model_config": "comfy.supported_models_base.BASE",
    "comfy.model_patcher.ModelPatcher.model": "comfy.model_base.BaseModel",
    "comfy.samplers.ksampler": "comfy.samplers.KSAMPLER",
    "comfy.sd.CLIP.patcher": "comfy.model_patcher.ModelPatcher",
    "server.PromptServer.instance": "server.PromptServer",
}
#: Classes of the host whose place ours take without being made of them, or whose part they are as a mixin.
IMITATED = {
    "KolorsTokenizer": ("comfy.sd1_clip.SD1Tokenizer",),
    "SectionTokenizer": ("comfy.sd1_clip.SDTokenizer",),
    "CPUConv2d": ("comfy.ops.manual_cast.Conv2d",),
    "CPULinear": ("comfy.ops.manual_cast.Linear",),
    "KolorsTextEncoder": ("comfy.sd1_clip.SD1ClipModel", "comfy.sd1_clip.SDClipModel"),
}


class Finder:
    """Finds the host's symbols in the source of one file."""

    def __init__(self, source: str):
        self.tree = ast.parse(source)
        self.names: dict[str, str] = {}  # the symbol behind each imported name
        self.imported: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                aliases = [
                    (alias.asname, alias.name) if alias.asname else 2 * (top(alias.name),) for alias in node.names
                ]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                aliases = [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
            else:
                continue
            aliases = [(name, symbol) for name, symbol in aliases if HOST_MODULES.match(top(symbol))]
            self.names |= dict(aliases)
            self.imported |= {symbol for _, symbol in aliases}

    def symbols(self) -> set[str]:
        found = self.imported | {self.symbol(node) for node in ast.walk(self.tree)} - {None}
        classes = (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))
        found |= {symbol for node in classes for symbol in self.inherited(node)}
        return {symbol for symbol in found if not (is_there(symbol) and isinstance(load(symbol), ModuleType))}

    def symbol(self, node: ast.AST) -> str | None:
        """The host's symbol that an expression is."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return next((f"{owner}.{node.attr}" for owner in self.owners(node.value) if has(owner, node.attr)), None)
        return None

    def owners(self, node: ast.AST) -> Iterable[str]:
        """The host's modules or classes that an expression's attributes may belong to."""
        if isinstance(node, ast.Name) and node.id in VARIABLES and node.id not in self.names:
            return VARIABLES[node.id]
        symbol = self.symbol(node.func if isinstance(node, ast.Call) else node)
        if symbol in KINDS:
            return (KINDS[symbol],)
        if symbol and not isinstance(node, ast.Call) and isinstance(load(symbol), (ModuleType, type)):
            return (symbol,)
        return ()

    def inherited(self, node: ast.ClassDef) -> Iterator[str]:
        """What a class of ours defines anew, or takes by `self` and `super()`, of the classes that it is made of."""
        used = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        used |= {target.id for part in node.body if isinstance(part, ast.Assign) for target in part.targets}
        attributes = (part for part in ast.walk(node) if isinstance(part, ast.Attribute))
        used |= {part.attr for part in attributes if ast.unparse(part.value) in ("self", "super()")}
        bases = list(self.bases(node))
        for name in used:
            owner = next((base for base in (*bases, *IMITATED.get(node.name, ())) if has(base, name)), None)
            if owner and not name.startswith("__"):
                yield f"{owner}.{name}"

    def bases(self, node: ast.ClassDef) -> Iterator[str]:
        """The host's classes that a class of ours is made of, by way of others in its file too."""
        ours = {part.name: part for part in ast.walk(self.tree) if isinstance(part, ast.ClassDef)}
        for base in node.bases:
            if symbol := self.symbol(base):
                yield symbol
            elif isinstance(base, ast.Name) and base.id in ours:
                yield from self.bases(ours[base.id])


def top(module: str) -> str:
    return module.split(".")[0]


@functools.cache
def load(symbol: str) -> object:
    """The module, or what it holds; None for what only the objects of a class have.

    Raises AttributeError or ModuleNotFoundError where the host has no such thing.
    """
    place, _, name = symbol.rpartition(".")
    if place and not isinstance(load(place), ModuleType):
        return getattr(load(place), name, None) if is_field(load(place), name) else getattr(load(place), name)
    if place and hasattr(load(place), name):
        return getattr(load(place), name)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(
                os.environ["COMFYUI_PATH"]
            )  # undone after, for the host's nodes.py adds its inner folders to the path
            importlib.import_module("utils.extra_config")  # first, as main.py does: those folders have a utils.py
            return importlib.import_module(symbol)
    except ModuleNotFoundError:
        raise AttributeError(f"this ComfyUI has no {symbol}") from None


def has(owner: str, name: str) -> bool:
    """Whether a class of the host has this attribute, other than by torch; of a module whatever is asked of it."""
    place = load(owner)
    if isinstance(place, ModuleType):
        return True
    if hasattr(place, name):
        return getattr(place, name) is not getattr(torch.nn.Module, name, None)
    return is_field(place, name)


@functools.cache
def is_field(place: object, name: str) -> bool:
    """Whether the objects of a class get this attribute when they are made, other than by torch."""
    field = re.compile(rf"\b(self|{getattr(place, '__name__', '')})\.{name}\b[^=\n]*=[^=]")
    classes = [c for c in getattr(place, "__mro__", ()) if c is not object and field.search(source(c))]
    return bool(classes) and HOST_MODULES.match(top(classes[-1].__module__)) is not None


source = functools.cache(inspect.getsource)  # which parses the whole file of a class each time


def is_there(symbol: str) -> bool:
    try:
        load(symbol)
    except AttributeError:
        return False
    return True


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.fixture(scope="module")
def expected() -> set[str]:
    """The symbols of the table that this host should have."""
    import comfyui_version

    here = version(comfyui_version.__version__)
    return {symbol for symbol, (oldest, _) in SYMBOLS.items() if version(oldest) <= here}


@pytest.fixture(scope="module")
def used() -> set[str]:
    return set().union(*(Finder(file.read_text(encoding="utf-8")).symbols() for file in sorted(SEAM.rglob("*.py"))))


def test_every_symbol_that_is_used_is_in_the_table(used):
    assert sorted(used - SYMBOLS.keys()) == []


def test_every_symbol_of_the_table_is_used(used, expected):
    assert sorted(expected - used) == []


def test_every_symbol_is_in_this_host(expected):
    assert [symbol for symbol in sorted(expected) if not is_there(symbol)] == []


def test_every_row_names_a_host_and_a_reason():
    for symbol, (oldest, reason) in SYMBOLS.items():
        assert oldest in HOSTS and reason.strip() and not reason.endswith("."), symbol


def test_the_table_is_sorted_and_has_a_symbol_on_each_line():
    lines = [f" {json.dumps(symbol)}: {json.dumps(SYMBOLS[symbol])}" for symbol in sorted(SYMBOLS)]
    assert TABLE.read_text(encoding="utf-8") == "{\n" + ",\n".join(lines) + "\n}\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import comfy.ops\ncomfy.ops.manual_cast.Linear", {"comfy.ops.manual_cast", "comfy.ops.manual_cast.Linear"}),
        ("from comfy.gone import f\nimport comfy.ops\ncomfy.ops.gone()", {"comfy.gone.f", "comfy.ops.gone"}),
        ("import folder_paths as paths\npaths.models_dir", {"folder_paths.models_dir"}),
        ("from comfy.sd import CLIP as Encoder\nEncoder.tokenize", {"comfy.sd.CLIP", "comfy.sd.CLIP.tokenize"}),
        ("def f():\n  from server import PromptServer", {"server.PromptServer"}),
        ("model.clone().gone", {"comfy.model_patcher.ModelPatcher.clone"}),
        ("model.set_inpaint()", {"comfy.model_base.BaseModel.set_inpaint"}),
        ("clip.patcher.model_size()", {"comfy.sd.CLIP.patcher", "comfy.model_patcher.ModelPatcher.model_size"}),
        ("model.to(device)\nclip.own\nother.clone()\nimport torch\ntorch.nn.Linear", set()),
        (
            "from comfy.samplers import KSAMPLER\nclass A(KSAMPLER):\n  def own(self): self.max_denoise()",
            {"comfy.samplers.KSAMPLER", "comfy.samplers.KSAMPLER.max_denoise"},
        ),
        ("class KolorsTokenizer:\n  def untokenize(self): pass", {"comfy.sd1_clip.SD1Tokenizer.untokenize"}),
    ],
)
def test_symbols_are_found_in_a_source(source, found):
    assert Finder(source).symbols() == found


def test_symbols_that_went_away_are_noticed():
    assert is_there("comfy.sd.CLIP.patcher") and is_there("comfy.sd.CLIP.tokenize")
    assert not any(map(is_there, ("comfy.gone", "comfy.gone.f", "comfy.sd.gone", "comfy.sd.CLIP.gone", "gone")))
