"""devtools/serve.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.server import free_port, port_is_used

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a matter of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_leaves_no_server_behind(setup, tmp_path, name, code):
    """The whole way in a process of its own: `main`, the server, a signal to that one process."""
    script = tmp_path / "serve.py"
    script.write_text(
        "import pathlib, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from devtools import cli, places, prepare, progress, server\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell inherits it ignored
        f"places.LOGS = pathlib.Path({str(places.LOGS)!r})\n"
        f"setup = places.Setup(pathlib.Path(sys.executable), pathlib.Path({str(setup.comfyui)!r}), places.LOGS)\n"
        "prepare.set_up = lambda args, **more: (setup, progress.Progress(2))\n"
        "server.find_accelerator = lambda python: 'cpu'\n"
        "sys.exit(cli.main(['serve', '--port', sys.argv[1]]))\n"
    )
    port = free_port()
    process = subprocess.Popen([PYTHON, script, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert (
            f"http://127.0.0.1:{port}/?template=Kolors-demo-with-the-miniature&source=comfyui-kolors "
            in process.stdout.readline()
        )
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in errors
    assert not port_is_used(port)


def test_serve_refuses_a_missing_models_folder_before_the_setup(tmp_path, capsys):
    assert main(["serve", "--models", str(tmp_path / "gone")]) == 1
    assert "gone: no such folder" in capsys.readouterr().err
