"""A table of prompts in a real ComfyUI, and graphs that are cut for workers of several kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy
from client import KolorsGraph
from comfyui_kolors.kolors_core.migrate.embedded import read_graph
from comfyui_kolors.kolors_core.render.outputs import list_files
from comfyui_kolors.kolors_core.render.stages import CONDITIONING, LATENT, Cut
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def workflow(text: str = "a", seed: int = 1) -> KolorsGraph:
    graph = KolorsGraph()
    latent = graph.sample(positive=graph.encode(text), negative=graph.encode("blurred"), seed=seed)
    graph.add("SaveImage", images=graph.add("VAEDecode", samples=latent, vae=graph.vae), filename_prefix="render")
    return graph


def pixels(path: Path) -> numpy.ndarray:
    return numpy.asarray(Image.open(path))


def test_a_table_is_drawn_as_by_hand(server, tmp_path):
    (tmp_path / "workflow.json").write_text(json.dumps(workflow()))
    (tmp_path / "prompts.csv").write_text("prompt,seed\n红苹果,5\nFAIL,-1\n", encoding="utf-8")
    line = [sys.executable, "-m", "kolors_core.render", tmp_path / "workflow.json", tmp_path / "prompts.csv"]
    line = [*map(str, line), "--out", str(tmp_path / "out"), "--server", server.url]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1 and "row 2, column 'seed': '-1' is not a whole number" in done.stderr
    (tmp_path / "prompts.csv").write_text(
        "prompt,seed,1.unet_name\n红苹果,5,\nb,6,gone.safetensors\n", encoding="utf-8"
    )
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1 and "row 2: ComfyUI does not take this graph. KolorsUNETLoader (1):" in done.stderr
    path = tmp_path / "out/images/0000/000001.png"
    graph = workflow("红苹果", 5)
    assert json.loads(read_graph(path.read_bytes(), ("prompt",))) == graph
    entry = server.run(
        {**graph, "9": {**graph[max(graph)], "inputs": {**graph[max(graph)]["inputs"], "filename_prefix": "x"}}}
    )
    (by_hand,) = server.saved_files(entry, ("9", 0), "images")
    assert (pixels(path) == pixels(by_hand)).all() and pixels(path).std() > 1
    (text,) = (tmp_path / "out/manifest").glob("*.jsonl")
    line = json.loads(text.read_text(encoding="utf-8").split("\n")[0])
    assert line["versions"]["comfyui"] and line["seconds"]["sample"] > 0


def test_a_graph_that_is_cut_gives_the_same_bits(server):
    nodes = server.request("/object_info")
    graph = workflow("两只猫", 7)
    (whole,) = images(server, graph)

    def through(cut: Cut, graph: dict, outputs: list[str]) -> dict:
        assert cut.find(graph, nodes) == outputs
        entry = server.run(cut.before(graph, outputs))
        files = {}
        for index, output in enumerate(outputs):
            said = entry["outputs"][f"save-{index}"]
            names = [f"{file['subfolder']}/{file['filename']}" for file in list_files(said)]
            path = Path(said["text"][0]) if not names else server.base / "output" / names[0]
            files[output] = path.relative_to(server.base / "output").as_posix()
        return cut.behind(graph, files)

    encoded = through(CONDITIONING, graph, ["4:0", "5:0"])
    assert not any(node["class_type"] == "CLIPTextEncode" for node in reached(encoded))
    (image,) = images(server, encoded)
    assert (image == whole).all()
    (image,) = images(server, through(LATENT, encoded, ["7:0"]))
    assert (image == whole).all()


def reached(graph: dict) -> list[dict]:
    from comfyui_kolors.kolors_core.render.workflow import ancestors

    ends = [id for id, node in graph.items() if node["class_type"] == "SaveImage"]
    return [graph[id] for id in ancestors(ends, graph)]


def images(server, graph: dict) -> list[numpy.ndarray]:
    """What the graph's only Save Image saves, drawn anew."""
    (end,) = [id for id, node in graph.items() if node["class_type"] == "SaveImage"]
    graph = {id: {**node, "inputs": dict(node["inputs"])} for id, node in graph.items()}
    graph[end]["inputs"]["filename_prefix"] = f"render-{next(server.serial)}"
    return [pixels(path) for path in server.saved_files(server.run(graph), (end, 0), "images")]
