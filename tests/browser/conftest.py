"""A server with models under the names of the templates for each front end, one headless Chromium with one page."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path

import pytest
from client import Client
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.chromium import find_chromium
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.front_end import get_newest_front_end
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress, SetupError
from comfyui_kolors.devtools.server import free_port, running_server
from comfyui_kolors.devtools.testing import NEWEST

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for canvas.py and tiny_models.py


#: The page that ComfyUI's own requirements name, and the newest of the package index.
FRONT_ENDS = ("own", NEWEST)


@pytest.fixture(scope="session", params=FRONT_ENDS)
def front_end(request) -> Path | None:
    """The folder of the front end, or none for ComfyUI's own."""
    if request.param == "own":
        return None
    try:
        return get_newest_front_end(Path(sys.executable), Progress(1))
    except SetupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A base directory of its own: the templates find their files, and pictures and settings are nobody else's."""
    import tiny_models

    base = tmp_path_factory.mktemp("browser")
    host = Path(os.environ["COMFYUI_PATH"])
    for folder in ("custom_nodes", "input"):
        (base / folder).mkdir()
    link_pack(base / "custom_nodes" / "comfyui-kolors", ROOT)
    shutil.copy(Path(__file__).with_name("remembering_towers.py"), base / "custom_nodes")
    shutil.copy(host / "input" / "example.png", base / "input")
    tiny_models.write(base)
    return base


@pytest.fixture(scope="session")
def server(base, front_end):
    """A real ComfyUI with the models of the templates, once with each front end."""
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(base / "stubs"), prepend=os.pathsep)
        with running_server(setup, Progress(2), free_port(), front_end=front_end) as running:
            yield Client(running.url, base, running.log)


@pytest.fixture(scope="session")
def launch():
    """Starts a headless Chromium; Playwright runs once in a process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    chromium = find_chromium(Path(sys.executable))
    if not chromium:
        pytest.skip("no Chromium: install the package chromium, or run `playwright install chromium`")
    with playwright.sync_playwright() as driver:
        yield functools.partial(driver.chromium.launch, executable_path=chromium)


@pytest.fixture(scope="session")
def page(launch):
    """A page of a headless Chromium; no test needs the network, and none gets it."""
    browser = launch()
    page = browser.new_page(viewport={"width": 1600, "height": 950}, locale="en-US")
    page.route(lambda url: "//127.0.0.1" not in url, lambda route: route.abort())
    yield page
    browser.close()


@pytest.fixture(scope="session")
def whole_canvas(server, page):
    from canvas import Canvas

    screenshots = places.DEV / "screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    return Canvas(page, server, screenshots)


@pytest.fixture(scope="module", params=[False, True], ids=["LiteGraph", "Nodes 2.0"])
def vue(request) -> bool:
    """Which of the two renderers draws the nodes."""
    return request.param


@pytest.fixture
def canvas(whole_canvas):
    """The page; a test fails where it leaves an error in it."""
    whole_canvas.errors.clear()
    yield whole_canvas
    assert not whole_canvas.errors
