"""Does the released size run on small cards, and how fast? At most 120 s.

Files of the released size with random weights are written first, then loaded by the pack's own loaders. A card of n GB
is this one with torch's allocator held to n GB less 0.6 for the driver, and the host told so: what does not fit fails
as it would there. Transfers are this machine's; a small card's bus may be slower. KIT_SMALL=1: tiny, for a CPU.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import shutil
import sys
import time
from pathlib import Path

from kit_common import ONLY, ROOT, WORK, Report, Skip, enter_host, left, say, short

sys.path.insert(0, str(ROOT / "benchmarks"))  # for gpu.py
SMALL = os.environ.get("KIT_SMALL") == "1"
STEPS = 25  # of a picture; some of them are run
CONTEXT = 600 << 20  # bytes of a card that the driver's own context takes
#: GB of the card, the encoder's file, a state of the host's memory management; the most telling first.
CASES = (
    (8, "int4", ""), (12, "int4", ""), (16, "fp16", ""), (24, "fp16", ""), (0, "fp16", ""), (8, "fp16", ""),
    (12, "int8", ""), (8, "int4", "NO_VRAM"), (6, "int4", ""), (16, "int8", ""), (8, "int4", "LOW_VRAM"),
)  # fmt: skip


def main() -> None:
    report = Report("memory")
    device = enter_host()
    if device.type == "cpu" and not SMALL:
        raise SystemExit("no accelerator; KIT_SMALL=1 runs everything at a tiny size")
    folder = choose_folder()
    try:
        files = Files(folder, device)
        report.check("file of the UNet", files.unet, 40, always=True)
        card = Card(device)
        made = report.check("VAE", lambda: {"_vae": files.gpu.random_vae()}, 30, always=True)
        vae = made and made["_vae"]
        written = set()
        for gigabytes, storage, state in CASES if not SMALL else CASES[:2]:
            name = f"{gigabytes or 'all'} GB, encoder {storage}{', ' + state if state else ''}"
            if ONLY and not re.search(ONLY, name):
                continue
            if storage not in written and left() > 25:
                report.check(f"file of the encoder, {storage}", lambda s=storage: files.encoder(s), 40, always=True)
                written.add(storage)
            if storage not in written:
                report.data["checks"][name] = {"outcome": "no time"}
                continue
            case = gigabytes, storage, state
            report.check(name, lambda case=case: one(device, files, vae, card, *case), 45, need=12)
            tidy(device)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table(report)


# ---- the files ------------------------------------------------------------------------------------------------------


def choose_folder() -> Path:
    """In memory where there is room for all files, for what is read from a disk first says nothing of the pack."""
    shared = Path("/dev/shm")
    if not SMALL and shared.is_dir() and (usage := os.statvfs(shared)).f_bavail * usage.f_frsize > 30e9:
        folder = shared / "kolors-kit"
    else:
        folder = WORK / "full"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Files:
    """Files as published, with random weights that are made on the device."""

    def __init__(self, folder: Path, device):
        import gpu

        self.folder, self.device, self.gpu = folder, device, gpu
        self.sizes = gpu.SMALL if SMALL else gpu.RELEASED

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.safetensors")

    def write(self, name: str, tensors: dict) -> dict:
        from safetensors.torch import save_file

        began = time.perf_counter()
        tensors = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        save_file(tensors, self.path(name))
        return {"GB": sum(t.nbytes for t in tensors.values()) / 1e9, "seconds": time.perf_counter() - began}

    def unet(self) -> dict:
        import torch

        return self.write("unet", self.gpu.random_unet(self.sizes, torch.float16, self.device).state_dict())

    def encoder(self, storage: str) -> dict:
        """Integers with scales, or halves; the tokenizer is inside."""
        import torch
        from comfyui_kolors.demo.random_models import random_tokenizer, tokenizer_tensors
        from comfyui_kolors.kolors_core.networks.quantization import BITS
        from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer

        path, half = os.environ.get("KOLORS_TOKENIZER"), torch.float16
        model = Path(path).read_bytes() if path and not SMALL else random_tokenizer()
        rows = -(-ChatGLM3Tokenizer(model).vocab_size // 256) * 256
        config = self.gpu.encoder_config(self.sizes, rows)
        weights = self.gpu.random_encoder(config, half, half, BITS.get(storage), self.device).state_dict()
        return self.write(storage, weights | tokenizer_tensors(model))


# ---- the card -------------------------------------------------------------------------------------------------------


class Card:
    """Makes this card smaller for torch's allocator and for the host."""

    def __init__(self, device):
        import comfy.model_management as management
        import torch

        self.cuda = torch.cuda if device.type == "cuda" else None
        self.management, self.torch = management, torch
        if self.cuda:
            self.info = self.cuda.mem_get_info
            self.whole = self.info()[1]
            self.total = management.total_vram

    def shrink(self, gigabytes: int) -> None:
        if not self.cuda:
            return
        if not gigabytes:
            self.cuda.mem_get_info = self.info
            with contextlib.suppress(AttributeError):
                self.cuda.set_per_process_memory_fraction(1.0)
            self.management.total_vram = self.total
            return
        limit = (gigabytes << 30) - CONTEXT
        if limit > self.whole:
            raise Skip("this card is smaller")
        with contextlib.suppress(AttributeError):  # a torch without CUDA
            self.cuda.set_per_process_memory_fraction(limit / self.whole)
        self.cuda.mem_get_info = lambda device=None: (max(0, limit - self.cuda.memory_reserved()), limit)
        self.management.total_vram = gigabytes * 1024


