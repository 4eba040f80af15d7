"""What the machine and the host are, and checks that have no counterpart on a CPU; for kit_smoke.py."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from kit_cases import (
    PRESETS,
    PROMPTS,
    STORAGES,
    adapter,
    controlled,
    draw,
    encoder_lora,
    flat,
    lora,
    states,
    tiny_sample,
)
from kit_common import WORK, Report, Skip, error, synchronize


def facts(report: Report, device):
    import comfy.ldm.modules.attention as attention
    import comfy.model_management as management
    import comfyui_version

    report.fact("python", platform.python_version())
    names = "torch torchvision torchaudio triton transformers diffusers numpy safetensors accelerate peft aiohttp scipy"
    names += " pillow typing_extensions pydantic huggingface_hub pytest pytest-xdist pytest-timeout"
    report.fact("packages", {name: version(name) for name in names.split()})
    report.fact("host", comfyui_version.__version__)
    machine = {"cores": os.cpu_count(), "memory GB": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9}
    for place in ("/tmp", "/dev/shm"):
        if os.path.isdir(place):
            usage = os.statvfs(place)
            machine[f"free in {place} GB"] = usage.f_bavail * usage.f_frsize / 1e9
    limits = Path("/proc/self/limits").read_text() if os.path.exists("/proc/self/limits") else ""
    machine["locked memory"] = next((line.split()[3] for line in limits.splitlines() if "locked memory" in line), "?")
    report.fact("machine", machine)
    cuda = {"available": torch.cuda.is_available(), "built for": torch.version.cuda}
    if device.type == "cuda":
        cuda["name"] = torch.cuda.get_device_name()
        cuda["memory MiB"] = [value >> 20 for value in torch.cuda.mem_get_info()]
        cuda["capability"] = list(torch.cuda.get_device_capability())
        cuda["allocator"] = torch.cuda.get_allocator_backend()
    report.fact("cuda", cuda)
    half = {
        str(t): str(management.unet_dtype(device, 2_600_000_000, weight_dtype=t))
        for t in (torch.float16, torch.float32)
    }
    report.fact("host decides", {
        "device": str(device), "attention": attention.optimized_attention.__name__, "UNet dtype by the file's": half,
        "VAE dtype": str(management.vae_dtype(device, [torch.float16, torch.bfloat16, torch.float32])),
        "encoder on": str(management.text_encoder_device()),
        "encoder waits on": str(management.text_encoder_offload_device()),
        "UNet waits on": str(management.unet_offload_device()), "memory state": str(management.vram_state),
        "pinned memory MiB": int(getattr(management, "MAX_PINNED_MEMORY", 0)) >> 20,
        "TF32 of products, convolutions": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
    })  # fmt: skip
    return {"host": comfyui_version.__version__, "torch": torch.__version__, "device": cuda.get("name", str(device))}


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def again(models, device, report):
    """Two runs of one prompt give the same bytes; many tests of the project rely on it."""
    outcome, same = {}, "the same bytes"
    for dtype in ("fp32", "default"):
        first, second = (draw(models, models.unet(dtype), steps=6) for _ in range(2))
        outcome[dtype] = same if torch.equal(first, second) else error(first, second)
    pair = [draw(models, models.unet("fp32"), steps=6, batch=count)[:1] for count in (2, 1)]
    return outcome | {"ok": set(outcome.values()) == {same}, "first of a batch of 2 and alone": error(*pair)}


@contextlib.contextmanager
def counted():
    """Gives a list that then has the line of Python of every wait for the device in this block."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines += [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


def waits(models, device, report):
    """How often a run waits for the device, by line of Python: each wait leaves the device idle."""
    if device.type != "cuda" or not hasattr(torch._C, "_cuda_set_sync_debug_mode"):
        raise Skip("needs CUDA, and a torch that is built for it")
    pair = [states(models.clip("default"), text) for text in ("红苹果", "")]
    applied = adapter(models, start=0.1, end=0.8)
    runs = {
        f"preset {preset}, a step": lambda n, p=preset: draw(models, models.unet("default"), p, n, pair=pair)
        for preset in PRESETS
    }
    runs["IP-Adapter in part of the schedule, a step"] = lambda n: tiny_sample(applied, steps=n)
    runs["ControlNet, a step"] = lambda n: tiny_sample(models.tiny(), controlled(models, "control"), steps=n)
    places, counts = Counter(), {}
    for name, sample in runs.items():
        with counted() as few:
            sample(4)
        with counted() as many:
            sample(12)
        places.update(few + many)
        counts[name] = (len(many) - len(few)) / 8
    with counted() as lines:
        states(models.clip("default"), "一只猫")
    report.fact("waits by line", places.most_common(40))
    report.fact("waits of encoding a prompt", Counter(lines).most_common(20))
    return counts | {"encoding a prompt": len(lines)}


