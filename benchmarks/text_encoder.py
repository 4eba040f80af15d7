"""The text encoder beside diffusers' ChatGLMModel: `python3 dev.py bench text`.

Speed: the encoder as the host runs it and the reference, in turn in one process, on the same random weights, float32 on
the CPU, two threads; medians and ratios. Memory and time of loading: one process per way to store the weights. Errors
of each storage against float32. Prints tables, writes results/text_encoder.json and results/text_encoder.png.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "2"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import conftest  # noqa: F401 - makes the pack and the host importable
import torch
from comfyui_kolors.demo.random_models import Sizes, random_chatglm3, random_tokenizer

RESULTS = Path(__file__).resolve().parent / "results"
#: The mid-size model of the speed curve, and two layers at the released width.
MID = Sizes(hidden=1024, head_dim=64, groups=2, layers=8, ffn=3424)
RELEASED = Sizes(hidden=4096, head_dim=128, groups=2, layers=2, ffn=13696)
#: One gigabyte in fp16, with the released share of the embedding (4 %).
GIGABYTE = Sizes(hidden=2048, head_dim=128, groups=2, layers=9, ffn=6848)
PIECES = {MID: 65024 - 9, RELEASED: 4096, GIGABYTE: 8192 - 9}
TOKENS = (0, 5, 20, 77, 254)  # of text; two more stand before it, so the last fills the 256 rows
STORAGES = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "int8", "int4")


def prompt(tokens: int) -> list[int]:
    """[gMASK] sop and `tokens` ids of text."""
    generator = torch.Generator().manual_seed(tokens)
    return [3, 4, *torch.randint(10, 4000, (tokens,), generator=generator).tolist()]


def build_pair(sizes: Sizes):
    """Our encoder as the host builds it, and the reference, with the same weights."""
    from comfyui_kolors.kolors_core.chatglm3 import ChatGLM3Config
    from comfyui_kolors.kolors_core.host.encoder_weights import Storage, convert
    from reference import build_chatglm3

    theirs = build_chatglm3(sizes, PIECES[sizes])
    encoder = {key: tensor for key, tensor in theirs.state_dict().items() if "output_layer" not in key}
    storage = Storage(torch.float32, torch.float32)
    config = ChatGLM3Config.from_state_dict(encoder)
    ours = storage.build(config)
    ours.load_state_dict(convert(config, encoder, storage, storage, lambda key, rows: encoder[key][rows]), assign=True)
    return ours.requires_grad_(False).eval(), theirs


@torch.inference_mode()
def measure_speed(sizes: Sizes, cases: dict[str, list[list[int]]], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of ours and the reference's per case, and the seconds that reading the weights once takes."""
    from _timing import alternate
    from comfyui_kolors.kolors_core.chatglm3 import encode_prompts
    from reference import encode, relative_error

    ours, theirs = build_pair(sizes)
    result = {}
    for name, prompts in cases.items():
        found, expected = encode_prompts(ours, prompts), encode(theirs, prompts)
        error = max(relative_error(a, b) for a, b in zip(found, expected))
        seconds = alternate(
            {
                "ours": lambda prompts=prompts: encode_prompts(ours, prompts),
                "theirs": lambda prompts=prompts: [encode(theirs, [one]) for one in prompts],
            },
            rounds,
        )
        result[name] = seconds | {"error": error}
    weights = [parameter for layer in ours.encoder.layers for parameter in layer.parameters()]
    floor = alternate({"floor": lambda: [weight.sum() for weight in weights]}, rounds)["floor"]
    return {name: case | {"floor": floor} for name, case in result.items()}


def load_in_this_process(path: str, storage: str) -> dict[str, float]:
    """Load and encode once; MiB of resident memory above what was there before, and seconds."""
    from comfyui_kolors.kolors_core.host import loaders

    warm_up = torch.nn.Linear(8, 8)(torch.ones(1, 8))  # the libraries' own memory
    del warm_up
    before = resident()
    started = time.perf_counter()
    clip = loaders.load_text_encoder(path, storage)
    seconds = time.perf_counter() - started
    loading = peak() - before
    clip.encode_from_tokens(clip.tokenize("a red apple"), return_pooled=True)
    return {
        "kept": clip.patcher.model_size() / 2**20,
        "loading": loading,
        "encoding": peak() - before,
        "seconds": seconds,
        "file": Path(path).stat().st_size / 2**20,
    }


