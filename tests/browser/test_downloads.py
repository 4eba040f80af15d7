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
from comfyui_kolors.devtools.chromium import find_chromium
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server
from comfyui_kolors.kolors_core.models.catalog import BY_NAME, FEATURES, TOKENIZER
from hub import Hub, self_signed
from safetensors.torch import save

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.host, pytest.mark.browser]

TEMPLATE = "kolors_text_to_image"
FILES = [BY_NAME[name] for name in FEATURES["text-to-image"] if name != TOKENIZER.name]
PIECES = 64_789  # of the published tokenizer
EACH = re.compile(r"^Download\b(?! all)")
ROW = re.compile(r"^\| models/(\S+) \| \[(\S+)\]\(\S+\) \| [^|]+ \| (\S*) ?\|$", re.MULTILINE)

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
def fresh(hubs, tmp_path, monkeypatch):
    """A ComfyUI with this package and no model; the hub is what it knows as Hugging Face."""
    for hub in hubs:
        hub.asked.clear()
    (tmp_path / "custom_nodes").mkdir()
    link_pack(tmp_path / "custom_nodes" / PACK, tiny_models.ROOT)
    monkeypatch.setenv("HF_ENDPOINT", hubs[0].url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), tmp_path)
    with running_server(setup, Progress(2), free_port()) as running:
        yield Client(running.url, tmp_path, running.log)


@pytest.fixture
def pop_ups(request) -> str:
    """Whether the browser opens what a page opens: of several at once it opens one, until the user allows all."""
    return request.param


@pytest.fixture
def canvas(fresh, hubs, pop_ups):
    """A page of a Chromium to which the hub is huggingface.co."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    chromium = find_chromium(Path(sys.executable)) or pytest.skip("no Chromium: install the package chromium")
    screenshots = places.DEV / "screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    port = hubs[1].ports[0]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium,
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


def refresh_and_run(canvas: Canvas, hub: Hub, name: str) -> None:
    """R, Run, and one image; the tokenizer has come with the run."""
    assert not hub.count()
    canvas.page.keyboard.press("Escape")
    canvas.page.mouse.click(700, 900)  # the canvas, where it is empty
    with canvas.page.expect_response(lambda answer: answer.url.endswith("/object_info")):
        canvas.page.keyboard.press("r")
    canvas.settle()
    canvas.shrink()
    canvas.run()
    assert canvas.shown_images() == 1
    canvas.settle()
    canvas.screenshot(f"downloads-{name}-drawn")
    assert hub.count(TOKENIZER.path, at="store", method="GET") == 1
    assert (canvas.server.base / "models" / TOKENIZER.place).stat().st_size == TOKENIZER.size


@pytest.mark.parametrize("pop_ups", ["allowed", "blocked"], indirect=True)
def test_a_browser_downloads_the_models_and_the_note_says_where_they_belong(canvas, hubs, pop_ups, tmp_path):
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
        download.save_as(tmp_path / "downloads" / download.suggested_filename)
    for saved, place in belongs.items():
        (tmp_path / "models" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "downloads" / saved).rename(tmp_path / "models" / place)
    assert sorted(belongs.values()) == sorted(file.place for file in FILES)
    refresh_and_run(canvas, hubs[0], f"pop-ups-{pop_ups}")


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
    refresh_and_run(canvas, hubs[0], "desktop")
