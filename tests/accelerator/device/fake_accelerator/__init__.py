"""Makes a CPU-only torch believe that it has an accelerator, whose memory is the CPU's; see README.md."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
import types

from . import build, surface, trace

native = None  # the extension module, after install()


def install(kind: str | None = None):
    """Register the device of FAKE_DEVICE; the torch of this process has it from here on."""
    global native
    kind = kind or os.environ["FAKE_DEVICE"]
    assert "torch" not in sys.modules, "torch asks once, at its start, what accelerators there are"
    library = build.library(kind)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import torch

    if build.KEYS[kind] == "PrivateUse1":
        torch.utils.rename_privateuse1_backend("npu" if kind == "npu" else "privateuseone")
    spec = importlib.util.spec_from_file_location(build.module_name(kind), library)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    native.start()
    native.set_limit(int(os.environ.get("FAKE_VRAM_MB", "8192")) << 20)
    native.set_poison(os.environ.get("FAKE_POISON", "1") == "1")
    native.set_strict(os.environ.get("FAKE_STRICT", "1") == "1")
    ANNOUNCE[kind](torch, kind, surface.functions(native, kind))
    if os.environ.get("FAKE_LENIENT") == "1":
        native.set_judge(trace.is_from_a_test)
    if trace.path:
        trace.start(native)
    return native


def announce_cuda(torch, kind, functions) -> None:
    """NVIDIA's or AMD's."""
    vars(torch.cuda).update(functions)
    torch.cuda.cudart = lambda: surface.Cudart(native)
    torch.cuda.get_allocator_backend = lambda: "native"
    torch.cuda.memory.memory_stats = functions["memory_stats"]
    torch.cuda.OutOfMemoryError = torch.OutOfMemoryError
    if kind == "cuda":
        torch.version.cuda = "12.8"
    else:
        torch.version.hip = "6.4.0"


def announce_xpu(torch, kind, functions) -> None:
    vars(torch.xpu).update(functions)


def announce_mps(torch, kind, functions) -> None:
    import platform

    torch.backends.mps.is_available = torch.backends.mps.is_built = lambda: True
    for name in ("empty_cache", "synchronize", "manual_seed", "device_count", "_is_in_bad_fork"):
        setattr(torch.mps, name, functions[name])
    torch.mps.current_allocated_memory = native.used
    platform.mac_ver = lambda *args, **options: ("15.0", ("", "", ""), "arm64")


def announce_npu(torch, kind, functions) -> None:
    module = types.ModuleType("torch.npu")
    vars(module).update(functions)
    torch._register_device_module("npu", module)
    stub = types.ModuleType("torch_npu")
    stub.npu_fusion_attention = None
    stub.__spec__ = importlib.machinery.ModuleSpec("torch_npu", None)
    sys.modules["torch_npu"] = stub


def announce_directml(torch, kind, functions) -> None:
    module = types.ModuleType("torch.privateuseone")
    vars(module).update(functions)
    torch._register_device_module("privateuseone", module)
    stub = types.ModuleType("torch_directml")
    stub.device = lambda index=0: torch.device("privateuseone", 0)
    stub.device_name = lambda index=0: "fake"
    sys.modules["torch_directml"] = stub


#: What tells the Python side of torch of each kind of device.
ANNOUNCE = {
    "cuda": announce_cuda,
    "rocm": announce_cuda,
    "xpu": announce_xpu,
    "mps": announce_mps,
    "npu": announce_npu,
    "directml": announce_directml,
}
