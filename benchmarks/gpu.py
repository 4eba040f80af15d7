"""Kolors at its released size on an accelerator, beside diffusers: `python3 dev.py bench gpu`.

Random weights made on the device, so that nothing has to be downloaded: 1024 x 1024 pixels, 25 guided steps, batches of
1 and 4. Seconds per image and peak memory, each side in its own sampling stack, in one run; with torch.compile and
channels last as well; the encoder in fp16, int8 and int4. Beside them the floors: the arithmetic by torch's own count
of operations at the speed of a large product, and the weights read once at the speed of a copy, both measured here.
Without an accelerator it says so and does nothing, but for --small, which runs all of it at a tiny size. Writes
results/gpu.json.
"""

from __future__ import annotations

import argparse
import gc
import time

import _sides
import torch
from _report import save, table
from _sides import random_prompts, sample, sample_reference
from _timing import alternate
from comfyui_kolors.demo.random_models import Sizes

RELEASED = Sizes(
    hidden=4096, head_dim=128, groups=2, layers=28, ffn=13696, channels=(320, 640, 1280), depth=(2, 10), context=2048
)
SMALL = Sizes(depth=(1, 1))
VOCABULARY = {True: 512, False: 65024}  # rows of the embedding; small or not
STORAGES = ("fp16", "int8", "int4")


class Device:
    """The accelerator, or the CPU for a run at small size."""

    def __init__(self):
        import comfy.model_management

        self.torch = comfy.model_management.get_torch_device()
        self.module = getattr(torch, self.torch.type, None) if self.torch.type != "cpu" else None

    def wait(self) -> None:
        if self.module is not None:
            self.module.synchronize()

    def peak(self, run) -> float:
        """MiB that a run takes at most on the device; 0 where the device does not tell."""
        count = getattr(self.module, "max_memory_allocated", None)
        if count is None:
            run()
            return 0.0
        gc.collect()
        self.module.reset_peak_memory_stats()
        run()
        self.wait()
        return count() / 2**20

    def waiting(self, run):
        """The run, which ends when the device has."""

        def waited():
            run()
            self.wait()

        return waited

    def seconds(self, runs: dict, rounds: int) -> dict[str, float]:
        return alternate({name: self.waiting(run) for name, run in runs.items()}, rounds)


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


def build_unets(sizes: Sizes, dtype: torch.dtype, device: Device):
    """diffusers' pipeline and our MODEL of the same weights, which both hold: made on the device, never on disk."""
    from comfyui_kolors.demo.random_models import random_unet
    from comfyui_kolors.kolors_core.host import compat, loaders
    from reference import build_pipeline, build_scheduler

    with torch.device(device.torch):
        reference = fill(random_unet(sizes).to(dtype))
    weights = loaders.extract_unet(reference.state_dict(), "the random UNet")
    model = compat.load_diffusion_model_state_dict(dict(weights), {"dtype": dtype}, {})
    pipe = build_pipeline(reference, build_scheduler("euler"))
    return model, pipe.to(device.torch, dtype)


