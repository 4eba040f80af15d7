"""Repairs of a torch family whose builds, for CPU and CUDA, do not go together."""

from __future__ import annotations

from pathlib import Path

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
