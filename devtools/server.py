"""A running ComfyUI, and requests to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import places, start_options
from .places import Setup
from .process import POLL_SECONDS, child, has_ended, log_error, python_says, tail
from .progress import Progress, SetupError, Step

SERVER_START_SECONDS = 300.0
LOG_KEEP_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Server:
    """A running ComfyUI."""

    url: str
    process: subprocess.Popen
    log: Path

    def ended(self, doing: str) -> SetupError:
        return log_error(f"ComfyUI ended with exit code {self.process.returncode} while {doing}.", self.log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_used(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find_accelerator(python: Path) -> str:
    """What torch can compute on in that interpreter, in `start_options`' words."""
    return python_says(python, Path(start_options.__file__).read_text(encoding="utf-8")) or "cpu"


def server_command(
    setup: Setup, port: int, accelerator: str, model_paths: Path | None = None, front_end: Path | None = None
) -> list[str | Path]:
    command = [setup.python, setup.comfyui / "main.py", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", setup.base, "--disable-auto-launch"]
    if "--database-url" in (setup.comfyui / "comfy" / "cli_args.py").read_text(encoding="utf-8"):
        command += ["--database-url", "sqlite:///:memory:"]
    if model_paths:
        command += ["--extra-model-paths-config", model_paths]
    if front_end:
        command += ["--front-end-root", front_end]
    options = start_options.given()
    return [*command, *start_options.device(accelerator, options), *options]


@contextmanager
def running_server(
    setup: Setup, progress: Progress, port: int, model_paths: Path | None = None, front_end: Path | None = None
) -> Iterator[Server]:
    """A ComfyUI server that answers, and that ends with this block, however the block ends.

    `front_end`: the folder of a page in the place of the one that its environment has.
    """
    if port_is_used(port):
        raise SetupError(f"Port {port} is used by another program. Stop that one, or choose another port with --port.")
    with progress.step("Accelerator") as step:
        step.outcome = accelerator = find_accelerator(setup.python)
    command, log = server_command(setup, port, accelerator, model_paths, front_end), places.LOGS / f"server-{port}.log"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    environment.setdefault("HF_HUB_OFFLINE", "1")
    # Threads that wait for each other let others work: where a core is busy with something else, the demo's picture
    # took 142 s with threads that spin, and 2 s with threads that sleep.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    places.LOGS.mkdir(parents=True, exist_ok=True)
    for old in places.LOGS.glob("server-*.log"):  # each free port has a name of its own
        if time.time() - old.stat().st_mtime > LOG_KEEP_SECONDS:
            old.unlink()
    with log.open("wb") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        # The newest hosts write a log of their own into the working directory.
        with child(command, env=environment, cwd=setup.base, **streams) as process:
            server = Server(f"http://127.0.0.1:{port}", process, log)
            with progress.step("ComfyUI server") as step:
                wait_until_ready(server, step)
            yield server


def wait_until_ready(server: Server, step: Step) -> None:
    while not has_ended(server.process, POLL_SECONDS):
        step.tick("".join(tail(server.log, 1)))
        try:
            request(f"{server.url}/system_stats", timeout=5)
            return
        except OSError:
            if time.monotonic() - step.started > SERVER_START_SECONDS:
                raise log_error(f"ComfyUI gave no answer in {SERVER_START_SECONDS:.0f} s.", server.log) from None
    raise server.ended("starting")


def request(url: str, body: object = None, timeout: float = 30) -> bytes:
    """GET, or POST with `body` as JSON. Proxies of the environment are not asked: the server is on this machine."""
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(message, timeout=timeout) as answer:
        return answer.read()
