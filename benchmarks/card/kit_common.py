"""What the stages share: the deadline, a report that is on disk after every check, the host on a chosen device."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = Path(os.environ.get("OUT", ROOT / ".device/out"))
WORK = Path(os.environ.get("KIT_WORK", "/tmp/kolors-kit"))
DEADLINE = float(os.environ.get("KIT_DEADLINE", time.time() + 3600))
STARTED = time.time()
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, min(8, (os.cpu_count() or 2) // 2))))  # before torch
ONLY = os.environ.get("KIT_ONLY", "")  # a regular expression: no other checks, but those that they all need
SLOW = float(os.environ.get("KIT_SLOW", "1"))  # how much longer than on a machine with a card a check may take


def say(text: str) -> None:
    """A line that the caller of run.sh sees; everything else goes to kit.log alone."""
    for line in text.splitlines():
        print(f"[kit] {time.time() - STARTED:5.1f} {line}", flush=True)


def left() -> float:
    """Seconds until the stage is ended from outside."""
    return DEADLINE - time.time()


class TooLong(Exception):
    """A check took longer than it may, or there is no time for it."""


class Skip(Exception):
    """A check that cannot be made here."""


@contextmanager
def time_limit(seconds: float):
    """Raises TooLong in the block after `seconds`; what runs inside a C function is not interrupted."""

    def ring(number, frame):
        raise TooLong(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """<name>.json in $OUT: facts, and checks by name. Written whole after every change."""

    def __init__(self, name: str):
        self.path = OUT / f"{name}.json"
        self.data: dict = {"facts": {}, "checks": {}}
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.data, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.path)

    def fact(self, name: str, value) -> None:
        self.data["facts"][name] = value
        self.write()

    def check(self, name: str, run, limit: float = 30.0, need: float = 2.0, always: bool = False):
        """Run a check and note its outcome; returns what it returns, or None where it failed.

        A check returns None, or a dict of figures in which "ok": False is a failure.
        """
        if ONLY and not always and not re.search(ONLY, name):
            return None
        if left() < need:
            self.data["checks"][name] = {"outcome": "no time"}
            self.write()
            return None
        began, entry, result = time.perf_counter(), {"outcome": "ok"}, None
        print(f"---- {name}", flush=True)
        try:
            with time_limit(min(limit * SLOW, left())):
                result = run()
            if isinstance(result, dict):
                entry |= {key: value for key, value in result.items() if not key.startswith("_")}
                if result.get("ok") is False:
                    entry["outcome"] = "WRONG"
        except Skip as reason:
            entry = {"outcome": "skipped", "why": str(reason)}
        except TooLong as error:
            entry = {"outcome": "TOO LONG", "error": str(error)}
        except KeyboardInterrupt:
            self.data["checks"][name] = {"outcome": "STOPPED"}
            self.write()
            raise
        except Exception as error:
            lines = traceback.format_exc().splitlines()
            entry = {"outcome": "FAILED", "error": f"{type(error).__name__}: {error}"[:1500], "trace": lines[-16:]}
            print("\n".join(lines), flush=True)
        entry["seconds"] = round(time.perf_counter() - began, 2)
        self.data["checks"][name] = entry
        self.write()
        figures = {key: short(value) for key, value in entry.items() if key not in ("outcome", "trace", "seconds")}
        say(f"{entry['outcome']:8} {name} ({entry['seconds']} s) {figures if figures else ''}"[:400])
        return result


def short(value):
    if isinstance(value, float):
        return float(f"{value:.3g}")
    if isinstance(value, dict):
        return {key: short(item) for key, item in list(value.items())[:12]}
    if isinstance(value, (list, tuple)):
        return [short(item) for item in value[:8]]
    return value


def enter_host(**flags):
    """The pack under its alias and the host's modules, as the tests have them; `flags` of the host's command line.

    The device is CUDA where there is one and KIT_DEVICE is not "cpu". Returns it as a torch.device.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    if os.environ.get("KIT_DYNAMIC") == "1" and os.environ.get("KIT_DEVICE") != "cpu":
        import comfy_aimdo.control

        comfy_aimdo.control.init()  # before the host is imported: comfy_aimdo keeps the library then
    import conftest
    from comfy.cli_args import args

    conftest.leave_precision_to_host()

    if os.environ.get("KIT_DEVICE") == "cpu":
        args.cpu = True
    for name, value in flags.items():
        if not hasattr(args, name):
            raise SystemExit(f"the host has no flag {name}")
        setattr(args, name, value)
    import comfy.model_management
    import comfy.utils
    from comfyui_kolors.kolors_core.host import unet

    comfy.utils.set_progress_bar_enabled(False)
    unet.register()
    device = comfy.model_management.get_torch_device()
    if os.environ.get("KIT_DYNAMIC") == "1" and device.type != "cpu":
        start_dynamic_vram(device)
    return device


def start_dynamic_vram(device) -> None:
    """What main.py of a new host does on an NVIDIA card, and its modules alone do not."""
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.control

    if not comfy_aimdo.control.init_device(device.index or 0):
        raise SystemExit("comfy-aimdo does not work here, so that there is no dynamic VRAM")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def synchronize(device) -> None:
    import torch

    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def error(found, expected) -> float:
    """Relative L2 distance, in double precision; NaN where a value is not finite."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if not found.isfinite().all():
        return float("nan")
    return ((found - expected).norm() / expected.norm()).item()
