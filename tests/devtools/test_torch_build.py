"""devtools/torch_build.py."""

from __future__ import annotations

import http.server
import os
import sys
import threading
from pathlib import Path

import pytest
from comfyui_kolors.devtools import torch_build
from comfyui_kolors.devtools.torch_build import CPU_INDEX, accelerator, choose_build, is_reachable, pip_is_pointed

PYTHON = Path(sys.executable)


@pytest.mark.parametrize(
    ("found", "pointed", "reachable", "options", "says"),
    [
        ("", False, True, ["--extra-index-url", CPU_INDEX], "for the CPU from https://download.pytorch.org"),
        ("", False, False, [], "3,000 MB, because https://download.pytorch.org/whl/cpu cannot be reached"),
        ("", True, True, [], "from where pip is pointed"),
        ("NVIDIA", False, True, [], "for NVIDIA, about 3,000 MB"),
        ("NVIDIA", True, True, [], "for NVIDIA, about 3,000 MB"),
    ],
)
def test_the_build_follows_machine_settings_and_network(monkeypatch, found, pointed, reachable, options, says):
    monkeypatch.setattr(torch_build, "accelerator", lambda: found)
    monkeypatch.setattr(torch_build, "pip_is_pointed", lambda python: pointed)
    monkeypatch.setattr(torch_build, "is_reachable", lambda url: reachable)
    build = choose_build(PYTHON)
    assert list(build.options) == options and says in build.says


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder for drivers' programs, the only one that is searched."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch_build, "ROCM", tmp_path / "rocm")
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins for drivers are shell scripts")
@pytest.mark.parametrize(
    ("program", "code", "found"),
    [("nvidia-smi", 0, "NVIDIA"), ("nvidia-smi", 9, ""), ("rocminfo", 0, "ROCm"), ("rocm", None, "ROCm"), ("", 0, "")],
)
def test_an_accelerator_is_one_whose_driver_lists_devices(programs, program, code, found):
    if code is None:
        (programs / program).mkdir()
    elif program:
        (programs / program).write_text(f"#!/bin/sh\nexit {code}\n")
        (programs / program).chmod(0o755)
    assert accelerator() == found


@pytest.mark.parametrize(
    ("name", "value", "pointed"),
    [
        ("PIP_FIND_LINKS", "/somewhere", True),
        ("PIP_EXTRA_INDEX_URL", "file:///somewhere", True),
        ("PIP_NO_INDEX", "1", True),
        ("PIP_DEFAULT_TIMEOUT", "60", False),
    ],
)
def test_pip_is_pointed_where_its_settings_name_a_place(monkeypatch, name, value, pointed):
    for other in [other for other in os.environ if other.startswith("PIP_")]:
        monkeypatch.delenv(other)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(name, value)
    assert pip_is_pointed(PYTHON) is pointed


def test_a_file_of_settings_points_pip_as_well(monkeypatch, tmp_path):
    for other in [other for other in os.environ if other.startswith("PIP_")]:
        monkeypatch.delenv(other)
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url = https://example.org/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert pip_is_pointed(PYTHON)


def test_an_index_is_reachable_where_it_answers(monkeypatch):
    monkeypatch.setattr(torch_build, "CONNECT_SECONDS", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Silent", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda self, *args: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        assert is_reachable(url) and not is_reachable(f"{url}no-such-package/")
        server.shutdown()
    assert not is_reachable(url) and not is_reachable("no url")
