"""The templates and blueprints: files for the canvas of a user without the models, and perhaps without the pack."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import struct
from pathlib import Path

import pytest
from comfyui_kolors.devtools.drawing import NOTE_COLOURS
from comfyui_kolors.devtools.templates import needs_newer
from comfyui_kolors.kolors_core.models import addresses, catalog
from house import CHINESE, ROOT, name_of, our_classes

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
THUMBNAIL, THUMBNAIL_BYTES = (512, 512), 60_000
FRONT_END_NODES = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
#: Loaders of files that a template cannot offer: the user's own LoRA and UNet, and the miniature in this package.
OWN_FILES = re.compile(r"pytorch_lora_weights\.safetensors|Kolors-UNet-with-guidance\.safetensors|kolors-demo")
#: What the front end offers to download: files with these endings, from these addresses.
ENDINGS = (".safetensors", ".sft", ".ckpt", ".pth", ".pt")
SOURCES = ("https://huggingface.co/", "https://civitai.com/")
NOT_OFFERED = "ipa-faceid-plus.bin"  # is published in no other container
COMMAND = re.compile(r"^python -m kolors_core\.models get (.*?)(| --from .*)$", re.MULTILINE)
#: Nodes 2.0 shows it with a contrast of 1.8 to 1 in the light theme.
INLINE_CODE = re.compile(r"(?<!`)`(?!`)")


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


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG's frame header says."""
    position = 2
    while data[position + 1] not in (0xC0, 0xC1, 0xC2):
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    height, width = struct.unpack(">HH", data[position + 5 : position + 9])
    return width, height


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_thumbnails_fit_the_cards_of_the_browser(path):
    data = path.with_suffix(".jpg").read_bytes()
    assert jpeg_size(data) == THUMBNAIL and len(data) <= THUMBNAIL_BYTES


def node_faults(nodes: list[dict], ours: set[str]) -> list[str]:
    """Nodes that do not say which pack or model they need, or that are titled in one language."""
    faults = []
    for node in nodes:
        name, properties, widgets = node["type"], node.get("properties", {}), node.get("widgets_values") or []
        if "title" in node:
            faults.append(f"{name} has a title of its own, which stays in one language")
        if name in FRONT_END_NODES:
            continue
        pack = "comfyui-kolors" if name in ours else "comfy-core"
        if properties.get("cnr_id") != pack or not properties.get("ver"):
            faults.append(f"{name} does not name {pack} and its version")
        models = {model["name"]: model for model in properties.get("models", [])}
        chosen = widgets[0] if widgets and isinstance(widgets[0], str) else ""
        if "Loader" in name and chosen and not OWN_FILES.match(chosen):
            model = models.get(chosen, {})
            if not (model.get("directory") and model.get("url", "").startswith("https://")):
                faults.append(f"{name} does not say where {chosen} comes from and goes to")
    return faults


def canvas_faults(workflow: dict, ours: set[str]) -> list[str]:
    """What a template lacks for a user who has neither the models nor the pack, or not the language of its author."""
    boxes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    notes = [node["widgets_values"][0] for node in boxes]
    faults = node_faults(workflow["nodes"], ours) + [fault for node in boxes for fault in note_faults(node)]
    if sorted(bool(CHINESE.search(note.splitlines()[0])) for note in notes) != [False, True]:
        faults.append("it does not have a note in each language")
    models = [model for node in workflow["nodes"] for model in node.get("properties", {}).get("models", [])]
    for note in notes:
        faults += [f"a note does not link to {m['url']}" for m in models if f"]({m['url']})" not in note]
    return faults


def note_faults(note: dict) -> list[str]:
    """What makes a note hard to read."""
    faults = [f"a note's {key} is not {colour}" for key, colour in NOTE_COLOURS.items() if note.get(key) != colour]
    inline = INLINE_CODE.search(note["widgets_values"][0])
    return faults + (["a note has code in a line of text, in the place of a block"] if inline else [])


def test_note_rule_finds_faults():
    def note(text: str, **changes: str) -> dict:
        return {"type": "MarkdownNote", "widgets_values": [text], **NOTE_COLOURS, **changes}

    assert not note_faults(note("text\n\n```\ncommand\n```\n"))
    assert len(note_faults(note("text `code` text"))) == 1
    assert len(note_faults(note("text", bgcolor="#653"))) == 1
    assert len(note_faults({"widgets_values": [""]})) == 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_help_users_without_models_or_pack(path):
    assert not canvas_faults(json.loads(path.read_text(encoding="utf-8")), set(our_classes()))


