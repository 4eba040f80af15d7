"""What no source of the pack does, read by `ast`.

Every rule is a function from a tree to a list of faults, and has snippets in which it must find one.
"""

from __future__ import annotations

import ast
import re

import pytest
from house import HOST_MODULES, PACK, SEAM, called_name, imported_modules, name_of

#: The only rooms that may know of the network or start a program, and by what: two fetch, one answers through the
#: host's own server, and four are of a command that starts a ComfyUI and talks to it.
NETWORK_ROOMS = {
    "kolors_core/models/addresses.py": re.compile(r"(urllib|http)$"),
    "kolors_core/models/download.py": re.compile(r"(urllib|http)$"),
    "kolors_core/host/routes.py": re.compile(r"aiohttp$"),
    "kolors_core/render/client.py": re.compile(r"aiohttp$"),
    "kolors_core/render/comfyui.py": re.compile(r"(subprocess|socket)$"),
    "kolors_core/render/storage.py": re.compile(r"urllib$"),
    "kolors_core/render/worker.py": re.compile(r"socket$"),
}
# Of what the host brings, what broke the earlier packs at its updates; and what an offline model has no use for.
UNWANTED_MODULES = re.compile(
    r"(transformers|diffusers|accelerate|huggingface_hub|modelscope|requests|urllib3?|http|httpx|aiohttp|ftplib|socket"
    r"|subprocess|multiprocessing|webbrowser|ctypes|marshal|shelve|dill|joblib|random)$"
)
OWN_MODULES = re.compile(r"(kolors_core|comfyui_kolors)$")
DEVICE_WORDS = {"cuda", "mps", "xpu", "empty_cache", "soft_empty_cache", "unload_all_models", "free_memory"}
RUNS_CODE = re.compile(
    r"(pickle\..*|torch\.load|torch\.jit\.load|torch\.hub\..*|allow_pickle|eval|exec|compile|os\.(system|popen|startfile))$"
)


def root_name(node: ast.AST) -> str | None:
    """`a` of `a.b[0].c`; None where the chain starts with something else than a name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def find_host_imports(tree: ast.AST) -> list[str]:
    return [f"line {line}: imports {name}" for name, line in imported_modules(tree) if HOST_MODULES.match(name)]


def find_unwanted_imports(tree: ast.AST) -> list[str]:
    return [
        f"line {line}: imports {name}"
        for name, line in imported_modules(tree)
        if UNWANTED_MODULES.match(name) or OWN_MODULES.match(name)  # the pack's own folder may have any name
    ]


def find_host_assignments(tree: ast.AST) -> list[str]:
    """Attributes and items of what comes from the host that are set or deleted, directly or through another name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            module = getattr(node, "module", None)
            for alias in node.names:
                if HOST_MODULES.match((module or alias.name).split(".")[0]):
                    names.add(alias.asname or (alias.name if module else alias.name.split(".")[0]))
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and len(node.targets) == 1]
    for node in aliases:
        if isinstance(node.targets[0], ast.Name) and root_name(node.value) in names:
            names.add(node.targets[0].id)
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            target = node
        elif isinstance(node, ast.Call) and called_name(node) in ("setattr", "delattr") and node.args:
            target = node.args[0]
        else:
            continue
        if root_name(target) in names:
            faults.append(f"line {node.lineno}: sets or deletes {ast.unparse(target)}")
    return faults


def find_prints(tree: ast.AST) -> list[str]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [f"line {node.lineno}: print" for node in calls if getattr(node.func, "id", "") == "print"]


def find_device_code(tree: ast.AST) -> list[str]:
    """Names of accelerators and of the host's memory clearing: memory belongs to the patcher."""
    faults = []
    for node in ast.walk(tree):
        words = [getattr(node, "attr", ""), getattr(node, "id", "")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = [re.sub(r":\d+$", "", node.value)]
        elif isinstance(node, ast.ImportFrom):
            words = [alias.name for alias in node.names]
        faults += [f"line {node.lineno}: {word}" for word in words if word in DEVICE_WORDS]
    return faults


def find_unsafe_loads(tree: ast.AST) -> list[str]:
    """Ways to run code that a file or a text brings along."""
    faults = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if options.get("weights_only") is not True:
                names = ["allow_pickle" if "allow_pickle" in options else ast.unparse(node.func)]
        faults += [f"line {node.lineno}: {name}" for name in names if RUNS_CODE.match(name)]
    return faults


SOURCE_RULES = {
    find_host_imports: ["import comfy.sd", "from folder_paths import x", "def f():\n  import server", "import nodes"],
    find_unwanted_imports: ["import diffusers", "from transformers.x import y", "import kolors_core.files"],
    find_host_assignments: [
        "import comfy.sd\ncomfy.sd.load = f",
        "import comfy.ops as ops\nops.manual_cast.Linear = f",
        "from comfy.sd import CLIP\nsetattr(CLIP, 'encode', f)",
        "import comfy.supported_models\nmodels = comfy.supported_models.models\nmodels[0] = Kolors",
        "import folder_paths\ndel folder_paths.models_dir",
        "import comfy.sd\nfor comfy.sd.x in range(3): pass",
    ],
    find_prints: ["def f():\n  print('x')"],
    find_device_code: [
        "x.to('cuda')",
        "x.to('cuda:0')",
        "torch.cuda.is_available()",
        "from comfy.model_management import unload_all_models",
        "soft_empty_cache()",
    ],
    find_unsafe_loads: [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "from torch import load",
        "numpy.load(path, allow_pickle=True)",
        "torch.jit.load(path)",
        "eval(text)",
        "os.system(text)",
    ],
}


@pytest.mark.parametrize("path", PACK, ids=name_of)
@pytest.mark.parametrize("rule", SOURCE_RULES, ids=name_of)
def test_source(rule, path):
    if rule is find_host_imports and path.is_relative_to(SEAM):
        return
    faults = rule(ast.parse(path.read_text(encoding="utf-8")))
    if rule is find_unwanted_imports and name_of(path) in NETWORK_ROOMS:
        faults = [fault for fault in faults if not NETWORK_ROOMS[name_of(path)].search(fault)]
    assert not faults, name_of(path)


@pytest.mark.parametrize("rule, bad", [(rule, bad) for rule, snippets in SOURCE_RULES.items() for bad in snippets])
def test_source_rules_find_faults(rule, bad):
    assert rule(ast.parse(bad))


def test_source_rules_allow_what_the_seam_needs():
    good = """
import comfy.supported_models
import torch
from . import nodes
class Kolors(comfy.model_base.SDXL):
    def __init__(self):
        self.sampling = comfy.model_sampling.EPS()
models = comfy.supported_models.models
models.append(Kolors)
torch.load(path, weights_only=True)
x.to(device)
"""
    for rule in SOURCE_RULES:
        assert len(rule(ast.parse(good))) == (1 if rule is find_host_imports else 0)
