"""What the figures were measured on, and the folder of its results."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sys
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parent / "results"
QUICK_RESULTS = RESULTS.parent.parent / ".dev" / "quick"


def machine() -> dict[str, object]:
    """The processor, the accelerator if there is one, and the versions that the figures depend on."""
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # of everything, over the last minute
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "comfyui": comfyui_version(),
    }
    if torch.cuda.is_available():
        found |= {"accelerator": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "rocm": torch.version.hip}
    for name in ("diffusers", "transformers"):
        if name in sys.modules:
            found[name] = sys.modules[name].__version__
    return found


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def comfyui_version() -> str | None:
    """Of the ComfyUI in COMFYUI_PATH."""
    file = Path(os.environ.get("COMFYUI_PATH", "")) / "comfyui_version.py"
    if not file.is_file():
        return None
    found = re.search(r'__version__ = "([^"]+)"', file.read_text(encoding="utf-8"))
    return found[1] if found else None


def today() -> str:
    return datetime.date.today().isoformat()


def folder_name(found: dict[str, object]) -> str:
    """Figures of one machine lie in one folder: of its processor, number of cores and accelerator."""
    parts = [found["processor"], found["cores"], "cores", found.get("accelerator") or ""]
    text = re.sub(r"\((?:r|tm)\)", " ", " ".join(map(str, parts)).lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def results_folder() -> Path:
    """Where the results of this machine lie."""
    return RESULTS / folder_name(machine())