def test_canvas_rule_finds_faults():
    def template(**changes) -> dict:
        url = "https://example.org/a"
        properties = {"cnr_id": "comfyui-kolors", "ver": "1"}
        properties["models"] = [{"name": "a", "directory": "vae", "url": url}]
        loader = {"type": "OurLoader", "widgets_values": ["a"], "properties": properties, **changes}
        texts = [f"{title}\n[a]({url})" for title in ("Kolors", "可图")]
        notes = [{"type": "MarkdownNote", "widgets_values": [text], **NOTE_COLOURS} for text in texts]
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


def entry(file: catalog.ModelFile) -> dict[str, str]:
    """What a template says of a model file."""
    known = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
    address = addresses.address(file, addresses.HUGGING_FACE)
    return {"name": file.file, "url": address, "directory": file.folder, **known}


def offered(model: dict) -> bool:
    """Whether the front end has a button for it."""
    return model["name"].endswith(ENDINGS) and model["url"].startswith(SOURCES)


def download_faults(workflow: dict) -> list[str]:
    """Models that are not the catalog's or that the front end cannot fetch, and commands that fetch other files."""
    faults, fetched = [], set()
    files = {file.file: file for file in catalog.FILES}
    for node in workflow["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            name = model["name"]
            if name not in files or model != entry(files[name]):
                faults.append(f"{name} is not as in the catalog")
            if offered(model):
                fetched.add(name)
            elif name != NOT_OFFERED:
                faults.append(f"{name} cannot be downloaded by the front end")
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote" and fetched:
            commands = COMMAND.findall(node["widgets_values"][0])
            files_of = [({file.file for file in catalog.files_of(names.split())}, folder) for names, folder in commands]
            if [names for names, folder in files_of if folder] != [fetched]:
                faults.append(f"a note takes other files from a folder than {sorted(fetched)}")
    return faults


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_offer_the_files_of_the_catalog(path, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert not download_faults(json.loads(path.read_text(encoding="utf-8")))


def test_download_rule_finds_faults(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    vae = entry(catalog.BY_NAME["vae"])

    def template(model: dict, text: str = "python -m kolors_core.models get vae --from ~/Downloads") -> dict:
        note = {"type": "MarkdownNote", "widgets_values": [text]}
        return {"nodes": [note, {"type": "VAELoader", "properties": {"models": [model]}}]}

    assert not download_faults(template(vae))
    assert not download_faults(template(entry(catalog.BY_NAME["faceid-plus"]), ""))
    for change in ({"name": "other.safetensors"}, {"directory": "loras"}, {"hash": "0"}, {"hash_type": "sha"}):
        assert download_faults(template(vae | change)), change
    assert download_faults(template({key: value for key, value in vae.items() if key != "hash"}))
    for change in ({"name": "a.bin"}, {"url": "https://example.org/a"}):
        assert "cannot be downloaded" in download_faults(template(vae | change))[1], change
    for text in ("", "python -m kolors_core.models get vae", "python -m kolors_core.models get unet --from ."):
        assert len(download_faults(template(vae, text))) == 1, text
    with pytest.raises(KeyError):
        download_faults(template(vae, "python -m kolors_core.models get sdxl"))


@pytest.mark.host
@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_use_known_nodes(path):
    workflow, host = json.loads(path.read_text(encoding="utf-8")), Path(os.environ["COMFYUI_PATH"])
    types = workflow_types(workflow)
    assert types & set(our_classes())
    assert needs_newer(workflow, host) or not types - set(our_classes()) - stock_ids(host)


def test_every_node_is_in_a_workflow():
    used = set().union(*(workflow_types(json.loads(path.read_text(encoding="utf-8"))) for path in WORKFLOWS))
    assert not set(our_classes()) - used


def test_a_note_asks_for_a_newer_host(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.9.2"\n')

    def asked(text: str) -> dict:
        return {"nodes": [{"type": "VAELoader"}, {"type": "MarkdownNote", "widgets_values": [text]}]}

    assert needs_newer(asked("Needs ComfyUI 0.25 or newer; before"), tmp_path)
    for text in ("Needs ComfyUI 0.9.2 or newer", "Needs ComfyUI 0.3.75 or newer", "ComfyUI 0.25"):
        assert not needs_newer(asked(text), tmp_path), text


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


# ---- blueprints -----------------------------------------------------------------------------------------------------


def blueprint_faults(text: str, title: str, ours: set[str]) -> list[str]:
    """What is wrong with a subgraph that the front ends list as a node."""
    blueprint = json.loads(text)
    (box,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in inner["nodes"]}
    about = (blueprint["extra"]["BlueprintDescription"], " ".join(blueprint["extra"]["BlueprintSearchAliases"]))
    faults = node_faults(inner["nodes"], ours) + download_faults(inner)
    if not text.isascii():
        faults.append("ComfyUI 0.3.75 reads it in the encoding of the system: escape what is not ASCII")
    if box["type"] != inner["id"] or inner["name"] != title:
        faults.append("its node is no instance of its subgraph, or that is not named as the file")
    if not isinstance(inner["state"]["lastNodeId"], int):
        faults.append("front end 1.32.9 warns of a lastNodeId that is a text")
    if not all(CHINESE.search(words) and re.search("[a-z]{3}", words) for words in about):
        faults.append("it is not described in both languages")
    if inner["description"] != about[0] or inner["category"] != "Kolors":
        faults.append("its subgraph has another description, or another category than Kolors")
    if FRONT_END_NODES & {node["type"] for node in nodes.values()}:
        faults.append("notes belong into templates")
    links = {link["id"]: link for link in inner["links"]}
    for slot, shown in zip(inner["inputs"], box["inputs"], strict=True):
        for link in (links[number] for number in slot["linkIds"]):
            node = nodes[link["target_id"]]
            widget = node["inputs"][link["target_slot"]].get("widget", {}).get("name")
            value = node.get("widgets_values_named", {}).get(widget)  # what front ends before 1.58 show
            if "widget" in shown and box["widgets_values_named"][shown["name"]] != value:
                faults.append(f"{shown['name']} has one value on the node and another one inside")
    return faults


@pytest.mark.parametrize("path", BLUEPRINTS, ids=name_of)
def test_blueprints_help_users_without_models_or_pack(path, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert not blueprint_faults(path.read_text(encoding="utf-8"), path.stem, set(our_classes()))


@pytest.mark.host
@pytest.mark.parametrize("path", BLUEPRINTS, ids=name_of)
def test_blueprints_use_known_nodes(path):
    types = workflow_types(json.loads(path.read_text(encoding="utf-8")))
    assert {"KolorsUNETLoader", "KolorsPromptEncode"} <= types
    assert not types - set(our_classes()) - stock_ids(Path(os.environ["COMFYUI_PATH"]))


def test_blueprint_rule_finds_faults(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    path = ROOT / "subgraphs" / "Kolors text to image.json"
    text, ours = path.read_text(encoding="utf-8"), set(our_classes())

    def faults(change, title: str = path.stem) -> list[str]:
        blueprint = json.loads(text)
        change(blueprint["extra"], blueprint["nodes"][0], blueprint["definitions"]["subgraphs"][0])
        return blueprint_faults(json.dumps(blueprint), title, ours)

    assert not faults(lambda *_: None)
    assert len(faults(lambda *_: None, "Another title")) == 1
    assert len(blueprint_faults(json.dumps(json.loads(text), ensure_ascii=False), path.stem, ours)) == 1
    for change in (
        lambda extra, box, inner: extra.update(BlueprintSearchAliases=["kolors"]),
        lambda extra, box, inner: box.update(type="other"),
        lambda extra, box, inner: box["widgets_values_named"].update(steps=20),
        lambda extra, box, inner: inner.update(name="Text to image"),
        lambda extra, box, inner: inner.update(description="x"),
        lambda extra, box, inner: inner.update(category="Image"),
        lambda extra, box, inner: inner["state"].update(lastNodeId="12"),
        lambda extra, box, inner: inner["nodes"].append({"id": 99, "type": "Note"}),
        lambda extra, box, inner: inner["nodes"][0]["properties"].pop("ver"),
        lambda extra, box, inner: inner["nodes"][0]["properties"]["models"][0].update(hash="0"),
    ):
        assert len(faults(change)) == 1, inspect.getsource(change)
