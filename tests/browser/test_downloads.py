"""From a ComfyUI without any model to the first image, with what the front end's list of missing models offers.

The models are tiny, but lie under the published names on a hub of their own; only the tokenizer is the published one,
as the node takes no other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny_models
from canvas import PACK, Canvas
from client import Client
from comfyui_kolors.demo import random_models
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server
from comfyui_kolors.kolors_core.models.catalog import BY_NAME, FEATURES, TOKENIZER
from hub import Hub, self_signed
from PIL import Image
from safetensors.torch import save

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.host, pytest.mark.browser]

TEMPLATE = "Kolors-text-to-image"
FILES = [BY_NAME[name] for name in FEATURES["text-to-image"] if name != TOKENIZER.name]
PIECES = 64_789  # of the published tokenizer
EACH = re.compile(r"^Download\b(?! all)")
ROW = re.compile(r"^\| models/(\S+) \| \[(\S+)\]\(\S+\) \| [^|]+ \| (\S*) ?\|$", re.MULTILINE)

#: Another prompt, and the size, the seed and the guidance of the miniature's own template.
ASK = """(texts) => {
  const of = (type) => app.graph._nodes.filter((node) => node.type === type);
  const set = (node, values) => node.widgets.forEach((widget) => {
    if (widget.name in values) widget.value = values[widget.name];
  });
  of('CLIPTextEncode').forEach((node, index) => set(node, { text: texts[index] }));
  of('EmptyLatentImage').forEach((node) => set(node, { width: 128, height: 128 }));
  of('KSampler').forEach((node) => set(node, { seed: 1, control_after_generate: 'fixed', cfg: 4 }));
}"""

#: ComfyUI Desktop's own downloads, as the front end calls them.
DESKTOP = """window.__comfyDesktop2 = {
  isRemote: () => false,
  downloadModel: async (...model) => { await window.takeModel(...model); return true; },
};"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    return self_signed(tmp_path_factory.mktemp("hub")) or pytest.skip("no openssl, which makes the hub's certificate")


@pytest.fixture(scope="module")
def hubs(certificate, tokenizer_file):
    """The hub twice over the same files: as huggingface.co for the browser, and without a certificate for the node."""
    contents = {
        "unet": save(random_models.random_unet(random_models.TINY).state_dict()),
        "encoder": save(random_models.random_chatglm3(random_models.TINY, PIECES)),
        "vae": save(random_models.random_vae()),
        "tokenizer": tokenizer_file.read_bytes(),
    }
    with Hub() as plain, Hub(certificate, plain.files) as safe:
        for name, content in contents.items():
            plain.put(BY_NAME[name].repo, BY_NAME[name].path, content)
        yield plain, safe


@pytest.fixture
def fresh(hubs, front_end, tmp_path, monkeypatch):
    """A ComfyUI with this package and no model; the hub is what it knows as Hugging Face."""
    for hub in hubs:
        hub.asked.clear()
    (tmp_path / "custom_nodes").mkdir()
    link_pack(tmp_path / "custom_nodes" / PACK, tiny_models.ROOT)
    monkeypatch.setenv("HF_ENDPOINT", hubs[0].url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), tmp_path)
    with running_server(setup, Progress(2), free_port(), front_end=front_end) as running:
        yield Client(running.url, tmp_path, running.log)


@pytest.fixture
def pop_ups(request) -> str:
    """Whether the browser opens what a page opens: of several at once it opens one, until the user allows all."""
    return request.param


@pytest.fixture
def canvas(fresh, hubs, pop_ups, launch):
    """A page of a Chromium to which the hub is huggingface.co."""
    screenshots = places.DEV / "screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    port = hubs[1].ports[0]
    browser = launch(
        args=[f"--host-resolver-rules=MAP huggingface.co 127.0.0.1:{port}", "--ignore-certificate-errors"],
        ignore_default_args=["--disable-popup-blocking"] if pop_ups == "blocked" else None,
    )
    page = browser.new_page(viewport={"width": 1600, "height": 950}, locale="en-US")
    page.route(lambda url: not re.match(r"https?://(127\.0\.0\.1|huggingface\.co)\b", url), lambda it: it.abort())
    yield Canvas(page, fresh, screenshots)
    browser.close()


def open_template(canvas: Canvas) -> Locator:
    """The template as it is opened without its models; the list of what is missing."""
    canvas.open()
    canvas.choose_template(TEMPLATE)
    canvas.page.wait_for_function("window.app?.graph?._nodes.some((node) => node.type.startsWith('Kolors'))")
    return canvas.missing("model")


def places_in_note() -> dict[str, str]:
    """Where each file belongs, below models, by the name that a browser saves it as: the table of the note."""
    template = json.loads((tiny_models.ROOT / "workflows" / f"{TEMPLATE}.json").read_text(encoding="utf-8"))
    note = next(node for node in template["nodes"] if node["type"] == "MarkdownNote")
    return {saved or file: f"{folder}/{file}" for folder, file, saved in ROW.findall(note["widgets_values"][0])}


