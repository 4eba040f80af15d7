"""Kolors at its released size on an accelerator, beside diffusers: `python3 dev.py bench gpu`.

Random weights made on the device, so that nothing has to be downloaded: 1024 x 1024 pixels, 25 guided steps, batches of
1 and 4. Seconds per image and peak memory, each side in its own sampling stack, in one run; with channels last and
torch.compile as well; the encoder in half precision, int8 and int4. Beside them the floors: the arithmetic by torch's
own count of operations at the speed of a large product, and the weights read once at the speed of a copy, both measured
here.

Where there are two sides, their values are compared first (TOLERANCES), and sides that differ are not timed. Each part
is written to gpu.json when it ends, beside the parts of earlier runs with the same card, host and torch. The
plan is for five minutes of an H100, torch.compile last. A choice of parts, with what `python3 dev.py host` names:

    COMFYUI_PATH=<comfyui> <python> benchmarks/gpu.py --parts limits encoder --seconds 60

Without an accelerator it says so and does nothing, but for --small, which runs all of it at a tiny size.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KOLORS_BENCH_THREADS", str(os.cpu_count()))  # as users have them: two are for the CPU's figures

import _sides
import torch
from _gpu_rows import page_rows
from _machine import QUICK_RESULTS, results_folder
from _report import save, table
from _sides import Prompts, compare, random_prompts, sample, sample_reference
from _timing import alternate
from comfyui_kolors.demo.random_models import Sizes
from sampling_runs import SCALE

RELEASED = Sizes(
    hidden=4096, head_dim=128, groups=2, layers=28, ffn=13696, channels=(320, 640, 1280), depth=(2, 10), context=2048
)
SMALL = Sizes(depth=(1, 1))
VOCABULARY = {True: 512, False: 65024}  # rows of the embedding; small or not
PROMPT = [3, 4, *range(10, 30)]  # 22 tokens, of which two are the prefix
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
#: Relative L2 distance of final latents, and of the encoder's states, that two sides doing the same work may have. In
#: half precision, 25 steps and 28 layers, it was found to be 0.002 and 0.002 in fp16 of a CPU, 0.02 and 0.02 in bf16.
TOLERANCES = {torch.float32: (1e-3, 1e-4), torch.float16: (0.05, 0.02), torch.bfloat16: (0.3, 0.1)}


class Device:
    """The accelerator, or the CPU for a run at small size."""

    def __init__(self):
        import comfy.model_management

        self.torch = comfy.model_management.get_torch_device()
        self.module = getattr(torch, self.torch.type, None) if self.torch.type != "cpu" else None

    @property
    def name(self) -> str:
        named = getattr(self.module, "get_device_name", None)
        return named() if named else self.torch.type

    def wait(self) -> None:
        if self.module is not None:
            self.module.synchronize()

    def peak(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """What a run returns, and the MiB that it takes at most on the device; 0 where the device does not tell."""
        count = getattr(self.module, "max_memory_allocated", None)
        if count is None:
            return run(), 0.0
        gc.collect()
        self.module.reset_peak_memory_stats()
        value = run()
        self.wait()
        return value, count() / 2**20

    def waiting(self, run):
        """The run, which ends when the device has."""

        def waited():
            run()
            self.wait()

        return waited

    def seconds(self, runs: dict, rounds: int) -> dict[str, float]:
        return alternate({name: self.waiting(run) for name, run in runs.items()}, rounds)

    def clear(self) -> None:
        """Everything that nobody holds any more off the device."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        gc.collect()
        if hasattr(self.module, "empty_cache"):
            self.module.empty_cache()


# ---- random weights -------------------------------------------------------------------------------------------------