def no_room_runs(models) -> dict:
    """What is run once as usual, and once with all weights left in RAM (--novram), whence they come as needed."""
    runs = {f"encoder {s}": lambda s=s: flat(states(models.clip(s), PROMPTS[0])) for s in STORAGES}
    runs |= {f"UNet {d}": lambda d=d: draw(models, models.unet(d), steps=4) for d in ("fp32", "default", "fp8_e4m3fn")}
    for storage in ("fp16", "int8", "int4"):
        run = lambda s=storage: flat(states(encoder_lora(models, s), PROMPTS[0]))  # noqa: E731
        runs[f"LoRA on the encoder in {storage}"] = run
    runs["LoRA on the UNet"] = lambda: tiny_sample(lora(models))
    runs["IP-Adapter and ControlNet"] = lambda: tiny_sample(adapter(models), controlled(models, "control"))
    return runs


def no_room(run, device):
    """The distance between the two."""
    import comfy.model_management as management

    if device.type == "cpu":
        raise Skip("needs an accelerator")
    state = management.vram_state
    try:
        management.unload_all_models()
        expected = run()
        management.unload_all_models()
        management.vram_state = management.VRAMState.NO_VRAM
        value = error(run(), expected)
    finally:
        management.vram_state = state
        management.unload_all_models()
    return {"error": value, "ok": value < 0.02}


def pinning(models, device, report):
    """The pack maps files; the host pins what it offloads. Does CUDA pin mapped pages, and what does it gain?"""
    if device.type != "cuda":
        raise Skip("needs CUDA")
    size, path = 256 << 20, WORK / "pinned.bin"
    with path.open("wb") as file:
        for _ in range(size >> 24):
            file.write(os.urandom(1 << 20) * 16)
    mapped = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
    kinds = {"mapped": torch.empty(0, dtype=torch.uint8).set_(mapped), "plain": torch.ones(size, dtype=torch.uint8)}
    target, outcome = torch.empty(size, dtype=torch.uint8, device=device), {}

    def speed(tensor):
        seconds = []
        for _ in range(3):
            synchronize(device)
            began = time.perf_counter()
            target.copy_(tensor, non_blocking=True)
            synchronize(device)
            seconds.append(time.perf_counter() - began)
        return [round(size / value / 1e9, 1) for value in seconds]

    for name, tensor in kinds.items():
        outcome[f"{name}, GB/s"] = speed(tensor)
        began = time.perf_counter()
        status = int(torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), size, 1))
        outcome[f"{name} pins"] = "yes" if status == 0 else f"no, error {status}"
        outcome[f"{name}, seconds to pin"] = time.perf_counter() - began
        if status == 0:
            outcome[f"{name} pinned, GB/s"] = speed(tensor)
            torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())
        else:  # the error stands until somebody asks, and the next launch would be blamed
            for _ in range(2):
                with contextlib.suppress(RuntimeError):
                    torch.ones(1, device=device).add_(1)
                    synchronize(device)
        outcome[f"{name} arrives"] = bool((target.cpu() == tensor).all())
    path.unlink()
    return outcome | {"ok": outcome["mapped arrives"] and outcome["plain arrives"]}


def trace_unet(models, device, report):
    """The UNet under torch.compile, traced but not compiled: that takes a minute, and the stage bench has it."""
    try:
        from comfy_api.torch_helpers import set_torch_compile_wrapper
    except ImportError as reason:
        raise Skip(str(reason)) from None
    clone = models.unet("default").clone()
    set_torch_compile_wrapper(clone, backend="eager")
    first = draw(models, clone, steps=2)
    value = error(first, draw(models, models.unet("default"), steps=2))
    return {"error": value, "ok": value < 0.05}


CHECKS = {
    "the same again": again,
    "waits for the device": waits,
    "pinning a mapped file": pinning,
    "traced as torch.compile does": trace_unet,
}
