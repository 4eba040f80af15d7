"""How a ComfyUI is started here: on what it computes, and the options that people add in KOLORS_HOST_FLAGS.

Run as a script it prints the accelerator of the Python that runs it, so dev.py can ask another environment.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex

VARIABLE = "KOLORS_HOST_FLAGS"
DYNAMIC_VRAM = "KOLORS_DYNAMIC_VRAM"  # the tests' mode in which the host is as under dynamic VRAM

#: In the order in which ComfyUI asks. NVIDIA, AMD (ROCm) and Iluvatar are all `cuda`.
KINDS = ("mps", "xpu", "npu", "mlu", "cuda")
#: Packages that bring torch a kind which it does not have by itself.
EXTENSIONS = {"npu": "torch_npu", "mlu": "torch_mlu"}
PRECISION = re.compile(r"--(?:force-)?(?:fp|bf)(?:8|16|32|64)")


def accelerator() -> str:
    """One of KINDS, or cpu where torch has none that works."""
    import torch

    for kind in KINDS:
        try:
            if kind in EXTENSIONS:
                importlib.import_module(EXTENSIONS[kind])
            if (torch.backends.mps if kind == "mps" else getattr(torch, kind)).is_available():
                return kind
        except Exception:  # absent, or without its driver: ComfyUI goes on to the next as well
            continue
    return "cpu"


def given() -> list[str]:
    """The options in KOLORS_HOST_FLAGS, split as a shell does it."""
    return shlex.split(os.environ.get(VARIABLE, ""))


def described() -> str:
    """The options, and the tests' mode, as one line for a record."""
    mode = [f"{DYNAMIC_VRAM}=1"] if os.environ.get(DYNAMIC_VRAM) else []
    return " ".join([*mode, *([shlex.join(given())] if given() else [])])


def device(found: str, options: list[str]) -> list[str]:
    """ComfyUI takes the CPU only if it is told to, and DirectML too, which torch does not list."""
    directml = any(option.startswith("--directml") for option in options)
    return ["--cpu"] if found == "cpu" and not directml else []


def float32(options: list[str]) -> list[str]:
    """What makes ComfyUI compute in float32 on an accelerator, unless `options` choose a precision.

    Not --force-fp32: that moves the text encoder to the CPU.
    """
    if any(PRECISION.match(option) for option in options):
        return []
    return ["--fp32-unet", "--fp32-vae", "--fp32-text-enc"]


if __name__ == "__main__":
    print(accelerator())
