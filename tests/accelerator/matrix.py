"""Runs the cases on whatever device this process has, and saves what they gave.

    python tests/accelerator/matrix.py RESULTS.pt --base-directory FOLDER HOST-FLAGS

CASES: a regular expression for the names of the cases to run. AIMDO: 1 for the host's dynamic VRAM as on Linux, win for
that of Windows. TB=1: prints the traceback of a case that raises.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import time
import traceback
import types
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent


def enter_host(flags: list[str]) -> None:
    """Make the host and the pack importable, the host with these start options."""
    package = types.ModuleType("comfyui_kolors")
    package.__path__ = [str(ROOT)]
    sys.modules["comfyui_kolors"] = package
    sys.path[1:1] = [os.environ["COMFYUI_PATH"], str(TESTS)]
    sys.argv = ["main.py", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()
    import folder_paths

    for folder in (folder_paths.models_dir, folder_paths.get_output_directory()):
        Path(folder).mkdir(parents=True, exist_ok=True)
    patch_in_float32()
    if os.environ.get("AIMDO"):
        switch_on_dynamic_vram(windows=os.environ["AIMDO"] == "win")


def patch_in_float32() -> None:
    """Under float32 flags: from 0.8 on, hosts compute patches in float16 wherever the device has it (1e-3 off)."""
    import comfy.model_management
    import torch
    from comfy.cli_args import args

    if args.fp32_unet and hasattr(comfy.model_management, "LORA_COMPUTE_DTYPES"):
        comfy.model_management.LORA_COMPUTE_DTYPES[comfy.model_management.get_torch_device()] = torch.float32


def switch_on_dynamic_vram(windows: bool) -> None:
    """What the host's main.py does where it finds comfy-aimdo and an NVIDIA card."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    comfy.memory_management.aimdo_enabled = True
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    if windows:
        comfy.model_management.WINDOWS = True


def run(case):
    """A case's tensors by name, or what it raised as a line of text."""
    import torch

    try:
        with contextlib.redirect_stderr(io.StringIO()), torch.inference_mode():
            found = case()
    except Exception as error:
        if os.environ.get("TB"):
            traceback.print_exc(file=sys.stdout)
        return describe(error)
    found = found if isinstance(found, dict) else {"": found}
    return {name: tensor.detach().float().cpu() for name, tensor in found.items()}


def describe(error: Exception) -> str:
    """Type and first line of an error, where it was raised, and the innermost line of the pack."""
    places = traceback.extract_tb(error.__traceback__)
    ours = [place for place in places if place.filename.startswith((f"{ROOT}/kolors_core", f"{ROOT}/nodes"))]
    where = " <- ".join(f"{Path(place.filename).name}:{place.lineno}" for place in (places[-1], *ours[-1:]))
    return f"{type(error).__name__}: {str(error).split(chr(10))[0][:220]} ({where})"


def main(output: Path, flags: list[str]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, filename=output.with_suffix(".log"), filemode="w")
    enter_host(flags)
    import torch
    from cases import CASES

    wanted = re.compile(os.environ.get("CASES", ""))
    results = {}
    for name, case in CASES.items():
        if wanted.search(name):
            started = time.monotonic()
            results[name] = run(case)
            error = results[name] if isinstance(results[name], str) else ""
            print(f"{name:42s} {time.monotonic() - started:6.2f} s {error}", flush=True)
    torch.save(results, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