def fill(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights of the usual spread, in place: norms 1, biases 0."""
    generator = torch.Generator(next(module.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                parameter.normal_(std=0.5 * parameter[0].numel() ** -0.5, generator=generator)
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1.0)
    return module


def random_unet(sizes: Sizes, dtype: torch.dtype, place: torch.device):
    """diffusers' UNet, made on the device."""
    from comfyui_kolors.demo import random_models

    with torch.device("meta"):
        network = random_models.random_unet(sizes).to(dtype)
    return fill(network.to_empty(device=place))


def encoder_config(sizes: Sizes, rows: int):
    from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config

    return ChatGLM3Config(rows, sizes.hidden, sizes.layers, sizes.head_dim, sizes.groups, sizes.ffn)


@torch.no_grad()
def random_encoder(config, dtype: torch.dtype, plain: torch.dtype, bits: int | None, place: torch.device):
    """Our encoder with matrices of `dtype` or packed in `bits`; values of a spread that does not grow by layer."""
    from comfyui_kolors.kolors_core.host.text_encoder.storage import Storage

    encoder = Storage(torch.int8 if bits else dtype, plain, bits).build(config).to_empty(device=place)
    for name, tensor in encoder.state_dict().items():
        if tensor.dtype == torch.int8:
            tensor.random_(-100, 100)
        elif name.endswith("weight_scale"):
            tensor.fill_(3e-4)
        elif tensor.ndim == 1:
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        else:  # a float8 has no random numbers of its own
            tensor.copy_(torch.empty_like(tensor, dtype=plain).normal_(std=tensor.shape[1] ** -0.5))
    return encoder


def random_vae(**options):
    """The host's VAE of the released shape, which is the one that it knows."""
    import comfy.sd
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    channels = (128, 256, 512, 512)
    shape = {"block_out_channels": channels, "layers_per_block": 2, "down_block_types": down, "up_block_types": up}
    return comfy.sd.VAE(sd=fill(AutoencoderKL(**shape)).state_dict(), **options)


@dataclass(frozen=True)
class Unets:
    """Our MODEL and diffusers' pipeline of the same weights, which both hold, and the prompts where each wants them."""

    model: Any
    pipe: Any
    prompts: Prompts
    placed: Prompts

    @classmethod
    def build(cls, sizes: Sizes, dtype: torch.dtype, device: Device) -> Unets:
        """Made on the device, never on disk."""
        from comfyui_kolors.kolors_core.host import compat
        from comfyui_kolors.kolors_core.host.unet_file import extract_unet
        from reference import build_pipeline, build_scheduler

        reference = random_unet(sizes, dtype, device.torch)
        weights, _ = extract_unet(reference.state_dict())
        model = compat.load_diffusion_model_state_dict(dict(weights), {"dtype": dtype}, {})
        pipe = build_pipeline(reference, build_scheduler("euler"))
        prompts = random_prompts(sizes.hidden)
        placed = Prompts(*(tuple(t.to(device.torch, dtype) for t in pair) for pair in vars(prompts).values()))
        return cls(model, pipe.to(device.torch, dtype), prompts, placed)

    def network(self):
        """Our UNet where the host has loaded it."""
        import comfy.model_management

        comfy.model_management.load_models_gpu([self.model])
        return self.model.model.diffusion_model


def reference_encoder(config, dtype: torch.dtype, weights: dict[str, torch.Tensor]):
    """diffusers' ChatGLM3 with these very tensors, and with the last norm, of which Kolors takes nothing.

    Its language-model head, which does not run, has no weights. diffusers puts weights on the CPU, whatever torch's
    default device is, unless it is told a device.
    """
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    settings = ChatGLMConfig(
        num_layers=config.num_layers, padded_vocab_size=config.vocab_size, hidden_size=config.hidden_size,
        ffn_hidden_size=config.ffn_size, kv_channels=config.head_dim, num_attention_heads=config.num_heads,
        multi_query_attention=True, multi_query_group_num=config.num_groups, add_qkv_bias=True, add_bias_linear=False,
        seq_length=8192, original_rope=True, torch_dtype=dtype,
    )  # fmt: skip
    model = ChatGLMModel(settings, device="meta").eval()
    frequencies = weights["rotary_pos_emb.inv_freq"]
    weights = weights | {
        "rotary_pos_emb.inv_freq": frequencies.to(dtype),  # whose type is that of the rotation
        "encoder.final_layernorm.weight": torch.ones(config.hidden_size, dtype=dtype, device=frequencies.device),
    }
    absent = model.load_state_dict(weights, strict=False, assign=True)
    assert not absent.unexpected_keys and all(key.startswith("output_layer") for key in absent.missing_keys), absent
    return model


# ---- the parts ------------------------------------------------------------------------------------------------------


class Bench:
    """The parts of this benchmark, and what they share: the UNets, and the report."""

    def __init__(self, device: Device, dtype: torch.dtype, small: bool, seconds: float, results=None):
        self.device, self.dtype, self.small = device, dtype, small
        self.results = results or (QUICK_RESULTS if small else results_folder())
        self.sizes, self.cells, self.steps, self.batch, self.rounds = (
            (SMALL, 8, 2, 2, 1) if small else (RELEASED, 128, 25, 4, 3)
        )
        self.tolerance, self.encoder_tolerance = TOLERANCES[dtype]
        self.deadline = time.monotonic() + seconds
        self.report = self.earlier()
        self._unets: Unets | None = None

    # ---- the report ----

    def earlier(self) -> dict[str, Any]:
        """The report so far: of earlier runs where everything was the same, else without a figure."""
        import comfyui_version

        setup = {
            "card": self.device.name, "host": comfyui_version.__version__, "torch": torch.__version__,
            "dtype": str(self.dtype), "small": self.small,
        }  # fmt: skip
        path = self.results / "gpu.json"
        report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if report.get("setup", setup) != setup:
            print(f"{path} had figures of {report['setup']}; these are of {setup} and take their place.")
        return report if report.get("setup") == setup else {"setup": setup, "measured": {}}

    def keep(self, part: str, found: dict, seconds: float) -> None:
        """Write what a part found, so that a stop loses nothing of it."""
        place, entry = PARTS[part], self.entry(part)
        if entry:
            others = self.report.get(place.section, {})
            found = others | {entry: others.get(entry, {}) | found if place.side else found}
        self.report[place.section] = found
        self.report["measured"][part] = {"date": time.strftime("%Y-%m-%d %H:%M"), "seconds": seconds}
        limits, work = self.report.get("limits", {}), self.report.get("work")
        if work and "operations" in limits:
            arithmetic, weights = work["operations"] / limits["operations"], work["bytes"] / limits["bytes"]
            self.report["floors"] = {"arithmetic": arithmetic, "weights": weights}
        save("gpu", self.report, self.results, page_rows(self.report))

    def entry(self, part: str) -> str | None:
        """A part's place in its section; None where it is all of it."""
        variant = PARTS[part].variant
        return variant and f"{variant}, batch {self.batch if part == 'batch' else 1}"

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, parts: list[str]) -> dict[str, str]:
        """Run parts in their order; returns why some failed. What there is no time for is not begun."""
        failed = {}
        for part in (name for name in PARTS if name in parts):
            if self.left() < (0 if self.small else PARTS[part].seconds):
                print(f"{part}: no time left. To measure it alone: --parts {part}", flush=True)
                continue
            if PARTS[part].section in ("encoder", "vae"):
                self._unets = None  # one thing at a time in memory, so that a peak is that of the part
                self.device.clear()
            began = time.perf_counter()
            try:
                found = getattr(self, f"measure_{part}")()
            except Exception as error:  # a compiler that is not there, too little memory, sides that differ
                text = f"{type(error).__name__}: {str(error).strip()[:300]}"
                found = {PARTS[part].side: {"failed": text}} if PARTS[part].side else {"failed": text}
                failed[part] = text
                print(f"{part}: {text}", file=sys.stderr, flush=True)
            self.keep(part, found, time.perf_counter() - began)
            self.device.clear()
        return failed

    # ---- the device ----

    @torch.inference_mode()
    def measure_limits(self) -> dict[str, float]:
        """Operations per second of a large product, and bytes per second of a copy, reading and writing."""
        side, size = (256, 1 << 20) if self.small else (8192, 1 << 30)
        a = torch.randn(side, side, device=self.device.torch).to(self.dtype)
        source = torch.empty(size, dtype=torch.uint8, device=self.device.torch)
        target = torch.empty_like(source)
        seconds = self.device.seconds({"product": lambda: a @ a, "copy": lambda: target.copy_(source)}, 10)
        return {"operations": 2 * side**3 / seconds["product"], "bytes": 2 * size / seconds["copy"]}

    # ---- the encoder and the VAE ----

    @torch.inference_mode()
    def measure_encoder(self) -> dict[str, dict[str, float]]:
        """Seconds and memory of encoding a prompt of 20 tokens by storage, one after the other; and diffusers'.

        diffusers' has the tensors of the unpacked one. Packed are random integers, which nothing is compared with.
        """
        from comfyui_kolors.kolors_core.networks.quantization import BITS

        config = encoder_config(self.sizes, VOCABULARY[self.small])
        found = self.measure_storage(config, None)
        for name, bits in BITS.items():
            self.device.clear()
            found[name] = self.measure_storage(config, bits)["ours"]
        return {NAMES[self.dtype]: found.pop("ours")} | found

    def measure_storage(self, config, bits: int | None) -> dict[str, dict[str, float]]:
        """The encoder packed in so many bits; unpacked where there are none, which diffusers' is compared with."""
        from comfyui_kolors.kolors_core.networks.chatglm3 import encode_prompts

        ids, place = PROMPT, self.device.torch
        encoder = random_encoder(config, self.dtype, self.dtype, bits, place)
        weights = dict(encoder.state_dict())
        runs = {"ours": lambda: encode_prompts(encoder, [ids], device=place)[0][0]}
        if not bits:
            runs["diffusers"] = self.reference_run(reference_encoder(config, self.dtype, weights), ids)
        values, peaks = zip(*map(self.device.peak, runs.values()))
        error = {} if bits else {"error": compare(*values, self.encoder_tolerance)}
        seconds = self.device.seconds(runs, self.rounds)
        found = {side: {"seconds": seconds[side], "peak": peak} | error for side, peak in zip(runs, peaks)}
        found["ours"]["weights"] = sum(tensor.nbytes for tensor in weights.values()) / 2**20
        return found

    def reference_run(self, encoder, ids: list[int]) -> Callable[[], torch.Tensor]:
        """diffusers' encoder on a prompt padded to 256 rows, for its context (rows, h)."""
        padded = torch.tensor([[0] * (256 - len(ids)) + ids], device=self.device.torch)
        positions = torch.tensor([[0] * (256 - len(ids)) + list(range(len(ids)))], device=self.device.torch)
        inputs = {"input_ids": padded, "attention_mask": (padded > 0).long(), "position_ids": positions}
        return lambda: encoder(**inputs, output_hidden_states=True).hidden_states[-2][:, 0]

    @torch.inference_mode()
    def measure_vae(self) -> dict[str, float]:
        """Seconds and memory of decoding one picture with the host's VAE, of the released shape at any size."""
        vae = random_vae()
        latent = torch.randn(1, 4, self.cells, self.cells)
        run = lambda: vae.decode(latent)  # noqa: E731
        _, peak = self.device.peak(run)
        return {"peak": peak, "seconds": self.device.seconds({"vae": run}, self.rounds)["vae"]}

    # ---- the UNet ----

    def unets(self) -> Unets:
        """Built when a part first asks for them; how much work a picture is, is counted then."""
        if self._unets is None:
            self._unets = Unets.build(self.sizes, self.dtype, self.device)
            self.report["work"] = self.count_work(self._unets.network())
        return self._unets

    @torch.inference_mode()
    def count_work(self, network) -> dict[str, float]:
        """Operations of the guided steps of one picture by torch's counter, and bytes of the weights that they read."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            network(*self.inputs(), transformer_options={})
        weights = sum(parameter.nbytes for parameter in network.parameters())
        return {"operations": counter.get_total_flops() * self.steps, "bytes": weights * self.steps}

    def inputs(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, ...]:
        """What a guided step hands to the UNet: latents, train steps, contexts and labels of two prompts."""
        shapes = ((2, 4, self.cells, self.cells), (2, 256, self.sizes.hidden), (2, self.sizes.hidden + 1536))
        latents, contexts, labels = (
            torch.randn(shape, device=self.device.torch, dtype=dtype or self.dtype) for shape in shapes
        )
        return latents, torch.full((2,), 500.0, device=self.device.torch), contexts, labels

    def runs(self, batch: int = 1, steps: int | None = None, model=None) -> dict[str, Callable[[], torch.Tensor]]:
        """Both sides' final latents of a batch of pictures, in the model's scale; `model` in the place of ours."""
        unets, steps = self.unets(), steps or self.steps
        return {
            "ours": lambda: sample(model or unets.model, unets.prompts, self.cells, steps, batch) * SCALE,
            "diffusers": lambda: sample_reference(unets.pipe, unets.placed, self.cells, steps, batch),
        }

    def measure_unet(self) -> dict[str, dict[str, float]]:
        return self.measure_sides(1, self.rounds)

    def measure_batch(self) -> dict[str, dict[str, float]]:
        return self.measure_sides(self.batch, 1)

    def measure_layout(self) -> dict[str, dict[str, float]]:
        unets = self.unets()
        networks = unets.model.model.diffusion_model, unets.pipe.unet
        try:
            for network in networks:
                network.to(memory_format=torch.channels_last)
            return self.measure_sides(1, 1)
        finally:
            for network in networks:
                network.to(memory_format=torch.contiguous_format)

    def measure_sides(self, batch: int, rounds: int) -> dict[str, dict[str, float]]:
        """Seconds per image and peak memory of both sides, once they are found to agree."""
        runs = self.runs(batch)
        values, peaks = zip(*(self.peak_alone(side, run) for side, run in runs.items()))
        error = compare(*values, self.tolerance)
        seconds = self.device.seconds(runs, rounds)
        return {
            side: {"seconds": seconds[side] / batch, "peak": peak, "error": error} for side, peak in zip(runs, peaks)
        }

    def peak_alone(self, side: str, run) -> tuple[torch.Tensor, float]:
        """The latents and the peak of one side, with the other's weights off the device."""
        network = self.unets().pipe.unet
        self.device.clear()
        network.to("cpu" if side == "ours" else self.device.torch)
        found = self.device.peak(run)
        network.to(self.device.torch)
        return found

    def measure_rows(self) -> dict[str, float]:
        """Seconds of two steps with and without the equal rows of the prompts computed once, wherever the default."""
        from comfyui_kolors.kolors_core.host import cpu

        draw, applies = self.runs(steps=2)["ours"], cpu.is_cpu

        def run(once: bool) -> torch.Tensor:
            cpu.is_cpu = lambda device: once
            return draw()

        runs = {"all rows": lambda: run(False), "once": lambda: run(True)}
        try:
            compare(*(run() for run in runs.values()), self.tolerance)
            return self.device.seconds(runs, self.rounds)
        finally:
            cpu.is_cpu = applies

    def measure_compiled(self) -> dict[str, dict[str, float]]:
        """Ours under torch.compile, by the function of the stock node."""
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        clone = self.unets().model.clone()
        set_torch_compile_wrapper(clone, backend=self.compiler())
        return self.measure_compiled_side("ours", clone)

    def measure_compiled_diffusers(self) -> dict[str, dict[str, float]]:
        network = self.unets().pipe.unet
        plain = network.forward
        try:
            return self.measure_compiled_side(
                "diffusers", compile=lambda: setattr(network, "forward", torch.compile(plain, backend=self.compiler()))
            )
        finally:
            network.forward = plain

    def compiler(self) -> str:
        return "inductor" if self.device.module else "eager"

    def measure_compiled_side(self, side: str, model=None, compile=lambda: None) -> dict[str, dict[str, float]]:
        """Seconds of a first step, which are the compiler's, and per image, once it agrees with diffusers' as it is."""
        expected = self.runs()["diffusers"]()
        compile()
        began = time.perf_counter()
        self.device.waiting(self.runs(steps=1, model=model)[side])()
        first, run = time.perf_counter() - began, self.runs(model=model)[side]
        error = compare(run(), expected, self.tolerance)
        return {side: {"first step": first, "seconds": self.device.seconds({side: run}, 1)[side], "error": error}}


