"""The house rules, read from the source by `ast` and from the JSON and Markdown files beside it.

Every rule is a function from a text or an object to a list of faults, and has a test that shows it finding one.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACK = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "kolors_core").rglob("*.py"))]
SEAM = ROOT / "kolors_core" / "host"
LANGUAGES = ("en", "zh")
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README_zh.md"}
SECURITY = {"en": ROOT / "SECURITY.md", "zh": ROOT / "SECURITY_zh.md"}
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
TEST_COMMAND = "python3 dev.py test"

HOST_MODULES = re.compile(r"(comfy\w*|folder_paths|latent_preview|server|nodes|execution|node_helpers|app)$")
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
PEER_IDS = re.compile(
    r"(MZ_.*|easy .*|DownloadAndLoadKolorsModel|DownloadAndLoadChatGLM3|LoadChatGLM3|KolorsTextEncode|KolorsSampler"
    r"|IPAdapterFaceIDKolors)$"
)
FRONT_END_NODES = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LOCALE_MARKUP = re.compile(r"[@{}|]")  # the front end's translator reads these as links, variables and plurals
PRIVATE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users|tmp/w)(?:/|\b)")
BINARY = {".jpg", ".jpeg", ".png", ".webp", ".safetensors", ".model", ".npz"}


# ---- rules for the source -------------------------------------------------------------------------------------------


def imported_modules(tree: ast.AST) -> list[tuple[str, int]]:
    """Top-level name and line of every absolute import, by statement or by function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.module, node.lineno))
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__") and node.args:
            found.append((str(getattr(node.args[0], "value", "")), node.lineno))
    return [(name.split(".")[0], line) for name, line in found]


def called_name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


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