def measure_unets(sizes: Sizes, cells: int, steps: int, batches, dtype, device: Device, rounds: int) -> dict:
    """Seconds per image and peak memory of ours and diffusers', plain, channels last and compiled."""
    model, pipe = build_unets(sizes, dtype, device)
    prompts = random_prompts(sizes.hidden)
    on_device = type(prompts)(*(tuple(t.to(device.torch, dtype) for t in pair) for pair in vars(prompts).values()))
    result = {"floor": unet_floor(model, sizes, cells, dtype, device, steps)}
    for variant in ("plain", "channels last", "compiled"):
        ours, theirs = model, pipe
        if variant == "channels last":
            for network in (model.model.diffusion_model, pipe.unet):
                network.to(memory_format=torch.channels_last)
        elif variant == "compiled":
            ours, theirs = compiled(model, pipe, "inductor" if device.module else "eager")
        for batch in batches if device.module or variant != "compiled" else batches[:1]:  # each is a graph of its own
            runs = {
                "ours": lambda b=batch, m=ours: sample(m, prompts, cells, steps, b),
                "diffusers": lambda b=batch, p=theirs: sample_reference(p, on_device, cells, steps, b),
            }
            name = f"{variant}, batch {batch}"
            try:
                peaks = {side: peak_alone(side, run, pipe, device) for side, run in runs.items()}
                seconds = device.seconds(runs, rounds)
            except Exception as error:  # a compiler that is not there, or too little memory: the rest still counts
                result[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
                continue
            result[name] = {side: {"seconds": seconds[side] / batch, "peak": peaks[side]} for side in runs}
    return result


def peak_alone(side: str, run, pipe, device: Device) -> float:
    """The peak of one side, with the other's weights off the device."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    pipe.unet.to("cpu" if side == "ours" else device.torch)
    peak = device.peak(run)
    pipe.unet.to(device.torch)
    return peak


def compiled(model, pipe, backend: str):
    """Both sides under torch.compile: ours by the function of the stock node."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = model.clone()
    set_torch_compile_wrapper(clone, backend=backend)
    pipe.unet.forward = torch.compile(pipe.unet.forward, backend=backend)
    return clone, pipe


@torch.inference_mode()
def measure_encoder(sizes: Sizes, small: bool, dtype, device: Device, rounds: int) -> dict:
    """Milliseconds and memory of encoding a prompt of 20 tokens, in each storage; diffusers' in `dtype`."""
    from comfyui_kolors.kolors_core.chatglm3 import ChatGLM3Config, encode_prompts
    from comfyui_kolors.kolors_core.host.encoder_weights import WEIGHT_DTYPES, Storage
    from comfyui_kolors.kolors_core.quantization import BITS

    config = ChatGLM3Config(VOCABULARY[small], sizes.hidden, sizes.layers, sizes.head_dim, sizes.groups, sizes.ffn)
    ids = [3, 4, *range(10, 30)]
    result = {}
    for name in STORAGES:
        bits = BITS.get(name)
        storage = Storage(torch.int8 if bits else WEIGHT_DTYPES[name] if device.module else dtype, dtype, bits)
        encoder = storage.build(config).to_empty(device=device.torch)
        fill_encoder(encoder)
        run = lambda encoder=encoder: encode_prompts(encoder, [ids], device=device.torch)  # noqa: E731
        weights = sum(t.nbytes for t in encoder.state_dict().values())
        result[name] = {
            "peak": device.peak(run),
            "seconds": device.seconds({"ours": run}, rounds)["ours"],
            "weights": weights / 2**20,
        }
        del encoder, run
        gc.collect()
    theirs = reference_encoder(config, dtype, device)
    padded = torch.zeros(1, 256, dtype=torch.long, device=device.torch)
    padded[0, -len(ids) :] = torch.tensor(ids)
    inputs = {"input_ids": padded, "attention_mask": (padded > 0).long(), "position_ids": padded.clamp(max=255)}
    run = lambda: theirs(**inputs, output_hidden_states=True)  # noqa: E731
    result["diffusers"] = {"peak": device.peak(run), "seconds": device.seconds({"diffusers": run}, rounds)["diffusers"]}
    return result


def fill_encoder(encoder) -> None:
    for name, tensor in encoder.state_dict().items():
        if tensor.dtype == torch.int8:
            tensor.random_(-100, 100)
        elif name.endswith("weight_scale"):
            tensor.fill_(3e-4)
        elif tensor.ndim == 1:
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            tensor.normal_(std=0.02)


def reference_encoder(config, dtype, device: Device):
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    settings = ChatGLMConfig(
        num_layers=config.num_layers, padded_vocab_size=config.vocab_size, hidden_size=config.hidden_size,
        ffn_hidden_size=config.ffn_size, kv_channels=config.head_dim, num_attention_heads=config.num_heads,
        multi_query_attention=True, multi_query_group_num=config.num_groups, add_qkv_bias=True, add_bias_linear=False,
        seq_length=8192, original_rope=True, torch_dtype=dtype,
    )  # fmt: skip
    with torch.device(device.torch):
        model = ChatGLMModel(settings).to(dtype).eval()
    fill_encoder(model)
    return model


@torch.inference_mode()
def measure_vae(cells: int, device: Device, rounds: int) -> dict[str, float]:
    """Seconds and memory of decoding one picture with the host's VAE, of the released shape at any size of picture."""
    import comfy.sd
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    channels = (128, 256, 512, 512)
    shape = {"block_out_channels": channels, "layers_per_block": 2, "down_block_types": down, "up_block_types": up}
    vae = comfy.sd.VAE(sd=fill(AutoencoderKL(**shape)).state_dict())
    latent = torch.randn(1, 4, cells, cells)
    run = lambda: vae.decode(latent)  # noqa: E731
    return {"peak": device.peak(run), "seconds": device.seconds({"vae": run}, rounds)["vae"]}


@torch.inference_mode()
def measure_limits(dtype, device: Device, small: bool) -> dict[str, float]:
    """Operations per second of a large product, and bytes per second of a copy, reading and writing."""
    side, size = (256, 1 << 20) if small else (8192, 1 << 30)
    a = torch.randn(side, side, device=device.torch).to(dtype)
    source = torch.empty(size, dtype=torch.uint8, device=device.torch)
    target = torch.empty_like(source)
    seconds = device.seconds({"product": lambda: a @ a, "copy": lambda: target.copy_(source)}, 10)
    return {"operations": 2 * side**3 / seconds["product"], "bytes": 2 * size / seconds["copy"]}


@torch.inference_mode()
def unet_floor(model, sizes: Sizes, cells: int, dtype, device: Device, steps: int) -> dict[str, float]:
    """Operations of the guided steps of one picture by torch's counter, and bytes of the weights that they read."""
    from torch.utils.flop_counter import FlopCounterMode

    network = model.model.diffusion_model.to(device.torch)
    arguments = (
        torch.randn(2, 4, cells, cells, device=device.torch, dtype=dtype),
        torch.full((2,), 500.0, device=device.torch),
        torch.randn(2, 256, sizes.hidden, device=device.torch, dtype=dtype),
        torch.randn(2, sizes.hidden + 1536, device=device.torch, dtype=dtype),
    )
    with FlopCounterMode(display=False) as counter:
        network(*arguments, transformer_options={})
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return {"operations": counter.get_total_flops() * steps, "bytes": weights * steps}


@torch.inference_mode()
def measure_rows(sizes: Sizes, cells: int, dtype, device: Device, rounds: int) -> dict[str, float]:
    """Seconds of a step with and without the equal rows of the prompts computed once, wherever that is the default."""
    from comfyui_kolors.kolors_core.host import text_rows

    model, _ = build_unets(sizes, dtype, device)
    prompts, kept = random_prompts(sizes.hidden), set(text_rows.DEVICES)

    def run(devices: set[str]) -> None:
        text_rows.DEVICES.clear()
        text_rows.DEVICES.update(devices)
        sample(model, prompts, cells, 2)

    try:
        return device.seconds({"all rows": lambda: run(set()), "once": lambda: run({device.torch.type})}, rounds)
    finally:
        text_rows.DEVICES.clear()
        text_rows.DEVICES.update(kept)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", "--quick", action="store_true", help="a tiny size, on a CPU too")
    parser.add_argument("--dtype", choices=("fp16", "bf16"), default="fp16", help="default: %(default)s")
    parser.add_argument("--results", type=_sides.Path, help="where to (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    device = Device()
    if device.module is None and not args.small:
        print("No accelerator found: nothing was measured. --small runs everything at a tiny size on the CPU.")
        return
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[args.dtype] if device.module else torch.float32
    sizes, cells, steps, batches, rounds = (SMALL, 8, 2, (1, 2), 1) if args.small else (RELEASED, 128, 25, (1, 4), 3)
    started = time.perf_counter()
    limits = measure_limits(dtype, device, args.small)
    encoder = measure_encoder(sizes, args.small, dtype, device, rounds)
    vae = measure_vae(cells, device, rounds)
    rows = measure_rows(sizes, cells, dtype, device, rounds)
    unets = measure_unets(sizes, cells, steps, batches, dtype, device, rounds)
    floor = unets.pop("floor")
    floors = {"arithmetic": floor["operations"] / limits["operations"], "weights": floor["bytes"] / limits["bytes"]}
    print_results(unets, encoder, vae, rows, floors, limits)
    save("gpu", {
        "dtype": str(dtype), "small": args.small, "limits": limits, "floors": floors, "unet": unets, "encoder": encoder,
        "vae": vae, "rows": rows, "took": time.perf_counter() - started,
    }, args.results)  # fmt: skip


def print_results(unets, encoder, vae, rows, floors, limits) -> None:
    floor = max(floors.values())
    lines = []
    for name, sides in unets.items():
        if "failed" in sides:
            lines.append((name, sides["failed"], "", "", ""))
            continue
        for side, cost in sides.items():
            lines.append(
                (name, side, f"{cost['seconds']:.2f}", f"{cost['seconds'] / floor:.2f}", f"{cost['peak']:.0f}")
            )
    print(table(("Sampling", "", "s per image", "by the floor", "peak, MiB"), lines))
    print(f"floor of a picture: {floors['arithmetic']:.2f} s of arithmetic "
          f"at {limits['operations'] / 1e12:.1f} TFLOPS, "
          f"{floors['weights']:.2f} s of reading weights at {limits['bytes'] / 1e9:.0f} GB/s")  # fmt: skip
    lines = []
    for name, cost in encoder.items():
        once = cost["weights"] * 2**20 / limits["bytes"] * 1000 if "weights" in cost else None
        lines.append((name, f"{cost['seconds'] * 1000:.1f}", f"{once:.1f}" if once else "", f"{cost['peak']:.0f}"))
    print("\n" + table(("Encoder", "ms per prompt", "weights read once, ms", "peak, MiB"), lines))
    print(f"\nVAE: {vae['seconds']:.2f} s, peak {vae['peak']:.0f} MiB")
    print(
        f"two steps with every row of the prompts: {rows['all rows']:.3f} s; with equal ones once: {rows['once']:.3f} s"
    )


if __name__ == "__main__":
    main()