def refresh(canvas: Canvas) -> None:
    """Press R, on the canvas, where it is empty."""
    canvas.page.keyboard.press("Escape")
    canvas.page.mouse.click(700, 900)
    with canvas.page.expect_response(lambda answer: answer.url.endswith("/object_info")):
        canvas.page.keyboard.press("r")
    canvas.settle()


def run(canvas: Canvas, name: str) -> None:
    """Run, and one image."""
    canvas.run()
    assert canvas.shown_images() == 1
    canvas.settle()
    canvas.screenshot(f"downloads-{name}-drawn")


def has_fetched_the_tokenizer(canvas: Canvas, hub: Hub) -> None:
    """It has come with the run, once."""
    assert hub.count(TOKENIZER.path, at="store", method="GET") == 1
    assert (canvas.server.base / "models" / TOKENIZER.place).stat().st_size == TOKENIZER.size


def download_and_move(canvas: Canvas, pop_ups: str, folder: Path) -> None:
    """Press Download all, or the button of each file, and move what the browser saved as the note says."""
    offered = open_template(canvas)
    canvas.screenshot(f"downloads-pop-ups-{pop_ups}-offered")
    downloads = []
    canvas.page.on("download", lambda download: downloads.append(download))
    everything = offered.get_by_test_id("missing-model-download-all")
    if pop_ups == "allowed" and everything.count():  # the older ones have no such button
        everything.click()
    else:
        for button in offered.get_by_role("button", name=EACH).all():
            button.click()
            canvas.settle()
    belongs = places_in_note()
    while len(downloads) < len(belongs):
        canvas.page.wait_for_event("download")
    assert sorted(download.suggested_filename for download in downloads) == sorted(belongs)
    for download in downloads:
        download.save_as(folder / "downloads" / download.suggested_filename)
    for saved, place in belongs.items():
        (folder / "models" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "downloads" / saved).rename(folder / "models" / place)
    assert sorted(belongs.values()) == sorted(file.place for file in FILES)


@pytest.mark.parametrize("pop_ups", ["allowed", "blocked"], indirect=True)
def test_a_browser_downloads_the_models_and_the_note_says_where_they_belong(canvas, hubs, pop_ups, tmp_path):
    download_and_move(canvas, pop_ups, tmp_path)
    refresh(canvas)
    assert not hubs[0].count()
    canvas.shrink()
    run(canvas, f"pop-ups-{pop_ups}")
    has_fetched_the_tokenizer(canvas, hubs[0])


@pytest.fixture
def miniature(hubs):
    """The trained miniature under the published names; its text encoder has a tokenizer of its own inside."""
    before = dict(hubs[0].files)
    for name, file in {"unet": "unet", "encoder": "chatglm3", "vae": "vae"}.items():
        (path,) = tiny_models.ROOT.glob(f"demo/models/*/*/kolors-demo-{file}.safetensors")
        hubs[0].put(BY_NAME[name].repo, BY_NAME[name].path, path)
    yield
    hubs[0].files.update(before)


@pytest.mark.parametrize("pop_ups", ["allowed"], indirect=True)
def test_the_miniature_draws_what_the_template_is_asked_for(miniature, canvas, hubs, pop_ups, tmp_path):
    download_and_move(canvas, pop_ups, tmp_path)
    refresh(canvas)
    canvas.page.evaluate(ASK, ["红苹果，黄色背景", ""])
    run(canvas, "miniature")
    assert not hubs[0].count(), "its tokenizer is inside"
    (path,) = (tmp_path / "output").glob("*.png")
    with Image.open(path) as image:
        corner, middle = (image.convert("RGB").getpixel(at) for at in ((6, 6), (64, 70)))
    assert min(corner[:2]) > 180 and corner[2] < 120, "the background is yellow"
    assert middle[0] > 120 and max(middle[1:]) < 100, "the apple is red"


@pytest.mark.parametrize("pop_ups", ["blocked"], indirect=True)
def test_desktop_puts_the_models_in_place(canvas, hubs, tmp_path):
    taken = []

    def take(url: str, name: str, directory: str) -> None:
        path = tmp_path / "models" / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = url.replace("https://huggingface.co", hubs[0].url)
        with urllib.request.urlopen(plain) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
        taken.append(f"{directory}/{name}")

    canvas.page.expose_function("takeModel", take)
    canvas.page.add_init_script(DESKTOP)
    everything = open_template(canvas).get_by_test_id("missing-model-download-all")
    if not everything.count():
        pytest.skip("this front end has no Download all, and knows another ComfyUI Desktop")
    canvas.screenshot("downloads-desktop-offered")
    everything.click()
    while len(taken) < len(FILES):
        canvas.page.wait_for_timeout(100)
    assert sorted(taken) == sorted(file.place for file in FILES)
    hubs[0].asked.clear()
    refresh(canvas)
    canvas.shrink()
    run(canvas, "desktop")
    has_fetched_the_tokenizer(canvas, hubs[0])
