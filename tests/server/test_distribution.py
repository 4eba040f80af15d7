"""The pack as users get it: the registry's archive, in a fresh ComfyUI.

A clone has the same files and more of them, and is what the other tests run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch
from client import Client, KolorsGraph
from comfyui_kolors.demo import random_models
from comfyui_kolors.devtools.demo import DEMO_PROMPT, DEMO_SIZE, DEMO_STEPS, DEMO_TEMPLATE, build_prompt
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, request, running_server
from graph_files import to_prompt
from PIL import Image

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
PACK = "comfyui-kolors"
IMPORT_SECONDS = re.compile(rf"([\d.]+) seconds: .*{PACK}$", re.MULTILINE)


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_checkout() -> bool:
    try:
        return Path(git("rev-parse", "--show-toplevel").strip()) == ROOT
    except (OSError, subprocess.CalledProcessError):
        return False


needs_git = pytest.mark.skipif(not is_checkout(), reason="no git checkout: the archive is made of tracked files")


def archived() -> list[str]:
    """What the registry's tool packs: the tracked files but those of .comfyignore."""
    left_out = set(git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore").split("\0"))
    return [name for name in git("ls-files", "-z").split("\0") if name and name not in left_out]


def unpack(folder: Path) -> None:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in archived():
            file.write(ROOT / name, name)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    archive.unlink()


@needs_git
def test_the_archive_holds_what_nodes_need_and_little_more():
    names = archived()
    for needed in ("__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "locales/zh/main.json"):
        assert needed in names
    assert "kolors_core/render/report.html" in names  # what a module reads beside itself
    for left_out in ("tests/", "benchmarks/", ".ci/", "dev.py", "devtools/", "requirements-dev.txt"):
        assert not [name for name in names if name.startswith(left_out)]
    demo = {name for name in names if name.startswith("demo/")}
    models = {name for name in demo if name.startswith("demo/models/")}
    assert len(models) == 5 and demo - models == {"demo/MODEL_CARD.md", "demo/expand_clip_vision.py"}
    assert sum((ROOT / name).stat().st_size for name in set(names) - models) < 4.5e6


def test_the_requirements_are_met_by_what_comfyui_brings():
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "-r", str(ROOT / "requirements.txt")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Would install" not in result.stdout


def our_nodes(client: Client) -> set[str]:
    """The nodes of the pack that a server offers."""
    info = client.request("/object_info")
    return {name for name, node in info.items() if node["python_module"].endswith(PACK)}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Iterator[Client]:
    """A ComfyUI with the archive, from which all has come without git, and no model."""
    base = tmp_path_factory.mktemp("fresh")
    (base / "custom_nodes").mkdir()
    unpack(base / "custom_nodes" / PACK)
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with running_server(setup, Progress(2), free_port()) as running:
        yield Client(running.url, base, running.log)


@needs_git
def test_the_first_template_draws_without_a_model_file(fresh, server):
    """The picture is that of `dev.py demo` in this checkout; nothing is fetched or written for it."""
    models = {path for path in (fresh.base / "models").rglob("*") if path.is_file()}
    template = fresh.request(f"/api/workflow_templates/{PACK}/{DEMO_TEMPLATE}.json")
    drawn = saved_picture(fresh, to_prompt(template, fresh.request("/object_info")))
    width, height = (int(side) for side in DEMO_SIZE.split("x"))
    expected = saved_picture(server, build_prompt(DEMO_PROMPT, "", 1, DEMO_STEPS, (width, height)))
    assert numpy.array_equal(drawn, expected), numpy.abs(drawn.astype(int) - expected).max()
    assert {path for path in (fresh.base / "models").rglob("*") if path.is_file()} == models


def saved_picture(client: Client, prompt: dict) -> numpy.ndarray:
    (node,) = (name for name, node in prompt.items() if node["class_type"] == "SaveImage")
    (file,) = client.saved_files(client.run(prompt), (node, 0), "images")
    return numpy.asarray(Image.open(file))


@needs_git
def test_it_loads_and_runs_in_a_fresh_host(fresh, server, plain):
    """The image is that of this checkout."""
    random_models.write(fresh.base / "models")
    assert our_nodes(fresh) == our_nodes(server)
    graph = KolorsGraph()
    assert torch.equal(fresh.latent(graph, graph.sample()), plain)
    page = request(f"{fresh.url}/extensions/{PACK}/docs/KolorsUNETLoader.md").decode()
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", page)
    assert request(f"{fresh.url}/extensions/{PACK}/docs/{picture}")[8:12] == b"WEBP"
    templates = fresh.request("/workflow_templates")[PACK]
    assert sorted(templates) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    blueprints = fresh.request("/global_subgraphs") or {}  # none before ComfyUI 0.3.67
    ours = {entry["name"] for entry in blueprints.values() if entry["info"]["node_pack"].endswith(PACK)}
    assert ours == ({path.stem for path in (ROOT / "subgraphs").glob("*.json")} if blueprints else set())
    assert fresh.request("/i18n")["zh"]["nodeDefs"]["KolorsUNETLoader"]["display_name"] == "加载可图 UNet"
    (seconds,) = IMPORT_SECONDS.findall(fresh.read_log())
    print(f"import: {seconds} s")
