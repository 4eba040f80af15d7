"""What the command for other packs does without a ComfyUI: graphs, verdicts, files, the page."""

import io
import json
import random
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
from comfyui_kolors.devtools.neighbours import canvas, command, environment, page, record, trial
from comfyui_kolors.devtools.neighbours.record import Neighbour, Tried
from comfyui_kolors.devtools.neighbours.scene import Family, NoSuchNode, Scene
from comfyui_kolors.devtools.neighbours.tries import PACKS
from comfyui_kolors.devtools.neighbours.tries.recipe import (
    CHANGES,
    DRAWS,
    KEEPS,
    OnCanvas,
    Script,
    Try,
    file,
    given,
    node,
    of,
    sampled,
)
from comfyui_kolors.devtools.progress import SetupError
from PIL import Image
from PIL.PngImagePlugin import PngInfo

LINKS = {"model": ["MODEL"], "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"]}
WIDGETS = {"seed": ["INT", {"default": 0}], "steps": ["INT", {"default": 20}], "note": ["STRING", {"default": "x"}]}


def declare(required, output, optional=None):
    return {"input": {"required": required, "optional": optional or {}}, "output": output, "output_name": output}


DECLARED = {
    "Load": declare({}, ["MODEL", "CLIP", "VAE"]),
    "CLIPTextEncode": declare({"clip": ["CLIP"], "text": ["STRING", {}]}, ["CONDITIONING"]),
    "EmptyLatentImage": declare({"width": ["INT", {"default": 512}]}, ["LATENT"]),
    "KSampler": declare(LINKS | WIDGETS, ["LATENT"]),
    "SaveLatent": declare({"samples": ["LATENT"]}, []),
    "Patch": declare(
        {"model": ["MODEL"], "mode": [["a", "b"], {"default": "b"}]}, ["MODEL"],
        {"mask": ["MASK"], "n": ["INT:seed", {}]},
    ),
    "Both": declare({"positive": ["CONDITIONING"], "negative": ["CONDITIONING"]}, ["CONDITIONING", "CONDITIONING"]),
    "Text": declare({"text": ["STRING", {"forceInput": True}]}, ["NUMBER"]),
    "Combo": declare({"name": ["COMBO", {"options": ["first", "second"]}], "scheduler": [["simple"], {}]}, ["SIGMAS"]),
}  # fmt: skip
FAMILY = Family("F", ("Load", {}, 0), ("Load", {}, 1), ("Load", {}, 2), ("Load", {}, 3), {"lora": "a.safetensors"})


@pytest.fixture
def scene():
    return Scene(DECLARED, FAMILY)


# ---- graphs ---------------------------------------------------------------------------------------------------------


def test_a_node_gets_what_it_has_on_the_canvas_or_something_to_draw_with(scene):
    key, _ = scene.add("Patch", mode="a")
    assert scene[key]["inputs"] == {"mode": "a", "n": 0, "model": ["1", 0]}
    assert scene["1"]["class_type"] == "Load"
    key, _ = scene.add("Combo")
    assert scene[key]["inputs"] == {"name": "first", "scheduler": "simple"}


def test_what_a_sampler_is_given_stands_in_every_node(scene):
    key, _ = scene.sample()
    assert scene[key]["inputs"]["steps"] == 4 and scene[key]["inputs"]["note"] == "x"


def test_one_prompt_is_the_negative_one(scene):
    key, _ = scene.sample()
    texts = [scene[scene[key]["inputs"][name][0]]["inputs"]["text"] for name in ("positive", "negative")]
    assert texts[0] and not texts[1]


@pytest.mark.parametrize(("one", "inputs"), [
    (node("Patch"), {"model": "Patch"}),
    (node("Both"), {"positive": "Both", "negative": "Both"}),
    (node("CLIPTextEncode", text="x"), {"positive": "CLIPTextEncode"}),
])  # fmt: skip
def test_a_picture_is_drawn_with_all_that_a_node_gives(scene, one, inputs):
    key, _ = one.draw(scene)
    assert scene[key]["class_type"] == "KSampler"
    for name, kind in inputs.items():
        source, output = scene[key]["inputs"][name]
        assert (scene[source]["class_type"], output) == (kind, 1 if (kind, name) == ("Both", "negative") else 0)