@dataclass(frozen=True)
class Part:
    """Where the figures of a part go, and the seconds that must be left: what it is expected to take on an H100."""

    section: str
    seconds: float
    variant: str | None = None
    side: str | None = None  # where it is one side's alone


#: In their order; `Bench.measure_<name>` takes them.
PARTS = {
    "limits": Part("limits", 5),
    "encoder": Part("encoder", 30),
    "vae": Part("vae", 15),
    "unet": Part("unet", 60, "plain"),
    "rows": Part("rows", 10),
    "batch": Part("unet", 70, "plain"),
    "layout": Part("unet", 25, "channels last"),
    "compiled": Part("unet", 90, "compiled", "ours"),
    "compiled_diffusers": Part("unet", 90, "compiled", "diffusers"),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", "--quick", action="store_true", help="a tiny size, on a CPU too")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all, in this order")
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="begin no part beyond these (default: %(default)s)"
    )
    parser.add_argument("--dtype", choices=NAMES.values(), help="default: fp16, on a CPU fp32")
    parser.add_argument("--results", type=_sides.Path, help="where to (default: this machine's folder)")
    args = parser.parse_args(arguments)
    _sides.conftest.leave_precision_to_host()
    device = Device()
    if device.module is None and not args.small:
        print("No accelerator found: nothing was measured. --small runs everything at a tiny size on the CPU.")
        return
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    name = args.dtype or ("fp16" if device.module else "fp32")
    dtype = next(dtype for dtype, known in NAMES.items() if known == name)
    bench = Bench(device, dtype, args.small, args.seconds, args.results)
    failed = bench.run(args.parts)
    print_results(bench.report)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def print_results(report: dict[str, Any]) -> None:
    """Tables of the figures that there are."""
    good = {section: figures for section, figures in report.items() if "failed" not in figures}
    floors, limits = good.get("floors"), good.get("limits")
    lines = [
        (
            name, side, f"{cost['seconds']:.2f}", f"{cost['seconds'] / max(floors.values()):.2f}" if floors else "",
            f"{cost['peak']:.0f}" if "peak" in cost else "", f"{cost['error']:.1e}",
        )
        for name, sides in good.get("unet", {}).items()
        for side, cost in sides.items()
        if side != "failed" and "failed" not in cost
    ]  # fmt: skip
    if lines:
        print(table(("Sampling", "", "s per image", "by the floor", "peak, MiB", "error"), lines))
    if floors:
        print(f"floor of a picture: {floors['arithmetic']:.2f} s of arithmetic, {floors['weights']:.2f} s of reading "
              "weights")  # fmt: skip
    if limits:
        print(f"measured: {limits['operations'] / 1e12:.1f} TFLOPS, {limits['bytes'] / 1e9:.0f} GB/s")
    if "encoder" in good:
        lines = []
        for name, cost in good["encoder"].items():
            once = cost["weights"] * 2**20 / limits["bytes"] * 1000 if limits and "weights" in cost else None
            lines.append((name, f"{cost['seconds'] * 1000:.1f}", f"{once:.1f}" if once else "", f"{cost['peak']:.0f}"))
        print("\n" + table(("Encoder", "ms per prompt", "weights read once, ms", "peak, MiB"), lines))
    if "vae" in good:
        print(f"\nVAE: {good['vae']['seconds']:.2f} s, peak {good['vae']['peak']:.0f} MiB")
    if "rows" in good:
        every, once = (good["rows"][name] for name in ("all rows", "once"))
        print(f"two steps with every row of the prompts: {every:.3f} s; with equal ones once: {once:.3f} s")


if __name__ == "__main__":
    main()