def resident() -> float:
    """MiB in memory now; the peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure_loading() -> dict[str, dict[str, float]]:
    """Loading an fp16 file of one gigabyte into each storage, and files that are packed already, each on its own."""
    from comfyui_kolors.kolors_core.quantization import BITS, quantize
    from safetensors.torch import save_file

    state_dict = {key: tensor.half() for key, tensor in random_chatglm3(GIGABYTE, PIECES[GIGABYTE]).items()}
    tokenizer = {"spiece_model": torch.frombuffer(bytearray(random_tokenizer()), dtype=torch.uint8)}
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"fp16": Path(folder) / "fp16.safetensors"}
        save_file(state_dict | tokenizer, files["fp16"])
        for name, bits in BITS.items():
            packed = dict(tokenizer)
            for key, tensor in state_dict.items():
                if key.startswith("encoder.layers.") and tensor.ndim == 2:
                    packed[key], packed[f"{key}_scale"] = quantize(tensor, bits)
                else:
                    packed[key] = tensor
            files[name] = Path(folder) / f"{name}.safetensors"
            save_file(packed, files[name])
            del packed
        del state_dict
        cases = [("fp16", storage) for storage in STORAGES] + [(name, "default") for name in BITS]
        for file, storage in cases:
            result[f"{file} file as {storage}"] = run_alone(str(files[file]), storage)
    return result


def run_alone(path: str, storage: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--load", path, storage]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.strip().splitlines()[-1])


@torch.inference_mode()
def measure_errors() -> dict[str, tuple[float, float]]:
    """Relative L2 error of context and pooled output of each storage against float32, on the mid-size model."""
    from comfyui_kolors.kolors_core.chatglm3 import ChatGLM3Config, encode_prompts
    from comfyui_kolors.kolors_core.host.encoder_weights import Storage, choose, convert
    from reference import relative_error

    encoder = {k: v for k, v in random_chatglm3(MID, PIECES[MID]).items() if not k.startswith("output_layer")}
    config, source = ChatGLM3Config.from_state_dict(encoder), Storage(torch.float32, torch.float32)
    outputs = {}
    for name in STORAGES:
        storage = choose(name, source, torch.device("cpu"))
        model = storage.build(config)
        model.load_state_dict(
            convert(config, encoder, source, storage, lambda key, rows: encoder[key][rows]), assign=True
        )
        outputs[name] = encode_prompts(model.eval(), [prompt(20)])
    exact = outputs["fp32"]
    return {name: tuple(relative_error(a, b) for a, b in zip(found, exact)) for name, found in outputs.items()}


def draw(speed: dict[str, dict[str, float]], path: Path) -> None:
    """Seconds over tokens, ours and the reference's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.4), dpi=150)
    rows = [tokens + 2 for tokens in TOKENS]
    for side, label in (("theirs", "diffusers"), ("ours", "this pack"), ("floor", "reading the weights once")):
        values = [speed[f"{tokens} tokens"][side] * 1000 for tokens in TOKENS]
        axes.plot(rows, values, "--" if side == "floor" else "o-", label=label)
    axes.set(xlabel="tokens of the prompt", ylabel="ms", ylim=(0, None), title="Encoding a prompt (CPU, 2 threads)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def table(headings: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def speed_rows(speed: dict[str, dict[str, float]]) -> list[tuple]:
    return [
        (
            name, f"{case['ours'] * 1000:.0f}", f"{case['theirs'] * 1000:.0f}", f"{case['theirs'] / case['ours']:.2f}x",
            f"{case['floor'] * 1000:.0f}", f"{case['error']:.1e}",
        )
        for name, case in speed.items()
    ]  # fmt: skip


def main() -> None:
    torch.set_num_threads(2)
    cases = {f"{tokens} tokens": [prompt(tokens)] for tokens in TOKENS} | {"pair, 0 and 20": [prompt(0), prompt(20)]}
    speed = measure_speed(MID, cases, 7)
    released = measure_speed(RELEASED, {"released width, 2 layers, 20 tokens": [prompt(20)]}, 5)
    headings = ("Prompt", "ours, ms", "diffusers, ms", "faster by", "weights read once, ms", "error")
    print(table(headings, speed_rows(speed | released)))
    errors = measure_errors()
    print("\n" + table(("Storage", "context", "pooled"), [(n, f"{a:.1e}", f"{b:.1e}") for n, (a, b) in errors.items()]))
    loading = measure_loading()
    rows = [
        (
            name, f"{case['file']:.0f}", f"{case['kept']:.0f}", f"{case['loading']:.0f}",
            f"{case['loading'] / case['kept']:.2f}x", f"{case['encoding']:.0f}", f"{case['seconds']:.1f}",
        )
        for name, case in loading.items()
    ]  # fmt: skip
    headings = ("Loading", "file, MiB", "kept, MiB", "peak, MiB", "peak / kept", "with one prompt, MiB", "s")
    print("\n" + table(headings, rows))
    RESULTS.mkdir(exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "threads": 2, "torch": torch.__version__}
    report = {"machine": machine, "speed": speed | released, "errors": errors, "loading": loading}
    (RESULTS / "text_encoder.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(speed, RESULTS / "text_encoder.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(load_in_this_process(*sys.argv[2:])))
    else:
        main()
