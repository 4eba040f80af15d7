"""Imports the torch family for real, and repairs one whose builds, for CPU and CUDA, do not go together.

With the builds of PyTorch's own index there is nothing to repair. Where pip is pointed at other packages, it may find a
CPU build of torch there, and a CUDA build of torchvision or torchaudio elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from . import places
from .process import python_says, run_logged
from .progress import Step

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


def check_imports(step: Step, python: Path) -> None:
    """Imports each package in a process of its own, and repairs it only where that fails."""
    repairs = {"torch": None, "torchvision": repair_torchvision, "torchaudio": repair_torchaudio}
    for name, repair in repairs.items():
        step.tick(f"import {name}")
        if python_says(python, f"import {name}") is None:
            if repair:
                repair(site_packages(python))
            command = [python, "-c", f"import {name}"]
            run_logged(step, command, places.LOGS / "imports.log", f"Delete {places.DEV} and run this again.")


def site_packages(python: Path) -> Path:
    """Where that interpreter's packages are. Raises OSError where it does not say."""
    found = python_says(python, "import sysconfig; print(sysconfig.get_path('platlib'))")
    if not found:
        raise OSError(f"{python} does not start. Delete {places.DEV} and run this again.")
    return Path(found)


def repair_torchvision(site: Path) -> None:
    (site / "torchvision_schemas.py").write_text(SCHEMAS_MODULE, encoding="utf-8")
    (site / "torchvision_schemas.pth").write_text("import torchvision_schemas\n", encoding="utf-8")


def repair_torchaudio(site: Path) -> None:
    """Removes compiled parts that do not fit this torch; torchaudio imports without them."""
    for library in (site / "torchaudio" / "lib").glob("*"):
        if library.suffix in (".so", ".pyd"):
            library.unlink()