def test_inputs_are_made_of_other_nodes(scene):
    one = node("Patch", model=of("Patch", model=given("MODEL"), mode="a"), mode=file("lora"))
    key, _ = one.draw(scene)
    outer = scene[scene[key]["inputs"]["model"][0]]["inputs"]
    assert outer["mode"] == "a.safetensors" and scene[outer["model"][0]]["inputs"]["mode"] == "a"
    made = sampled(seed=5)(scene)
    assert scene[made[0]]["inputs"]["seed"] == 5


def test_an_unknown_node_and_a_result_without_picture_are_named(scene):
    with pytest.raises(NoSuchNode, match="Nowhere"):
        scene.add("Nowhere")
    with pytest.raises(ValueError, match="no image is drawn with NUMBER"):
        node("Text", text="x").draw(scene)


# ---- what came of a try ---------------------------------------------------------------------------------------------


class FakeBench(trial.Bench):
    """A bench whose families draw what the test says."""

    def __init__(self, kolors, sdxl):
        plain = {"LATENT": trial.Drawn("plain"), "IMAGE": trial.Drawn("image")}
        self.plain = {"Kolors": plain, "SDXL": plain}
        self.drawn = {"Kolors": kolors, "SDXL": sdxl}

    def draw(self, family, build):
        return self.drawn[family.name]


def drawn(digest="other"):
    return trial.Drawn(digest, file="a.latent")


FAILS, SAYS = trial.Drawn(error="ValueError: shapes"), trial.Drawn(error="KolorsError: use another", sentence=True)


@pytest.mark.parametrize(("effect", "kolors", "sdxl", "outcome"), [
    (CHANGES, drawn(), drawn(), "same"),
    (CHANGES, drawn(), FAILS, "works"),
    (CHANGES, drawn("plain"), drawn(), "failed"),
    (CHANGES, drawn("plain"), drawn("plain"), "elsewhere"),
    (CHANGES, drawn("plain"), FAILS, "failed"),
    (KEEPS, drawn("plain"), drawn("plain"), "same"),
    (KEEPS, drawn(), drawn("plain"), "failed"),
    (DRAWS, drawn("plain"), drawn(), "same"),
    (CHANGES, SAYS, drawn(), "refused"),
    (CHANGES, FAILS, drawn(), "failed"),
    (CHANGES, FAILS, FAILS, "elsewhere"),
    (CHANGES, FAILS, trial.Drawn(error="KeyError: 'l'"), "failed"),
])  # fmt: skip
def test_a_try_is_judged_by_its_effect_and_by_what_sdxl_does(effect, kolors, sdxl, outcome):
    families = [Family(name, *[("Load", {}, 0)] * 4, {}) for name in ("Kolors", "SDXL")]
    assert FakeBench(kolors, sdxl).judge(Try("X", effect=effect), *families).outcome == outcome


def test_a_refusal_that_is_expected_is_no_failure():
    families = [Family(name, *[("Load", {}, 0)] * 4, {}) for name in ("Kolors", "SDXL")]
    verdict = FakeBench(FAILS, drawn()).judge(Try("X", refusal="shapes"), *families)
    assert (verdict.outcome, verdict.why) == ("refused", "ValueError: shapes")


def latent(values):
    data = struct.pack(f"<{len(values)}f", *values)
    header = json.dumps({"latent_tensor": {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(data)]}})
    return struct.pack("<Q", len(header)) + header.encode() + data


@pytest.mark.parametrize(("values", "fault"), [
    ([1.0, 2.0], ""),
    ([1.0, float("nan")], "NaN"),
    ([float("inf"), 1.0], "NaN"),
    ([3.0, 3.0], "one value"),
])  # fmt: skip
def test_a_latent_that_is_none_is_a_fault(values, fault):
    found, said = trial.read_latent(latent(values))
    assert len(found) == 8 and (fault in said if fault else not said)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_pixels_of_a_png_are_read_without_its_texts(mode):
    """With every filter, of which an encoder takes the one that it packs best."""
    generator = random.Random(0)
    slopes = [min(255, max(0, 3 * x + 5 * y + generator.randrange(3))) for y in range(16) for x in range(24)]
    image = Image.frombytes("L", (24, 16), bytes(slopes)).convert(mode)
    texts = PngInfo()
    texts.add_text("workflow", "x")
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=texts)
    assert trial.read_png(file.getvalue()) == (image.tobytes(), "")


