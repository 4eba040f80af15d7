"""devtools/demo.py."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest
from comfyui_kolors.devtools.cli import main, parse
from comfyui_kolors.devtools.demo import DEMO_TEMPLATE, build_prompt, draw, image_size, put_image, saved_image
from comfyui_kolors.devtools.miniature import DEMO_ADAPTER, DEMO_CHECKPOINT, DEMO_TOWER
from comfyui_kolors.devtools.process import child
from comfyui_kolors.devtools.progress import Progress, SetupError, Step
from comfyui_kolors.devtools.server import Server

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


@pytest.mark.parametrize(("text", "size"), [("512x768", (512, 768)), ("64X4096", (64, 4096))])
def test_image_size(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize("text", ["512", "512x", "512x767", "56x512", "512x4104", "-64x64", "512x512x3", "a x b"])
def test_image_size_names_what_it_found_and_expected(text, capsys):
    with pytest.raises(SystemExit):
        parse(["demo", f"--size={text}"])
    message = capsys.readouterr().err
    assert repr(text) in message and "multiple of 8" in message and "512x768" in message


def test_the_first_workflow_uses_the_miniature():
    workflow = json.loads((ROOT / "workflows" / f"{DEMO_TEMPLATE}.json").read_text(encoding="utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in workflow["nodes"]}
    assert values["KolorsCheckpointLoader"] == [DEMO_CHECKPOINT]
    sampler = build_prompt("", "", seed=1, steps=25, size=(128, 128))["sample"]["inputs"]
    assert values["KSampler"][2:4] == [sampler["steps"], sampler["cfg"]]
    assert values["EmptyLatentImage"] == [128, 128, 1]


def test_prompt_is_a_whole_workflow(prompt):
    links = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 9 and all(source in prompt for source, _ in links)
    assert {tuple(link) for link in links if link[1]} == {("checkpoint", 1), ("checkpoint", 2)}
    sampler = prompt["sample"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"], sampler["denoise"]) == (7, 4, 4.0, 1.0)
    assert sampler["sampler"] == "euler" and sampler["model"] == ["checkpoint", 0]
    assert prompt[sampler["positive"][0]]["inputs"]["text"] == "a cat"
    assert prompt[sampler["negative"][0]]["inputs"]["text"] == "blurry"
    assert prompt["size"]["inputs"] == {"width": 320, "height": 256, "batch_size": 1}
    assert prompt["checkpoint"]["inputs"] == {"ckpt_name": DEMO_CHECKPOINT}


def test_prompt_with_a_picture_samples_with_the_adapter():
    prompt = build_prompt("a picture", "", seed=7, steps=4, size=(128, 128), image="demo.png")
    links = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 13 and all(source in prompt for source, _ in links)
    assert prompt["sample"]["inputs"]["model"] == ["apply", 0] and prompt["image"]["inputs"] == {"image": "demo.png"}
    assert prompt["tower"]["inputs"]["clip_name"] == DEMO_TOWER
    assert prompt["adapter"]["inputs"]["ipadapter_name"] == DEMO_ADAPTER


def test_a_picture_goes_into_the_input_folder(setup, tmp_path):
    (setup.base / "input").mkdir()
    picture = tmp_path / "红苹果.JPG"
    picture.write_bytes(b"JPEG")
    name = put_image(setup, picture)
    assert (setup.base / "input" / name).read_bytes() == b"JPEG" and name.isascii() and name.endswith(".JPG")
    with pytest.raises(SetupError, match=r"--image .*gone.png: no such file"):
        put_image(setup, tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("given", "text", "image"),
    [
        ([], "红苹果，黄色背景", None),
        (["--prompt", "a cat, red background"], "a cat, red background", None),
        (["--image", "FILE"], "一张图", "demo.png"),
        (["--image", "FILE", "--prompt", "红色背景"], "红色背景", "demo.png"),
    ],
)
def test_demo_draws_the_prompt_the_picture_or_both(setup, tmp_path, monkeypatch, given, text, image):
    (setup.base / "input").mkdir()
    picture, out, drawn = tmp_path / "mine.png", tmp_path / "new" / "out.png", []
    picture.touch()
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(3)))
    monkeypatch.setattr(
        "comfyui_kolors.devtools.demo.draw", lambda server, step, prompt: drawn.append(prompt) or b"PNG"
    )
    given = [str(picture) if word == "FILE" else word for word in given]
    assert main(["demo", "--out", str(out), *given]) == 0 and out.read_bytes() == b"PNG"
    assert drawn[0]["text"]["inputs"]["text"] == text
    assert drawn[0].get("image", {}).get("inputs", {}).get("image") == image


def test_the_saved_image_is_found(prompt):
    image = {"filename": "kolors-demo_00001_.png", "subfolder": "", "type": "output"}
    status = {"messages": [["execution_start", {}]]}
    entry = {"outputs": {"save": {"images": [{**image, "extra": 1}]}}, "status": status}
    assert saved_image(entry, prompt) == image


def test_of_several_saved_images_that_of_a_node_is_taken(prompt):
    one, other = ({"filename": name, "subfolder": "", "type": "temp"} for name in ("a.png", "b.png"))
    entry = {"outputs": {"first": {"images": [one]}, "second": {"images": [other]}}, "status": {}}
    assert saved_image(entry, prompt) == one and saved_image(entry, prompt, "second") == other
    with pytest.raises(SetupError, match="without an image"):
        saved_image(entry, prompt, "third")


def test_a_failed_node_is_named_with_its_message(prompt):
    data = {"node_id": "checkpoint", "node_type": "KolorsCheckpointLoader", "exception_type": "KolorsError"}
    data["exception_message"] = "found a VAE, expected a UNet\n"
    with pytest.raises(SetupError) as error:
        saved_image({"outputs": {}, "status": {"messages": [["execution_error", data]]}}, prompt)
    node = 'The node "Load Checkpoint" (KolorsCheckpointLoader)'
    assert str(error.value) == f"{node} failed with KolorsError: found a VAE, expected a UNet"


def test_a_workflow_without_an_image_is_an_error(prompt):
    with pytest.raises(SetupError, match=r"without an image.*interrupted"):
        saved_image({"outputs": {}, "status": {"status_str": "interrupted", "messages": []}}, prompt)


class FakeComfyUI(http.server.BaseHTTPRequestHandler):
    """Answers /prompt, and /history with nothing at first, then with an image."""

    rejection: dict | None = None
    polls = 0

    def answer(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "sample" in posted["prompt"]
        if self.rejection:
            self.answer(json.dumps(self.rejection).encode(), 400)
        else:
            self.answer(b'{"prompt_id": "abc"}')

    def do_GET(self):
        if self.path.startswith("/view"):
            return self.answer(b"PNG of " + self.path.encode())
        type(self).polls += 1
        image = {"filename": "可 1.png", "subfolder": "", "type": "output"}
        history = {"abc": {"outputs": {"save": {"images": [image]}}, "status": {}}} if self.polls > 1 else {}
        return self.answer(json.dumps(history).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def fake_server(tmp_path):
    """(Server, the handler's class) over a fake ComfyUI in a thread; its process is one that only sleeps."""
    handler = type("Handler", (FakeComfyUI,), {})
    log = tmp_path / "server.log"
    log.write_text("Prompt executed\n")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as fake,
        child([PYTHON, "-c", "import time; time.sleep(600)"]) as process,
    ):
        threading.Thread(target=fake.serve_forever, args=[0.01], daemon=True).start()
        yield Server(f"http://127.0.0.1:{fake.server_address[1]}", process, log), handler
        fake.shutdown()


def test_draw_follows_the_workflow_to_its_image(fake_server, prompt, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    server, handler = fake_server
    image = draw(server, Step("[1/1] test"), prompt)
    assert image == b"PNG of /view?filename=%E5%8F%AF+1.png&subfolder=&type=output" and handler.polls == 2


def test_a_refused_workflow_shows_every_reason(fake_server, prompt):
    server, handler = fake_server
    wrong = {"message": "Value not in list", "details": "ckpt_name: 'x'"}
    handler.rejection = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {
            "checkpoint": {"errors": [wrong]},
            "sample": {"errors": [{"message": "Value 0 smaller than min"}]},
        },
    }
    with pytest.raises(SetupError) as error:
        draw(server, Step("[1/1] test"), prompt)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert "Load Checkpoint: Value not in list ckpt_name: 'x'" in lines
    assert "Sampler: Value 0 smaller than min" in lines and str(server.log) in lines[-1]


def test_a_server_that_dies_while_drawing_is_reported(fake_server, prompt):
    server, _ = fake_server
    server.process.kill()
    with pytest.raises(SetupError, match=r"(?s)while drawing.*Prompt executed"):
        draw(server, Step("[1/1] test"), prompt)
