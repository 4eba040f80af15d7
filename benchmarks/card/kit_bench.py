"""benchmarks/gpu.py at the released size, and what it does not measure. At most 300 s.

Its parts run in the order of what they tell, into gpu.json. Between them, into bench.json: how much of a step is
launching kernels, CUDA graphs, kinds of kernels, attention back ends, dtypes, the encoder's activations, the VAE's
dtypes. KIT_SMALL=1: tiny sizes, for a CPU.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from kit_common import OUT, ROOT, Report, Skip, error, left, say, short

sys.path.insert(0, str(ROOT / "benchmarks"))
SMALL = os.environ.get("KIT_SMALL") == "1"
LATE = ("batch", "layout", "compiled", "compiled_diffusers")  # of gpu.py's parts, after everything else


def main() -> None:
    report = Report("bench")
    import gpu
    import torch
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    device = gpu.Device()
    if device.module is None and not SMALL:
        raise SystemExit("no accelerator; KIT_SMALL=1 runs everything at a tiny size")
    bench = gpu.Bench(device, torch.float16 if device.module else torch.float32, SMALL, left(), OUT)
    more = More(bench, report)

    def part(name: str) -> None:
        seconds = gpu.PARTS[name].seconds
        report.check(name, lambda: run_part(bench, name), 2 * seconds, need=2 if SMALL else seconds)

    for name in ("limits", "unet"):
        part(name)
    report.check("a forward, piece by piece", more.forward, 45)
    report.check("kinds of kernels", more.kernels, 30)
    report.check("attention back ends", more.attention, 30)
    part("rows")
    report.check("UNet dtypes", more.dtypes, 60)
    part("encoder")
    report.check("encoder, activations", more.activations, 40)
    report.check("packed products", more.products, 20)
    part("vae")
    report.check("VAE by dtype", more.vae_dtypes, 30)
    for name in LATE:
        part(name)
    gpu.print_results(bench.report)
    say("bench: done")


def run_part(bench, name: str) -> dict:
    """A part of gpu.py, which is on disk then; its figures."""
    import gpu

    if failed := bench.run([name]):
        raise RuntimeError(failed[name])
    found = bench.report[gpu.PARTS[name].section]
    found = found[bench.entry(name)] if bench.entry(name) else found
    return {"s per run" if key == "seconds" else key: value for key, value in found.items()}


class More:
    """What gpu.py does not measure, on its UNets."""

    def __init__(self, bench, report: Report):
        import gpu
        import torch

        self.bench, self.report, self.gpu, self.torch = bench, report, gpu, torch
        self.device = bench.device

    def clocked(self, run, rounds: int = 7) -> tuple[float, float]:
        """Milliseconds until the device has ended, and until Python had handed everything over: medians."""
        whole, handed = [], []
        for turn in range(rounds + 2):
            self.device.wait()
            began = time.perf_counter()
            run()
            after = time.perf_counter()
            self.device.wait()
            if turn > 1:
                whole.append(1000 * (time.perf_counter() - began))
                handed.append(1000 * (after - began))
        return statistics.median(whole), statistics.median(handed)

    def guided_step(self):
        """A forward of our UNet on both prompts."""
        network, inputs = self.bench.unets().network(), self.bench.inputs()
        return lambda: network(*inputs, transformer_options={})

    def forward(self):
        """A guided forward of the UNet: by the clock, handed over, and as a replayed CUDA graph without launches."""
        torch, run, steps = self.torch, self.guided_step(), self.bench.steps
        with torch.inference_mode():
            whole, handed = self.clocked(run)
            operations = self.bench.report["work"]["operations"] / steps
            found = {"ms": whole, "ms until handed over": handed, "TFLOPS": operations / whole / 1e9}
            if self.device.torch.type == "cuda" and hasattr(torch.cuda, "CUDAGraph"):
                try:
                    found |= self.as_graph(run, whole)
                except Exception as problem:
                    found["graph"] = f"{type(problem).__name__}: {problem}"[:300]
        sampled, _ = self.clocked(self.bench.runs()["ours"], 1)
        return found | {"ms of a picture": sampled, "ms of a step beside the forward": sampled / steps - whole}

    def as_graph(self, run, whole: float):
        torch = self.torch
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            out = run()
        replayed, _ = self.clocked(graph.replay)
        return {"ms as a graph": replayed, "share of launching": 1 - replayed / whole, "graph error": error(out, run())}

    def kernels(self):
        """Time on the device by kind of kernel, and how many there are, of one forward."""
        torch, run = self.torch, self.guided_step()
        from torch.profiler import profile, supported_activities

        activities = list(supported_activities())
        if self.device.torch.type != "cpu" and len(activities) < 2:
            raise Skip("this torch does not see the device's kernels")
        with torch.inference_mode():
            run()
            with profile(activities=activities) as profiler:
                run()
                self.device.wait()
        events = profiler.key_averages()
        cost = lambda event: getattr(event, "self_device_time_total", 0) or 0  # noqa: E731
        on_device = [e for e in events if "cuda" in str(getattr(e, "device_type", "")).lower()] or events
        longest = sorted(((cost(e) / 1000, e.count, e.key) for e in on_device if cost(e)), reverse=True)[:25]
        self.report.fact(
            "kernels of a forward (ms, times, name)", [(short(ms), count, key[:100]) for ms, count, key in longest]
        )
        kinds = {
            "attention": ("attention", "fmha", "flash", "sdpa"),
            "convolution": ("conv", "fprop", "implicit"),
            "product": ("gemm", "cutlass", "addmm", "nvjet", "matmul"),
            "norm": ("norm",),
            "copy": ("copy", "memcpy", "cat"),
        }
        shares: dict[str, float] = {}
        for event in on_device:
            kind = next((k for k, words in kinds.items() if any(w in event.key.lower() for w in words)), "other")
            shares[kind] = shares.get(kind, 0.0) + cost(event)
        whole = sum(shares.values())
        launches = sum(event.count for event in events if "LaunchKernel" in event.key)
        shares = {kind: value / (whole or 1) for kind, value in sorted(shares.items())}
        return {"kernels": launches, "ms on the device": whole / 1000} | shares

    def attention(self):
        """Milliseconds of a forward with each of torch's back ends alone."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        run, found = self.guided_step(), {}
        for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
            try:
                with self.torch.inference_mode(), sdpa_kernel(getattr(SDPBackend, name)):
                    found[name] = self.clocked(run, 3)[0]
            except Exception as problem:
                found[name] = f"{type(problem).__name__}: {problem}".splitlines()[0][:120]
        return found

    def dtypes(self):
        """Milliseconds of a forward in bf16 and in both ways of fp8, loaded by the host as a user's file."""
        import comfy.model_management
        from comfyui_kolors.kolors_core.host import compat

        torch, found = self.torch, {}
        options = {"bf16": {"dtype": torch.bfloat16}, "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn}}
        options["fp8_e4m3fn_fast"] = {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True}
        weights = self.bench.unets().network().state_dict()
        for name, choice in options.items():
            if left() < 20 or (name.endswith("fast") and self.device.module is None):
                found[name] = "no time, or no device"
                continue
            try:
                model = compat.load_diffusion_model_state_dict(dict(weights), choice, {})
                compute = model.model.manual_cast_dtype or model.model.get_dtype()
                comfy.model_management.load_models_gpu([model])
                network, inputs = model.model.diffusion_model, self.bench.inputs(compute)
                run = lambda n=network, i=inputs: n(*i, transformer_options={})  # noqa: E731
                with torch.inference_mode():
                    found |= {name: self.clocked(run, 5)[0], f"{name} computes in": str(compute)}
            except Exception as problem:
                found[name] = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
            finally:
                model = network = run = None
                self.device.clear()
        return found

    def activations(self):
        """Milliseconds of a prompt by storage, with activations in float32 (as users run it) and in halves."""
        from comfyui_kolors.kolors_core.networks.chatglm3 import encode_prompts
        from comfyui_kolors.kolors_core.networks.quantization import BITS

        torch, gpu, place, found = self.torch, self.gpu, self.device.torch, {}
        config = gpu.encoder_config(self.bench.sizes, gpu.VOCABULARY[SMALL])
        for name in ("fp16", "fp8_e4m3fn", *BITS):
            matrices = torch.float8_e4m3fn if name.startswith("fp8") else self.bench.dtype
            encoder = gpu.random_encoder(config, matrices, self.bench.dtype, BITS.get(name), place)
            states = {}
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                run = lambda d=dtype, e=encoder: encode_prompts(e, [gpu.PROMPT], device=place, dtype=d)  # noqa: E731
                key = f"{name}, {str(dtype)[6:]}"
                try:
                    with torch.inference_mode():
                        found[key] = self.clocked(run, 3)
                        states[dtype] = run()[0].float()
                    found[f"{key}, error"] = error(states[dtype], states[torch.float32])
                except Exception as problem:
                    found[key] = f"{type(problem).__name__}: {problem}"[:200]
            encoder = run = None
            self.device.clear()
        return found

    def products(self):
        """Milliseconds of the encoder's largest matrix in int8 and int4: unpacked, as it is, and by torch's kernels."""
        from comfyui_kolors.kolors_core.networks import products
        from comfyui_kolors.kolors_core.networks.quantization import dequantize, quantize

        torch, place, found = self.torch, self.device.torch, {}
        outputs, inputs = (256, 128) if SMALL else (27392, 4096)
        weight = torch.randn(outputs, inputs) * 0.02
        x = torch.randn(22, inputs, device=place)
        eight, four = ([part.to(place) for part in quantize(weight, bits)] for bits in (8, 4))
        brain, group = x.bfloat16(), 128
        bytes_ = four[0].view(torch.uint8) ^ 0x88  # both halves from signed to 0..15, which tinygemm takes
        scales = four[1].bfloat16().expand(inputs // group, -1)
        tiny = torch.stack((scales, torch.zeros_like(scales)), dim=-1).contiguous()  # (groups, o, scale and zero)
        runs = {
            "int8, unpacked": lambda: torch.nn.functional.linear(x, dequantize(*eight, 8, x.dtype)),
            "int8, _weight_int8pack_mm": lambda: torch._weight_int8pack_mm(x, *eight),
            "int8, _int_mm": lambda: products.multiply_integers(x, *eight, 8),
            "int4, unpacked": lambda: torch.nn.functional.linear(x, dequantize(*four, 4, x.dtype)),
            "int4, _int_mm": lambda: products.multiply_integers(products.order_columns(x), *four, 4),
        }
        try:
            packed = torch._convert_weight_to_int4pack(bytes_, 8)
            runs["int4, _weight_int4pack_mm"] = lambda: torch._weight_int4pack_mm(brain, packed, group, tiny)
        except Exception as problem:
            found["int4, _weight_int4pack_mm"] = f"{type(problem).__name__}: {problem}"[:200]
        for name, run in runs.items():
            try:
                with torch.inference_mode():
                    found[name] = self.clocked(run, 7)
                    exact = runs[f"{name[:4]}, unpacked"]()
                    found[f"{name}, error"] = error(run().float(), exact)
            except Exception as problem:
                found[name] = f"{type(problem).__name__}: {problem}"[:200]
        return found

    def vae_dtypes(self):
        """Seconds of decoding one picture by dtype, and in tiles."""
        torch, cells, found = self.torch, self.bench.cells, {}
        latent = torch.randn(1, 4, cells, cells)
        dtypes = (torch.float16, torch.bfloat16, torch.float32) if self.device.module else (torch.float32,)
        with torch.inference_mode():
            for dtype in dtypes:
                vae = self.gpu.random_vae(dtype=dtype)
                found[str(dtype)[6:]] = self.clocked(lambda vae=vae: vae.decode(latent), 2)[0] / 1000
            found["in tiles"] = self.clocked(lambda: vae.decode_tiled(latent), 1)[0] / 1000
        return found


if __name__ == "__main__":
    main()
