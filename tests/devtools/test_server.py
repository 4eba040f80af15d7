"""devtools/server.py."""

from __future__ import annotations

import http.server
import os
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.progress import Progress, SetupError
from comfyui_kolors.devtools.server import (
    find_accelerator,
    free_port,
    port_is_used,
    request,
    running_server,
    server_command,
)

PYTHON = Path(sys.executable)


def test_a_free_port_is_free():
    port = free_port()
    assert 1024 < port < 65536 and not port_is_used(port)


def test_server_command_follows_accelerator_and_host(setup, tmp_path):
    command = list(map(str, server_command(setup, 8188, "cpu", tmp_path / "paths.yaml")))
    assert command[-1] == "--cpu" and "sqlite:///:memory:" in command
    assert command[command.index("--listen") + 1] == "127.0.0.1"
    assert command[command.index("--base-directory") + 1] == str(setup.base)
    assert command[command.index("--extra-model-paths-config") + 1] == str(tmp_path / "paths.yaml")
    assert "--front-end-root" not in command
    command = server_command(setup, 8188, "cpu", front_end=tmp_path / "page")
    assert command[command.index("--front-end-root") + 1] == tmp_path / "page"
    (setup.comfyui / "comfy" / "cli_args.py").write_text("")  # a host without a database
    command = server_command(setup, 8188, "cuda")
    assert "--cpu" not in command and "--database-url" not in command and "--extra-model-paths-config" not in command


def test_options_of_the_environment_reach_the_server(setup, monkeypatch):
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--novram --front-end-root 'a folder'")
    command = server_command(setup, 8188, "cuda")
    assert command[-3:] == ["--novram", "--front-end-root", "a folder"] and "--cpu" not in command
    assert server_command(setup, 8188, "cpu")[-4:] == ["--cpu", *command[-3:]]
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--directml 1")  # torch has no word for it
    assert "--cpu" not in server_command(setup, 8188, "cpu")


def fake_torch(folder: Path, kinds: str) -> None:
    """A torch in whose place some kinds of accelerator work, others have no driver, and the rest are unknown."""
    (folder / "torch.py").write_text(
        "from types import SimpleNamespace as Space\n"
        "def broken(): raise RuntimeError('no driver')\n"
        f"found = {{kind: Space(is_available=lambda: True) for kind in {kinds!r}.split()}}\n"
        "xpu = Space(is_available=broken)\n"
        "backends = Space(mps=found.pop('mps', Space(is_available=lambda: False)))\n"
        "globals().update(found)\n"
    )
    for kind in ("npu", "mlu"):
        (folder / f"torch_{kind}.py").write_text("" if kind in kinds else "raise OSError('no library')")


@pytest.mark.parametrize(
    ("kinds", "found"),
    [("", "cpu"), ("cuda", "cuda"), ("xpu", "xpu"), ("mps", "mps"), ("npu cuda", "npu"), ("mlu", "mlu")],
)
def test_the_accelerator_is_the_one_that_comfyui_takes(tmp_path, monkeypatch, kinds, found):
    fake_torch(tmp_path, kinds)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_accelerator(PYTHON) == found


def test_the_server_stops_on_an_exception(setup):
    port = free_port()
    with pytest.raises(ZeroDivisionError), running_server(setup, Progress(2), port) as server:
        assert request(f"{server.url}/system_stats") == b"{}" and port_is_used(port)
        _ = 1 / 0
    assert server.process.poll() is not None and not port_is_used(port)


def test_only_old_logs_of_servers_are_removed(setup):
    logs = [places.LOGS / name for name in ("server-1.log", "server-2.log", "pip-1.log")]
    for log in logs:
        log.touch()
    for log in (logs[0], logs[2]):
        os.utime(log, (1, 1))
    with running_server(setup, Progress(2), free_port()) as server:
        assert [log.exists() for log in (*logs, server.log)] == [False, True, True, True]


def test_a_server_that_fails_to_start_shows_its_log(setup):
    (setup.comfyui / "main.py").write_text("print('loading')\nraise SystemExit('no such device')")
    with pytest.raises(SetupError) as error, running_server(setup, Progress(2), free_port()):
        pass
    assert "exit code 1 while starting" in str(error.value) and "no such device" in str(error.value)


def test_a_server_that_never_answers_is_ended(setup, monkeypatch):
    monkeypatch.setattr("comfyui_kolors.devtools.server.SERVER_START_SECONDS", 0.5)
    (setup.comfyui / "main.py").write_text("import time\nprint('thinking', flush=True)\ntime.sleep(600)")
    with pytest.raises(SetupError) as error, running_server(setup, Progress(2), free_port()):
        pass
    assert "gave no answer" in str(error.value) and "thinking" in str(error.value)


def test_a_used_port_is_refused(setup):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        port = other.server_address[1]
        used = pytest.raises(SetupError, match=f"Port {port} is used")
        with used, running_server(setup, Progress(2), port):
            pass