@pytest.mark.parametrize("method", range(5))
def test_each_filter_of_a_png(method):
    """One row of two samples, whose differences are as the specification forms them."""
    above, row = bytes([10, 200]), bytes([100, 30])
    before = [0, row[0]], above, [0, above[0]]
    foretold = [
        (0, a, b, (a + b) // 2, min((a, b, c), key=lambda v: abs(a + b - c - v)))[method] for a, b, c in zip(*before)
    ]
    differences = bytes((value - guess) % 256 for value, guess in zip(row, foretold))
    assert trial.unfilter(method, differences, above, 1) == row


def test_a_picture_of_one_colour_is_a_fault():
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(file, "PNG")
    assert trial.read_png(file.getvalue())[1] == "an image of one colour"


def test_comfyuis_words_for_a_wrong_graph_are_kept():
    errors = {"3": {"errors": [{"message": "Value not in list", "details": "name: 'x'"}]}}
    assert (
        trial.refusal({"error": {"message": "Invalid"}, "node_errors": errors})
        == "Invalid; Value not in list name: 'x'"
    )


class Answers:
    """A server that gives one answer after the other, an error as an error."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, url, body=None, timeout=0):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()


@pytest.mark.parametrize(("answers", "error"), [
    ([URLError("refused")], "does not answer"),
    ([{"prompt_id": "1"}, URLError("gone")], "does not answer"),
    ([{"prompt_id": "1"}, {"1": {"status": {"messages": []}, "outputs": {}}}], "no image, and no error"),
])  # fmt: skip
def test_a_server_that_ends_or_draws_nothing_is_an_error_of_the_try(monkeypatch, answers, error):
    monkeypatch.setattr(trial, "request", Answers(*answers))
    bench = FakeBench(None, None)
    bench.server = SimpleNamespace(url="http://x")
    assert error in bench.run({}, "9").error


def test_a_prompt_without_end_is_interrupted(monkeypatch):
    asked = Answers({"prompt_id": "1"}, {}, None)
    monkeypatch.setattr(trial, "request", asked)
    clock = iter((0.0, 0.0, 1e9))
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    bench = FakeBench(None, None)
    bench.server = SimpleNamespace(url="http://x")
    assert "no end within" in bench.run({}, "9").error
    assert not asked.answers


# ---- packs ----------------------------------------------------------------------------------------------------------


def test_the_tries_of_a_pack_have_names_of_their_own():
    assert len(PACKS) >= 25
    for name, pack in PACKS.items():
        names = [one.name for one in pack.tries]
        assert len(set(names)) == len(names), name
        assert bool(pack.en) == bool(pack.zh) and (names or pack.canvas or pack.scripts or pack.en), name


def test_a_folder_without_a_pack_is_named(tmp_path):
    with pytest.raises(SetupError, match=r"found no __init__\.py there"):
        command.checked(tmp_path)
    (tmp_path / "__init__.py").touch()
    assert command.checked(tmp_path) == tmp_path


def test_what_comfyui_says_of_a_pack_that_it_cannot_import_is_found(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "[WARNING] Cannot import /a/custom_nodes/One module for custom nodes: No module named 'x'\n"
        "[WARNING] Cannot import /a/custom_nodes/Two module for custom nodes: /srv/packs/y.py is bad\n",
        encoding="utf-8",
    )
    packs = [tmp_path / name for name in ("One", "Two", "Three")]
    found = command.failed_imports(SimpleNamespace(log=log), packs)
    assert found == {"One": "No module named 'x'", "Two": "y.py is bad"}


def test_a_page_that_does_not_open_is_an_error_for_each_request():
    server = SimpleNamespace(url="http://127.0.0.1:9")
    found = command.ask_page(Path(sys.executable), server, [{}, {}])
    assert len(found) == 2 and all(one["error"] for one in found)


def test_what_the_page_is_asked_for_is_the_plain_graph_and_a_script(scene):
    asked = canvas.as_request(OnCanvas("Anything", "x();"), scene)
    assert (asked["script"], asked["loader"]) == ("x();", "Load")
    assert {node["class_type"] for node in asked["prompt"].values()} >= {"Load", "KSampler", "SaveLatent"}


def test_a_script_is_written_for_a_family():
    families = Family("F", ("Load", {"name": "a'b"}, 0), ("Clip", {}, 0), *[("Load", {}, 0)] * 2, {})
    code = Script("x", "draw({model}, {clip}, {settings}, {prompt}, {size})").written(families)
    assert code.startswith("draw(Load(\"a'b\"), Clip(), 1, 4, 4.0, 'euler', 'normal', 'a red apple")
    assert code.endswith("128, 128, 1)")


def test_the_version_of_a_pack(tmp_path):
    assert record.version_of(tmp_path) == "unknown"
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"  # x\n', encoding="utf-8")
    assert record.version_of(tmp_path) == "1.2"


def test_requirements_that_do_not_go_with_comfyuis_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "pip_install", lambda step, python, lines: "numpy<2" not in lines)
    step = SimpleNamespace(outcome="")
    environment.install_lines(step, tmp_path, ["a", "numpy<2", "b"], tmp_path / "left-out")
    assert json.loads((tmp_path / "left-out").read_text(encoding="utf-8")) == ["numpy<2"]
    assert "numpy<2" in step.outcome


# ---- the page -------------------------------------------------------------------------------------------------------


def neighbour(pack="Some-Pack", **changes):
    tries = [
        Tried("A", "same"),
        Tried("B", "works", "x"),
        Tried("C", "refused", "use | D"),
        Tried("E", "refused", "use | D"),
    ]
    plain = {"version": "1.0", "host": "0.33.0", "date": "2026-01-01", "commit": "abc", "tries": tries}
    return Neighbour(pack, **plain | changes)


def test_a_result_is_kept_in_a_file(tmp_path):
    record.store(tmp_path / "a" / "b.json", neighbour())
    assert record.load(tmp_path / "a" / "b.json") == neighbour()
    assert record.load(tmp_path / "c.json") is None


@pytest.mark.parametrize("language", page.PAGES)
def test_the_page_says_what_came_of_each_pack(language):
    whole = neighbour(record.TOGETHER, version="2", tries=[])
    text = page.as_page([neighbour(), neighbour("Other", tries=[], fault="No module named 'x'"), whole], language)
    assert "| Some-Pack | 1.0 | 4 | 1 | 1 | 2 |  |  |" in text
    assert "| Some-Pack | `C`, `E` |" in text and "use \\| D" in text
    assert "| Other | 1.0 | 0.33.0 | No module named 'x' |" in text
    assert "50%" in text and "Some-Pack: `A`, `B`, `C`, `E`" in text


def test_other_bits_are_not_hidden():
    assert "OTHER BITS" in neighbour(same_bits=False).summary()
    text = page.as_page([neighbour(same_bits=False)], "en")
    assert "other bits than without the package beside: Some-Pack." in text
    assert page.WORDS["en"]["same_bits"] not in text


@pytest.mark.parametrize(("version", "same_bits", "kept"), [
    ("3", True, "36"), ("40", True, "40"), ("3", False, "3")
])  # fmt: skip
def test_fewer_packs_together_do_not_take_the_place_of_more(tmp_path, version, same_bits, kept):
    page.record(tmp_path, [neighbour(record.TOGETHER, version="36", tries=[])])
    page.record(tmp_path, [neighbour(record.TOGETHER, version=version, same_bits=same_bits, tries=[])])
    (row,) = json.loads((tmp_path / "neighbours.json").read_text(encoding="utf-8"))
    assert row["version"] == kept


def test_rows_of_other_packs_stay(tmp_path):
    page.record(tmp_path, [neighbour(), neighbour("Other")])
    page.record(tmp_path, [neighbour(tries=[])])
    kept = {
        row["pack"]: len(row["tries"]) for row in json.loads((tmp_path / "neighbours.json").read_text(encoding="utf-8"))
    }
    assert kept == {"Some-Pack": 0, "Other": 4}
    assert (tmp_path / "zh" / "neighbours.md").is_file()
