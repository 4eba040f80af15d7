"""devtools/template_pictures.py and the table that it draws from, devtools/cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyui_kolors.devtools import template_pictures
from comfyui_kolors.devtools.cards import CARDS
from comfyui_kolors.devtools.cards.card import ALWAYS, MINIATURE, TRAINED, Card, Input, Run, Shown
from comfyui_kolors.devtools.cards.graphs import change, find_node, masked, to_prompt, with_miniature
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress, SetupError, Step
from comfyui_kolors.devtools.server import Server
from comfyui_kolors.devtools.template_pictures import Artist, needed

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = {path.stem: path for path in (ROOT / "workflows").glob("*.json")}
INT, FLOAT, MODEL = ["INT", {"default": 0}], ["FLOAT"], ["MODEL"]
DECLARED = {
    "Loader": {"input": {"required": {"name": [["a", "b"], {}]}}},
    "Text": {"input": {"required": {"text": ["STRING", {"multiline": True}]}}},
    "Sampler": {
        "input": {
            "required": {"model": MODEL, "seed": INT, "steps": ["INT", {"default": 20}]},
            "optional": {"denoise": FLOAT},
        }
    },
}


def node(number: int, kind: str, values: list | None = None, **more) -> dict:
    return {"id": number, "type": kind, "widgets_values": values, **more}


@pytest.fixture
def workflow() -> dict:
    models = [{"name": "published", "directory": "vae"}, {"name": "other", "directory": "loras"}]
    return {
        "nodes": [
            node(4, "Sampler", [7, "randomize", 25, 0.5], inputs=[{"name": "model", "link": 9}]),
            node(1, "MarkdownNote", ["for people"]),
            node(2, "Loader", ["published"], properties={"models": models}),
            node(5, "Text", ["second"]),
            node(3, "Text", ["first"]),
        ],
        "links": [[9, 2, 0, 4, 0, "MODEL"]],
    }


@pytest.fixture
def prompt(workflow) -> dict:
    return with_miniature(to_prompt(workflow, DECLARED))


def test_a_template_becomes_what_the_front_end_sends(workflow):
    prompt = to_prompt(workflow, DECLARED)
    assert list(prompt) == ["2", "3", "4", "5"]  # without the note
    assert prompt["4"]["class_type"] == prompt["4"]["_meta"]["title"] == "Sampler"
    # what stands behind the seed in the canvas is the front end's own
    assert prompt["4"]["inputs"] == {"seed": 7, "steps": 25, "denoise": 0.5, "model": ["2", 0]}


def test_a_widget_that_is_newer_than_the_template_has_its_default(workflow):
    workflow["nodes"][0]["widgets_values"] = [7, "fixed"]
    # denoise has no default, and the server is left to say what is missing
    assert to_prompt(workflow, DECLARED)["4"]["inputs"] == {"seed": 7, "steps": 20, "model": ["2", 0]}


def test_the_miniature_stands_in_the_place_of_the_published_files(prompt):
    assert prompt["2"]["inputs"] == {"name": MINIATURE["vae"]}
    assert all("models" not in each for each in prompt.values())  # the server need not know


@pytest.mark.parametrize("mode", [2, 4])
def test_a_node_that_the_front_end_does_not_send_is_left_out(workflow, mode):
    assert "2" in to_prompt(workflow, DECLARED)
    next(node for node in workflow["nodes"] if node["id"] == 2)["mode"] = mode
    assert "2" not in to_prompt(workflow, DECLARED)


def test_a_file_without_a_miniature_keeps_its_name(workflow):
    workflow["nodes"][2]["widgets_values"] = ["other"]
    assert with_miniature(to_prompt(workflow, DECLARED))["2"]["inputs"] == {"name": "other"}


def test_widgets_are_changed_by_type_and_number(prompt):
    changed = change(prompt, {"Text.text": "a", "Text:2.text": "b", "Sampler.steps": 3})
    assert [changed[key]["inputs"].get("text") for key in ("3", "5")] == ["a", "b"]
    assert changed["4"]["inputs"]["steps"] == 3 and prompt["4"]["inputs"]["steps"] == 25


@pytest.mark.parametrize("address", ["Text:3.text", "Text.words", "Sampler.model", "Nothing.text"])
def test_a_widget_that_is_not_there_is_an_error_unless_it_need_not_be(prompt, address):
    with pytest.raises(SetupError, match=rf"no widget {address} .*devtools/cards"):
        change(prompt, {address: 1})
    assert change(prompt, {address: 1}, must=False) == prompt


def test_a_size_is_changed_where_it_comes_from_a_node_for_it(prompt):
    prompt["9"] = {"class_type": "KolorsImageSize", "inputs": {"size": "1024 x 1024 (1:1)"}}
    prompt["4"]["inputs"]["width"] = ["9", 0]
    assert change(prompt, {"Sampler.width": 128})["4"]["inputs"]["width"] == 128


def test_nodes_are_found_by_type_and_number(prompt):
    assert [find_node(prompt, name) for name in ("Text", "Text:1", "Text:2", "Text:3", "Nothing")] == [
        "3",
        "3",
        "5",
        None,
        None,
    ]


def test_a_masked_image_is_a_whole_workflow():
    prompt = masked("a.png", (1, 2, 3, 4))
    links = [value[0] for each in prompt.values() for value in each["inputs"].values() if isinstance(value, list)]
    assert set(links) <= set(prompt) and prompt["image"]["inputs"]["image"] == "a.png"
    assert (prompt["mask"]["inputs"]["x"], prompt["mask"]["inputs"]["y"]) == (1, 2)
    assert (prompt["all"]["inputs"]["width"], prompt["all"]["inputs"]["height"]) == (3, 4)


class Drawn:
    """In the place of a server: the prompts that ran; an image is the number of its run and the node that saved it."""

    def __init__(self, monkeypatch):
        self.prompts = []
        monkeypatch.setattr("comfyui_kolors.devtools.demo.follow", self.follow)
        monkeypatch.setattr("comfyui_kolors.devtools.demo.view", lambda server, image: image["filename"].encode())
        monkeypatch.setattr(template_pictures, "request", lambda url: json.dumps(self.declared()).encode())

    def follow(self, server, step, prompt):
        self.prompts.append(prompt)
        run = len(self.prompts)
        images = {
            key: {"images": [{"filename": f"{run} {each['class_type']}", "subfolder": "", "type": "output"}]}
            for key, each in prompt.items()
            if each["class_type"] in ("SaveImage", "PreviewImage")
        }
        return {"outputs": images, "status": {}}

    @staticmethod
    def declared() -> dict:
        """Just what the templates below have of widgets."""
        widgets = {
            "CLIPTextEncode": {"text": ["STRING"]},
            "KSampler": {"seed": INT, "steps": INT, "cfg": FLOAT},
            "LoadImage": {"image": [["a"]]},
            "PreviewImage": {},
            "SaveImage": {"filename_prefix": ["STRING"]},
        }
        return {kind: {"input": {"required": inputs}} for kind, inputs in widgets.items()}


@pytest.fixture
def drawn(monkeypatch):
    return Drawn(monkeypatch)


@pytest.fixture
def artist(setup, drawn, tmp_path):
    (setup.base / "input").mkdir()
    return Artist(setup, Server("http://nowhere", None, tmp_path / "log"), Step("[1/1] test"))  # type: ignore[arg-type]


def test_a_card_gets_an_image_of_each_input_and_run(artist, drawn, tmp_path):
    given = Input("a cat", 5, mask=(1, 2, 3, 4))
    other = Run({"KSampler.seed": 8})
    card = Card(
        ("", ""),
        (Shown(given), Shown(other), Shown(Run(output="PreviewImage")), Shown(Run()), Shown("icon")),
        {"LoadImage.image": given, "KSampler.seed": 7},
    )
    artist.draw_card("Kolors-ControlNet", card, tmp_path / "card")
    assert {file.name: file.read_text() for file in (tmp_path / "card").iterdir()} == {
        "0.png": "2 SaveImage",  # 1 was without the mask
        "1.png": "3 SaveImage",
        "2.png": "4 PreviewImage",
        "3.png": "4 SaveImage",  # of the same run
    }
    first, _, *runs = drawn.prompts
    text, sampler = (
        next(each["inputs"] for each in first.values() if each["class_type"] == kind)
        for kind in ("CLIPTextEncode", "KSampler")
    )
    assert text["text"] == "a cat" and (sampler["seed"], sampler["cfg"]) == (5, ALWAYS["KSampler.cfg"])
    assert len(runs) == 2
    for run, seed in zip(runs, (8, 7)):
        inputs = {each["class_type"]: each["inputs"] for each in run.values()}
        assert inputs["KSampler"]["seed"] == seed and inputs["CLIPTextEncode"]["text"] == ""  # the negative prompt
        assert (artist.setup.base / "input" / inputs["LoadImage"]["image"]).read_text() == "2 SaveImage"


def test_an_output_that_a_template_does_not_have_is_an_error(artist):
    with pytest.raises(SetupError, match="no node Canny"):
        artist.run("Kolors-text-to-image", {}, "Canny")


def test_only_what_a_card_takes_is_trained():
    assert needed(["Kolors-text-to-image"]) == []
    assert needed(["Kolors-LoRA", "Kolors-LoRA"]) == ["blue"]
    assert needed(["Kolors-two-models-in-turn", "Kolors-ControlNet"]) == ["control", "restyled"]


def test_training_runs_once_and_again_where_its_file_is_gone(setup, monkeypatch):
    runs = []

    def run(step, command, log, todo):
        runs.append(command[2])
        command[3].parent.mkdir(parents=True, exist_ok=True)
        command[3].touch()

    monkeypatch.setattr(template_pictures, "WORK", setup.base / "pictures")
    monkeypatch.setattr(template_pictures, "run_logged", run)
    for _ in range(2):
        template_pictures.train(setup, Progress(9), "control")
    assert runs == ["control"]
    setup.base.joinpath("models", *TRAINED["control"]).unlink()
    template_pictures.train(setup, Progress(9), "control")
    assert runs == ["control", "control"]


def test_the_base_has_the_miniature_where_its_files_are_looked_for(setup, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(template_pictures, "WORK", tmp_path / "work")
    monkeypatch.setattr(template_pictures, "make_tower", lambda setup, progress: made.append(setup.base))
    for _ in range(2):
        own = template_pictures.own_base(setup, Progress(9))
        assert not list((own.base / "output").iterdir())  # what an earlier run saved
        (own.base / "output" / "old_00001_.png").touch()
    assert own.base == tmp_path / "work" / "base" and made == [own.base] * 2
    for kind, name in MINIATURE.items():
        assert (own.base / "models" / kind / name).is_file() == (kind != "clip_vision")


def test_a_graph_that_leaves_a_file_runs_before_the_one_that_takes_it(artist, drawn, tmp_path, monkeypatch):
    first = Card(("", ""), (Shown(Run()),), {"KSampler.seed": 7})
    monkeypatch.setitem(CARDS, "Kolors-text-to-image", first)
    second = Card(("", ""), (Shown(Run()),), {"KSampler.seed": 8}, after="Kolors-text-to-image")
    artist.draw_card("Kolors-text-to-image", second, tmp_path / "card")
    seeds = [each["inputs"]["seed"] for run in drawn.prompts for each in run.values() if "seed" in each["inputs"]]
    assert seeds == [7, 8] and (tmp_path / "card" / "0.png").read_text() == "2 SaveImage"


def test_the_command_draws_the_named_templates_or_all(setup, monkeypatch, tmp_path, capsys):
    drawn, joined = [], []
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(9)))
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.run_here", lambda setup, *given: joined.append(given) or 0)
    monkeypatch.setattr(template_pictures, "WORK", tmp_path / "work")
    monkeypatch.setattr(template_pictures, "own_base", lambda setup, progress: setup)
    monkeypatch.setattr(template_pictures, "train", lambda setup, progress, kind: drawn.append(kind))
    monkeypatch.setattr(Artist, "draw_card", lambda self, name, card, folder: drawn.append(name))
    assert main(["pictures", "Kolors-LoRA", "--out", str(tmp_path / "out")]) == 0
    assert drawn == ["blue", "Kolors-LoRA"]
    assert joined == [("-m", "devtools.cards.draw", tmp_path / "work" / "images", tmp_path / "out", "Kolors-LoRA")]
    drawn.clear()
    assert main(["pictures"]) == 0 and drawn[-len(TEMPLATES) :] == sorted(TEMPLATES)
    assert main(["pictures", "Kolors-nothing"]) == 1
    assert "No card for Kolors-nothing" in capsys.readouterr().err


def test_every_template_has_a_card():
    missing = set(TEMPLATES) - set(CARDS)
    assert not missing, "devtools/cards says what the picture of a template shows"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_card_speaks_of_nodes_that_its_template_has(name):
    """And its prompt is the one that the graph gets."""
    card, nodes = CARDS[name], json.loads(TEMPLATES[name].read_text(encoding="utf-8"))["nodes"]
    kinds = {str(each["id"]): {"class_type": each["type"]} for each in nodes}
    changes = [card.changes, *(run.changes for run in card.runs())]
    named = [address.partition(".")[0] for each in changes for address in each] + [run.output for run in card.runs()]
    assert [each for each in named if find_node(kinds, each) is None] == []
    assert all(card.caption) and card.after in ("", *CARDS)
    if card.prompt and card.runs():
        stored = [value for each in nodes for value in each.get("widgets_values") or []]
        assert card.prompt in ([value for key, value in card.changes.items() if key.endswith(".text")] or stored)
