"""A set-up without a network, torch or ComfyUI, for the tests of devtools/."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.demo import build_prompt
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.results import Result

PYTHON = Path(sys.executable)


# A stand-in for ComfyUI's main.py: answers every GET with {} on the port that it is given, for a minute at most.
FAKE_MAIN = """
import http.server, os, sys, threading
threading.Timer(60, os._exit, [0]).start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A `.dev` in a temporary folder."""
    monkeypatch.setattr("comfyui_kolors.devtools.places.DEV", tmp_path / ".dev")
    monkeypatch.setattr("comfyui_kolors.devtools.places.LOGS", tmp_path / ".dev" / "logs")
    places.LOGS.mkdir(parents=True)
    return tmp_path


@pytest.fixture
def fake_host(tmp_path) -> Path:
    host = tmp_path / "host"
    (host / "comfy").mkdir(parents=True)
    (host / "comfy" / "cli_args.py").write_text('parser.add_argument("--database-url")')
    (host / "main.py").write_text(FAKE_MAIN)
    (host / "requirements.txt").write_text("torch\ncomfyui-workflow-templates==0.7.25\naiohttp>=3.11.8\n")
    (host / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    return host


@pytest.fixture
def setup(home, fake_host, monkeypatch):
    monkeypatch.setattr("comfyui_kolors.devtools.server.find_accelerator", lambda python: "cpu")
    monkeypatch.delenv("KOLORS_HOST_FLAGS", raising=False)
    (home / "base").mkdir()
    return Setup(PYTHON, fake_host, home / "base")


@pytest.fixture
def prompt():
    return build_prompt("a cat", "blurry", seed=7, steps=4, size=(320, 256))


@pytest.fixture
def result():
    return make_result


def make_result(host="0.3.75", suite="tests/host", **changes):
    place = {"python": "3.11.7", "torch": "2.13.0", "front end": "1.2", "device": "cpu", "machine": "a CPU"}
    fields = {"flags": "", "date": "2026-01-02", "commit": "abc1234", "seconds": 90.0, "passed": 3}
    fields |= {"failed": {}, "skipped": {}, "environment": place}
    return Result(host, suite, **fields | changes)
