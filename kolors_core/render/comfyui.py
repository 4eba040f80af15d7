"""A ComfyUI process of a worker's own: on a free port of this machine, with an output folder that nobody else sees."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..errors import KolorsError
from ..models.folders import find_root

START_SECONDS = 600.0
END_SECONDS = 10.0
LOG_BYTES, LOG_LINES = 32_768, 15
PREFIX = "kolors-render-"  # of the folders, before the id of the process that made it
#: Runs main.py, and ends with whoever started it, however that ended: its end of the pipe closes. Nobody is left then
#: to delete the folder.
LAUNCH = """
import os, runpy, shutil, sys, threading
def watch(folder=os.getcwd()):
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class NoComfyUI(KolorsError):
    """ComfyUI does not start, or is not there: no job can be done."""


def find_comfyui(given: str | None) -> Path:
    """The folder with main.py: the one that is given, or the ComfyUI that this package is installed in.

    Raises NoComfyUI.
    """
    try:
        root = Path(given).expanduser().absolute() if given else find_root(None)
    except KolorsError as error:
        raise NoComfyUI(f"{error} It is given with --comfyui.") from None
    if not (root / "main.py").is_file():
        raise NoComfyUI(f"{root} has no main.py. Give the folder of ComfyUI itself with --comfyui.")
    return root


class ComfyUI:
    """One process, from `start` until `stop`. `folder` is its own and goes with it; `url` is where it listens."""

    def __init__(self, root: Path, options: tuple[str, ...] = ()):
        self.root, self.options = root, options
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.output = self.folder / "output"
        self.log = self.folder / "comfyui.log"
        self.process: subprocess.Popen | None = None
        self.url = ""

    def start(self) -> None:
        """Start the process, which is not ready yet."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        for name in ("output", "temp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(parents=True)
        command = [sys.executable, "-c", LAUNCH, str(self.root / "main.py"), "--listen", "127.0.0.1"]
        command += ["--port", str(port), "--disable-auto-launch", "--output-directory", str(self.output)]
        command += ["--temp-directory", str(self.folder), "--database-url", "sqlite:///:memory:", *self.options]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,  # Ctrl-C is for whoever started it
            )

    def ended(self) -> str:
        """What to say of a process that is no more; nothing while it runs."""
        code = None if self.process is None else self.process.poll()
        return "" if code is None else f"ComfyUI ended with exit code {code}. {self.tail()}"

    def tail(self) -> str:
        """The end of its log, for messages."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - LOG_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "The end of its log:\n" + "\n".join(f"    {line}" for line in lines[-LOG_LINES:])

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def close(self) -> None:
        """End the process, and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self, since: float) -> None:
        """Of a process that was started at `since`: raises NoComfyUI where it has ended, or takes too long."""
        if ended := self.ended():
            raise NoComfyUI(f"ComfyUI in {self.root} does not start on {socket.gethostname()}. {ended}")
        if time.monotonic() - since > START_SECONDS:
            raise NoComfyUI(
                f"ComfyUI in {self.root} on {socket.gethostname()} gave no answer in {START_SECONDS:.0f} s. "
                f"{self.tail()}"
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _sweep() -> None:
    """Delete the folders of workers that were killed together with their ComfyUI."""
    try:
        from psutil import pid_exists
    except ImportError:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