def name_of(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else getattr(value, "__name__", None)


@pytest.mark.parametrize("path", PACK, ids=name_of)
@pytest.mark.parametrize("rule", SOURCE_RULES, ids=name_of)
def test_source(rule, path):
    if rule is find_host_imports and path.is_relative_to(SEAM):
        return
    assert not rule(ast.parse(path.read_text(encoding="utf-8"))), name_of(path)


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


# ---- rules for the nodes --------------------------------------------------------------------------------------------


def inputs_of(node: type) -> dict[str, dict]:
    """Options of each input, by name."""
    declared = node.INPUT_TYPES()
    entries = {**declared.get("required", {}), **declared.get("optional", {})}
    return {name: entry[1] if len(entry) > 1 else {} for name, entry in entries.items()}


def node_faults(name: str, node: type) -> list[str]:
    """What a node's declaration lacks."""
    faults = [f"{field} is missing" for field in ("TITLE", "DESCRIPTION") if not getattr(node, field, "").strip()]
    if not getattr(node, "CATEGORY", "").startswith("Kolors/"):
        faults.append("CATEGORY does not begin with Kolors/")
    if not any(CHINESE.search(alias) for alias in getattr(node, "SEARCH_ALIASES", [])):
        faults.append("SEARCH_ALIASES has no Chinese alias")
    for field in ("RETURN_NAMES", "OUTPUT_TOOLTIPS"):
        texts = getattr(node, field, ())
        if len(texts) != len(node.RETURN_TYPES) or not all(texts):
            faults.append(f"{field} does not have a text for each of {len(node.RETURN_TYPES)} outputs")
    faults += [f"{key} has no tooltip" for key, options in inputs_of(node).items() if not options.get("tooltip")]
    declared = node.INPUT_TYPES()
    for key, (kind, *options) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        if kind in ("INT", "FLOAT") and not {"default", "min", "max"} <= set(*options):
            faults.append(f"{key} has no default or no range")
    if PEER_IDS.match(name):
        faults.append("the ID belongs to another pack")
    return faults


def node_classes(tree: ast.AST) -> list[str]:
    """Classes that declare inputs."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return [c.name for c in classes if any(getattr(part, "name", "") == "INPUT_TYPES" for part in c.body)]


def our_classes() -> list[str]:
    files = sorted((ROOT / "nodes").glob("*.py"))
    return [name for file in files for name in node_classes(ast.parse(file.read_text(encoding="utf-8")))]


@pytest.fixture(scope="module")
def mappings() -> SimpleNamespace:
    """The nodes as the host sees them."""
    importlib.import_module(
        "comfyui_kolors.kolors_core.host.model_files"
    ).register()  # as the pack's __init__ does first
    module = importlib.import_module("comfyui_kolors.nodes")
    return SimpleNamespace(classes=module.NODE_CLASS_MAPPINGS, titles=module.NODE_DISPLAY_NAME_MAPPINGS)


@pytest.mark.host
def test_node_declarations(mappings):
    faults = {name: node_faults(name, node) for name, node in mappings.classes.items()}
    assert not {name: found for name, found in faults.items() if found}
    assert mappings.titles == {name: node.TITLE for name, node in mappings.classes.items()}
    assert len(set(mappings.titles.values())) == len(mappings.titles), "two nodes have the same title"


@pytest.mark.host
def test_every_node_is_registered(mappings):
    assert sorted(our_classes()) == sorted(mappings.classes)


def test_node_ids_are_unique_and_ours():
    names = our_classes()
    assert len(set(names)) == len(names)
    assert not [name for name in names if PEER_IDS.match(name)]


class GoodNode:
    TITLE = "Good"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = "A node."
    SEARCH_ALIASES = ["good", "好"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"tooltip": "A text."})}}


@pytest.mark.parametrize(
    "fault",
    [
        {"TITLE": ""},
        {"DESCRIPTION": " "},
        {"CATEGORY": "loaders"},
        {"SEARCH_ALIASES": ["good"]},
        {"RETURN_NAMES": ()},
        {"OUTPUT_TOOLTIPS": ("",)},
        {"INPUT_TYPES": lambda: {"required": {"text": ("STRING",)}}},
        {"INPUT_TYPES": lambda: {"optional": {"text": ("STRING", {"default": ""})}}},
        {"INPUT_TYPES": lambda: {"required": {"steps": ("INT", {"default": 1, "min": 1, "tooltip": "Steps."})}}},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_node_rule_finds_faults(fault):
    assert not node_faults("GoodNode", GoodNode)
    assert len(node_faults("GoodNode", type("Bad", (GoodNode,), fault))) == 1


@pytest.mark.parametrize("name", ["KolorsSampler", "KolorsTextEncode", "LoadChatGLM3", "MZ_Anything"])
def test_node_rule_knows_the_ids_of_other_packs(name):
    assert node_faults(name, GoodNode) == ["the ID belongs to another pack"]


def test_node_classes_are_found_by_their_inputs():
    assert node_classes(ast.parse("class A:\n  def INPUT_TYPES(cls): pass\nclass B: pass")) == ["A"]


# ---- rules for the locales ------------------------------------------------------------------------------------------


def english_texts(classes: dict[str, type]) -> dict[str, dict]:
    """locales/en/nodeDefs.json as the declarations have it.

    After a change of a tooltip, write `json.dumps(english_texts(...), indent=2, ensure_ascii=False)` into that file.
    """
    return {
        name: {
            "display_name": node.TITLE,
            "description": node.DESCRIPTION,
            "inputs": {key: {"name": key, "tooltip": o.get("tooltip", "")} for key, o in inputs_of(node).items()},
            "outputs": {
                str(i): {"name": key, "tooltip": tooltip}
                for i, (key, tooltip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS))
            },
        }
        for name, node in classes.items()
    }


def flatten(texts: object, path: str = "") -> dict[str, str]:
    """{"a": {"b": "x"}} as {"a.b": "x"}."""
    if not isinstance(texts, dict):
        return {path: texts}
    parts = (flatten(value, f"{path}.{key}" if path else key) for key, value in texts.items())
    return {key: value for part in parts for key, value in part.items()}


def text_differences(found: dict, expected: dict) -> list[str]:
    """The keys in which two locale files differ, with both texts."""
    ours, theirs = flatten(found), flatten(expected)
    keys = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    return [f"{key}\n    file:        {ours.get(key)}\n    declaration: {theirs.get(key)}" for key in keys]


def chinese_faults(english: dict, chinese: dict) -> list[str]:
    """Keys that only one language has, and Chinese texts without a Chinese character."""
    en, zh = flatten(english), flatten(chinese)
    faults = [f"{key} is only in one language" for key in sorted(en.keys() ^ zh.keys())]
    faults += [f"{key} is not Chinese: {text}" for key, text in zh.items() if not is_translated(key, text)]
    return faults


def is_translated(key: str, text: str) -> bool:
    """Whether a text is Chinese; the name of an input or output may be a term such as CLIP."""
    return bool(CHINESE.search(text)) or (key.endswith(".name") and text.isascii() and text.isupper())


def markup_faults(texts: dict) -> list[str]:
    return [f"{key}: {text}" for key, text in flatten(texts).items() if LOCALE_MARKUP.search(text) or not text.strip()]


def locale(language: str, name: str) -> dict:
    return json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))


@pytest.mark.host
def test_english_locale_is_what_the_nodes_declare(mappings):
    differences = text_differences(locale("en", "nodeDefs.json"), english_texts(mappings.classes))
    assert not differences, "locales/en/nodeDefs.json differs:\n" + "\n".join(differences)


@pytest.mark.parametrize("name", ["nodeDefs.json", "main.json"])
def test_locales_have_the_same_keys_in_both_languages(name):
    english, chinese = (locale(language, name) for language in LANGUAGES)
    assert not chinese_faults(english, chinese)
    assert not markup_faults(english) + markup_faults(chinese)


def test_locales_name_our_nodes_and_our_category():
    assert sorted(locale("en", "nodeDefs.json")) == sorted(our_classes())
    # The host has translated the inner categories (loaders, conditioning); ours would replace them for every pack.
    assert locale("en", "main.json") == {"nodeCategories": {"Kolors": "Kolors"}}


def test_locale_rules_find_faults():
    english = {"N": {"display_name": "Load", "inputs": {"clip": {"name": "clip"}}}}
    assert "Load" in text_differences({"N": {"display_name": "Other"}}, english)[0]
    assert not chinese_faults(english, {"N": {"display_name": "加载", "inputs": {"clip": {"name": "CLIP"}}}})
    assert chinese_faults(english, {"N": {"display_name": "Load", "inputs": {"clip": {"name": "CLIP"}}}})
    assert chinese_faults(english, {"N": {"display_name": "加载"}})
    assert markup_faults({"a": "a|b"}) and markup_faults({"a": ""}) and not markup_faults({"a": "(b:1.2)"})


# ---- rules for the pages --------------------------------------------------------------------------------------------


def page_faults(page: str, texts: dict) -> list[str]:
    """What a help page of a node leaves out; `texts` is the node's entry of the English locale."""
    faults = [] if page.startswith("# ") else ["no title"]
    faults += [f"the input {name} is not explained" for name in texts["inputs"] if f"`{name}`" not in page]
    return faults + [
        f"the output {o['name']} is not explained" for o in texts["outputs"].values() if f"`{o['name']}`" not in page
    ]


def headings(text: str) -> list[int]:
    """Levels of the headings of a Markdown text, fenced blocks left out."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links of a Markdown text to files that are not there."""
    links = re.findall(r"\]\(([^)#\s]+)", text)
    return [link for link in links if not re.match(r"\w+:", link) and not (folder / link).exists()]


def chinese_page(node: str) -> Path:
    return ROOT / "web" / "docs" / node / "zh.md"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page(language):
    """The front end asks for <NodeId>/<language>.md and then for <NodeId>.md."""
    for name, texts in locale("en", "nodeDefs.json").items():
        page = ROOT / "web" / "docs" / f"{name}.md" if language == "en" else chinese_page(name)
        text = page.read_text(encoding="utf-8")
        assert not page_faults(text, texts), name_of(page)
        assert bool(CHINESE.search(text.splitlines()[0])) == (language == "zh"), name_of(page)
        assert headings(text) == headings(chinese_page(name).read_text(encoding="utf-8")), name


def test_no_help_page_is_left_over():
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    folders = {path.name for path in (ROOT / "web" / "docs").iterdir() if path.is_dir()}
    assert pages == folders - {"images"} == set(our_classes())


def test_every_help_page_shows_a_small_picture():
    """The front end looks for a page's pictures beside the English pages, whatever the language.

    `python3 dev.py test tests/browser/pictures.py` draws them.
    """
    docs, shown = ROOT / "web" / "docs", set()
    for name in our_classes():
        for page, picture in ((docs / f"{name}.md", f"{name}.webp"), (chinese_page(name), f"{name}.zh.webp")):
            shown.add(picture)
            assert re.findall(r"!\[.+\]\((.+)\)", page.read_text(encoding="utf-8")) == [f"images/{picture}"], page
            assert 1_000 < (docs / "images" / picture).stat().st_size < 40_000, picture
    assert {path.name for path in (docs / "images").iterdir()} == shown


@pytest.mark.parametrize("pages", [READMES, SECURITY], ids=["readme", "security"])
def test_pages_in_both_languages_have_the_same_headings(pages):
    english, chinese = (path.read_text(encoding="utf-8") for path in pages.values())
    assert headings(english) == headings(chinese)
    assert len(headings(english)) > 5


def missing_tests(text: str) -> list[str]:
    """Tests that a text names and that are not there; a parametrised one goes by its function."""
    missing = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        path = ROOT / file
        if not path.is_file() or f"\ndef {name}(" not in path.read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    return missing


def test_the_security_page_names_tests_that_are_there():
    english, chinese = (path.read_text(encoding="utf-8") for path in SECURITY.values())
    assert not missing_tests(english)
    assert re.findall(r"`tests/.*?`", english) == re.findall(r"`tests/.*?`", chinese)
    assert missing_tests("`tests/test_contract.py::test_gone` `tests/gone.py::test_gone`")


@pytest.mark.parametrize("path", [*READMES.values(), *SECURITY.values(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_files(path):
    assert not broken_links(path.read_text(encoding="utf-8"), ROOT)


def test_ci_runs_the_test_command_of_the_readmes():
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").splitlines()[-1] == TEST_COMMAND
    assert os.name == "nt" or os.access(script, os.X_OK)
    for path in READMES.values():
        fences = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert any(TEST_COMMAND in fence.splitlines() for fence in fences), name_of(path)


def test_changelog_begins_with_the_current_version():
    """After what is not released yet."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == version
    assert "Unreleased" not in headings[1:]


def test_page_rules_find_faults(tmp_path):
    texts = {"inputs": {"clip": {}}, "outputs": {"0": {"name": "model"}}}
    assert not page_faults("# Node\n`clip` `model`", texts)
    assert (
        page_faults("`clip` `model`", texts)
        and page_faults("# N\n`model`", texts)
        and page_faults("# N\n`clip`", texts)
    )
    assert headings("# a\n```\n# b\n```\n## c\n") == [1, 2]
    assert broken_links("[a](gone.md) [b](https://example.org)", tmp_path) == ["gone.md"]


# ---- rules for the workflows ----------------------------------------------------------------------------------------


def workflow_types(workflow: dict) -> set[str]:
    """Node types of a canvas workflow, those inside its subgraphs too, but not the subgraphs themselves."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    types = {node["type"] for graph in (workflow, *subgraphs) for node in graph["nodes"]}
    return types - {graph["id"] for graph in subgraphs} - FRONT_END_NODES


def declared_ids(tree: ast.AST) -> set[str]:
    """Node IDs that a file of the host declares: keys of NODE_CLASS_MAPPINGS, and node_id of its newer schemas."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if "NODE_CLASS_MAPPINGS" in (getattr(target, "id", "") for target in targets):
                found |= {getattr(key, "value", None) for key in node.value.keys}
        elif isinstance(node, ast.keyword) and node.arg == "node_id":
            found.add(getattr(node.value, "value", None))
    return found


def stock_ids(host: Path) -> set[str]:
    files = [host / "nodes.py", *(host / "comfy_extras").glob("*.py")]
    return set().union(*(declared_ids(ast.parse(file.read_text(encoding="utf-8"))) for file in files))


def template_faults(folder: Path) -> list[str]:
    """Workflows without a thumbnail, and files that are neither."""
    names = {path.name for path in folder.iterdir()}
    faults = [f"{name} has no .jpg" for name in names if name.endswith(".json") and name[:-5] + ".jpg" not in names]
    return faults + [f"{name} is no workflow" for name in names if not name.endswith((".json", ".jpg"))]


def test_workflows_have_thumbnails():
    assert WORKFLOWS
    assert not template_faults(ROOT / "workflows")
    others = ("example_workflows", "example", "examples", "workflow")
    assert not [name for name in others if (ROOT / name).exists()], "the host serves one folder of templates only"


#: Loaders of files that a template cannot offer: the user's own LoRA, and the miniature in this repository.
OWN_FILES = re.compile(r"pytorch_lora_weights\.safetensors|kolors-demo-.*")


def canvas_faults(workflow: dict, ours: set[str]) -> list[str]:
    """What a template lacks for a user who has neither the models nor the pack, or not the language of its author."""
    faults, addresses = [], []
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    if sorted(bool(CHINESE.search(note.splitlines()[0])) for note in notes) != [False, True]:
        faults.append("it does not have a note in each language")
    for node in workflow["nodes"]:
        name, properties, widgets = node["type"], node.get("properties", {}), node.get("widgets_values") or []
        if "title" in node:
            faults.append(f"{name} has a title of its own, which stays in one language")
        if name in FRONT_END_NODES:
            continue
        pack = "comfyui-kolors" if name in ours else "comfy-core"
        if properties.get("cnr_id") != pack or not properties.get("ver"):
            faults.append(f"{name} does not name {pack} and its version")
        models = {model["name"]: model for model in properties.get("models", [])}
        if "Loader" in name and widgets and not OWN_FILES.match(widgets[0]):
            model = models.get(widgets[0], {})
            if not (model.get("directory") and model.get("url", "").startswith("https://")):
                faults.append(f"{name} does not say where {widgets[0]} comes from and goes to")
        addresses += [model["url"] for model in models.values()]
    for note in notes:
        faults += [f"a note does not link to {address}" for address in addresses if f"]({address})" not in note]
    return faults


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_help_users_without_models_or_pack(path):
    assert not canvas_faults(json.loads(path.read_text(encoding="utf-8")), set(our_classes()))


def test_canvas_rule_finds_faults():
    def template(**changes) -> dict:
        url = "https://example.org/a"
        properties = {"cnr_id": "comfyui-kolors", "ver": "1"}
        properties["models"] = [{"name": "a", "directory": "vae", "url": url}]
        loader = {"type": "OurLoader", "widgets_values": ["a"], "properties": properties, **changes}
        notes = [{"type": "MarkdownNote", "widgets_values": [f"{title}\n[a]({url})"]} for title in ("Kolors", "可图")]
        return {"nodes": [*notes, loader]}

    assert not canvas_faults(template(), {"OurLoader"})
    for bad in (
        {"title": "x"},
        {"widgets_values": ["b"]},
        {"properties": {"cnr_id": "comfyui-kolors", "ver": "1"}},
        {"type": "OtherLoader"},
    ):
        assert len(canvas_faults(template(**bad), {"OurLoader"})) == 1, bad
    assert canvas_faults({"nodes": template()["nodes"][1:]}, {"OurLoader"})


@pytest.mark.host
@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_use_known_nodes(path):
    types = workflow_types(json.loads(path.read_text(encoding="utf-8")))
    assert types & set(our_classes())
    assert not types - set(our_classes()) - stock_ids(Path(os.environ["COMFYUI_PATH"]))


@pytest.mark.host
def test_stock_nodes_are_found_in_the_host():
    assert {"KSampler", "VAELoader", "EmptyLatentImage", "SamplerCustomAdvanced"} <= stock_ids(
        Path(os.environ["COMFYUI_PATH"])
    )


def test_workflow_rules_find_faults(tmp_path):
    for name in ("a.json", "a.jpg", "b.json", "notes.txt"):
        (tmp_path / name).touch()
    assert sorted(template_faults(tmp_path)) == ["b.json has no .jpg", "notes.txt is no workflow"]
    inner = {"id": "s", "nodes": [{"type": "Inner"}]}
    workflow = {"nodes": [{"type": "Outer"}, {"type": "Note"}, {"type": "s"}], "definitions": {"subgraphs": [inner]}}
    assert workflow_types(workflow) == {"Outer", "Inner"}
    assert declared_ids(ast.parse("NODE_CLASS_MAPPINGS = {'A': A}\nio.Schema(node_id='B')\nOTHER = {'C': C}")) == {
        "A",
        "B",
    }


# ---- rules for the tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named, collected",
    [
        ([], ["tests/test_plain.py::test"]),
        (["tests"], ["tests/test_plain.py::test"]),
        (["tests/accelerator"], ["tests/accelerator/test_modes.py::test"]),
        (["tests/accelerator/test_modes.py"], ["tests/accelerator/test_modes.py::test"]),
    ],
)
def test_the_simulated_accelerator_is_tried_only_where_it_is_named(tmp_path, named, collected):
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "tests" / "accelerator").mkdir(parents=True)
    for name in ("test_plain.py", "accelerator/test_modes.py"):
        (tmp_path / "tests" / name).write_text("def test(): pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *named]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if "::" in line] == collected, done.stdout + done.stderr
    assert (ROOT / "tests" / "accelerator" / "test_modes.py").is_file()


# ---- rules for every file -------------------------------------------------------------------------------------------


def private_paths(text: str) -> list[str]:
    """Absolute paths of the machine that a file was written on."""
    return [f"line {text[: m.start()].count(chr(10)) + 1}: {m[0]}" for m in PRIVATE_PATH.finditer(text)]


def tracked_files() -> list[Path]:
    """The files of the repository, new ones too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_somebodys_machine():
    texts = {p: p.read_text(encoding="utf-8") for p in tracked_files() if p.suffix not in BINARY}
    faults = {name_of(path): private_paths(text) for path, text in texts.items()}
    assert not {name: found for name, found in faults.items() if found}


def test_path_rule_finds_faults():
    for bad in ("work", "root", "home", "Users"):
        assert private_paths(f"see /{bad}/x") and private_paths(f"'/{bad}/x'")
    assert not private_paths("https://example.org/home/x and ./work/x and models/root/x")