def tidy(device) -> None:
    import comfy.model_management as management
    import torch

    management.vram_state = management.VRAMState.NORMAL_VRAM if device.type != "cpu" else management.vram_state
    management.unload_all_models()
    management.cleanup_models()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def one(device, files, vae, card, gigabytes, storage, state):
    """A prompt from files to pixels, then another prompt with all of it loaded once."""
    import comfy.model_management as management
    import loaders
    import torch
    from comfyui_kolors.kolors_core.host import sampling

    tidy(device)
    card.shrink(gigabytes)
    if state and device.type != "cpu":
        management.vram_state = management.VRAMState[state]
    cuda, found, cells = card.cuda, {}, 128 if not SMALL else 8
    if cuda:
        cuda.reset_peak_memory_stats()
    clock = [time.perf_counter()]

    def lap(name: str) -> None:
        if cuda:
            cuda.synchronize()
        now = time.perf_counter()
        found[name] = round(now - clock[0], 2)
        clock[0] = time.perf_counter()

    try:
        with torch.inference_mode():
            clip = loaders.load_text_encoder(files.path(storage))
            lap("encoder read")

            def encode(text):
                return [clip.encode_from_tokens_scheduled(clip.tokenize(each)) for each in (text, "")]

            pair = encode("一只红苹果，黄色背景，高清 a red apple on a yellow background, highly detailed")
            lap("encoded")
            found["encoder on the device, MiB"] = loaded(clip.patcher)
            model = loaders.load_unet(files.path("unet"))
            lap("UNet read")

            def sample(steps, conditioning):
                latent = {"samples": torch.zeros(1, 4, cells, cells)}
                return sampling.sample(model, 1, steps, 5.0, "euler", *conditioning, latent, 1.0)["samples"]

            sample(1, pair)
            lap("first step")
            found["UNet on the device, MiB"] = loaded(model)
            count = 4 if state == "NO_VRAM" or (gigabytes and gigabytes < 8) else 8
            samples = sample(count, pair)
            lap("steps")
            found["s per step"] = step = found.pop("steps") / count
            found["finite"] = bool(samples.isfinite().all())
            if vae:
                vae.decode(samples)
            lap("decoded")
            pair = encode("蓝色背景，机器人")
            lap("second prompt encoded")
            sample(1, pair)
            lap("first step of the second")
            if vae:
                vae.decode(samples)
            lap("decoded again")
            found["s per image, prompt encoded anew"] = (
                found["second prompt encoded"]
                + found["first step of the second"]
                + (STEPS - 1) * step
                + found["decoded again"]
            )
            found["s per image, the same prompt"] = STEPS * step + found["decoded again"]
    finally:
        if cuda:
            found["peak allocated, MiB"] = cuda.max_memory_allocated() >> 20
            found["peak reserved, MiB"] = cuda.max_memory_reserved() >> 20
        found["peak in RAM, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(found, flush=True)
        clip = model = pair = encode = sample = None
        tidy(device)
        card.shrink(0)
    return found | {"ok": found["finite"]}


def loaded(patcher) -> int:
    return int(patcher.loaded_size()) >> 20


def table(report: Report) -> None:
    print("| card | s per image | with a new prompt | s per step | UNet, encoder on it, MiB | peak, MiB |", flush=True)
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, entry in report.data["checks"].items():
        if " GB, " not in name:
            continue
        if "s per step" in entry:
            figures = [
                entry.get(key, "")
                for key in ("s per image, the same prompt", "s per image, prompt encoded anew", "s per step")
            ]
            both = f"{entry.get('UNet on the device, MiB')}, {entry.get('encoder on the device, MiB')}"
            cells = [name, *(str(short(value)) for value in figures), both, str(entry.get("peak reserved, MiB", ""))]
            print(f"| {' | '.join(cells)} |", flush=True)
        else:
            print(f"| {name} | {entry['outcome']} {entry.get('error', '')[:120]} | | | | |", flush=True)
    say("memory: done")


if __name__ == "__main__":
    main()
