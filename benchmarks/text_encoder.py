"""The text encoder beside diffusers' ChatGLMModel: `python3 dev.py bench text`.

Speed: the encoder as the host runs it and the reference, in turn in one process, on the same random weights, float32 on
the CPU, two threads; medians and ratios; and a prompt in each storage. Memory and time of loading: one process per way
to store the weights. Errors of each storage against float32, and of its products against those of its values in
float32. Writes text_encoder.json and text_encoder.png.

With --released the size is the published one, and the file text_encoder_released.json: see `_released`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial

import _memory
import _released
import _sides
import loaders
import torch
from _alone import run_alone, settle
from _report import Curve, argument_parser, plot, save, table
from _rows import Row, compared, timed
from _timing import HEADINGS, Cost, alternate, compare
from comfyui_kolors.demo.random_models import TINY, Sizes, random_chatglm3, random_tokenizer, tokenizer_tensors
from comfyui_kolors.kolors_core.files.weights import Weights
from comfyui_kolors.kolors_core.host.text_encoder.storage import Storage, choose_storage, convert_weights
from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config, encode_prompts
from comfyui_kolors.kolors_core.networks.quantization import BITS, quantize
from reference import build_chatglm3, encode, relative_error
from safetensors.torch import save_file
from torch import Tensor

#: The mid-size model of the speed curve, and two layers at the released width.
MID = Sizes(hidden=1024, head_dim=64, groups=2, layers=8, ffn=3424)
RELEASED = Sizes(hidden=4096, head_dim=128, groups=2, layers=2, ffn=13696)
#: One gigabyte in fp16, with the released share of the embedding (4 %).
GIGABYTE = Sizes(hidden=2048, head_dim=128, groups=2, layers=9, ffn=6848)
PIECES = {MID: 65024 - 9, RELEASED: 4096, GIGABYTE: 8192 - 9, TINY: 4096}
TOKENS = (0, 5, 20, 77, 254)  # of text; two more stand before it, so the last fills the 256 rows
STORAGES = ("fp32", "fp16", "bf16", "fp8_e4m3fn", "int8", "int4")
#: Files and the storages that they are loaded into.
LOADED = [*(("fp16", storage) for storage in STORAGES), *((name, "default") for name in BITS)]
QUICK = [("fp16", "int4"), ("int8", "default")]  # each takes a process, whose imports are most of its time


def prompt(tokens: int) -> list[int]:
    """[gMASK] sop and `tokens` ids of text."""
    generator = torch.Generator().manual_seed(tokens)
    return [3, 4, *torch.randint(10, 4000, (tokens,), generator=generator).tolist()]


def build_pair(sizes: Sizes, dtype: torch.dtype = torch.float32):
    """Our encoder as the host builds it, and the reference, with the same weights in `dtype`."""
    theirs = build_chatglm3(sizes, PIECES[sizes]).to(dtype)
    encoder = {key: tensor for key, tensor in theirs.state_dict().items() if "output_layer" not in key}
    storage = Storage(dtype, dtype)
    config = ChatGLM3Config.from_state_dict(encoder)
    ours = storage.build(config)
    ours.load_state_dict(convert_weights(config, Weights.of(encoder), storage, storage), assign=True)
    return ours.requires_grad_(False).eval(), theirs


@torch.inference_mode()
def measure_speed(sizes: Sizes, cases: list[list[list[int]]], rounds: int) -> tuple[dict[str, list], float]:
    """Costs and errors of each case, which is a list of prompts; and the seconds that reading the weights takes."""
    ours, theirs = build_pair(sizes)
    result = {"ours": [], "diffusers": [], "errors": []}
    for prompts in cases:
        found, expected = encode_prompts(ours, prompts), encode(theirs, prompts)
        result["errors"].append(max(relative_error(a, b) for a, b in zip(found, expected)))
        runs = {
            "diffusers": lambda prompts=prompts: [encode(theirs, [one]) for one in prompts],
            "ours": lambda prompts=prompts: encode_prompts(ours, prompts),
        }
        for side, cost in compare(runs, rounds).items():
            result[side].append(cost)
    weights = [parameter for layer in ours.encoder.layers for parameter in layer.parameters()]
    return result, alternate({"floor": lambda: [weight.sum() for weight in weights]}, rounds)["floor"]


def load_in_this_process(path: str, storage: str) -> dict[str, float]:
    """Load and encode once; MiB of resident memory above what was there before, and seconds."""
    settle()
    before = _memory.start()
    started = time.perf_counter()
    clip = loaders.load_text_encoder(path, storage)
    seconds = time.perf_counter() - started
    loading = _memory.peak() - before
    clip.encode_from_tokens(clip.tokenize("a red apple"), return_pooled=True)
    return {
        "kept": clip.patcher.model_size() / 2**20,
        "loading": loading,
        "encoding": _memory.peak() - before,
        "seconds": seconds,
        "file": _sides.Path(path).stat().st_size / 2**20,
    }


def write_files(folder: _sides.Path, sizes: Sizes) -> dict[str, _sides.Path]:
    """An fp16 file, and one for each packed storage, by storage."""
    state_dict = {key: tensor.half() for key, tensor in random_chatglm3(sizes, PIECES[sizes]).items()}
    tokenizer = tokenizer_tensors(random_tokenizer())
    files = {"fp16": folder / "fp16.safetensors"}
    save_file(state_dict | tokenizer, files["fp16"])
    for name, bits in BITS.items():
        packed = dict(tokenizer)
        for key, tensor in state_dict.items():
            if key.startswith("encoder.layers.") and tensor.ndim == 2:
                packed[key], packed[f"{key}_scale"] = quantize(tensor, bits)
            else:
                packed[key] = tensor
        files[name] = folder / f"{name}.safetensors"
        save_file(packed, files[name])
    return files


def measure_loading(sizes: Sizes, cases: Sequence[tuple[str, str]] = LOADED) -> dict[str, dict[str, float]]:
    """Loading an fp16 file into each storage, and files that are packed already, each on its own."""
    with _sides.tempfile.TemporaryDirectory() as folder:
        files = write_files(_sides.Path(folder), sizes)
        return {
            f"{file} file as {storage}": run_alone(__file__, "--load", files[file], storage) for file, storage in cases
        }


@torch.inference_mode()
def measure_storages(sizes: Sizes, rounds: int) -> dict[str, Cost]:
    """What a prompt of 20 tokens costs in each storage, float32 first."""
    encoder = {k: v for k, v in random_chatglm3(sizes, PIECES[sizes]).items() if not k.startswith("output_layer")}
    config, float32 = ChatGLM3Config.from_state_dict(encoder), Storage(torch.float32, torch.float32)
    runs = {}
    for name in STORAGES:
        storage = choose_storage(name, float32, torch.device("cpu"))
        model = storage.build(config)
        model.load_state_dict(convert_weights(config, Weights.of(encoder), float32, storage), assign=True)
        runs[name] = partial(encode_prompts, model.requires_grad_(False).eval(), [prompt(20)])
    return compare(runs, rounds)


@torch.inference_mode()
def measure_errors(sizes: Sizes) -> dict[str, dict[str, tuple[float, ...]]]:
    """Relative L2 errors of context and pooled output of each storage.

    stored: against float32, which is what the storage loses. computed: against its own values in float32.
    """
    encoder = {k: v for k, v in random_chatglm3(sizes, PIECES[sizes]).items() if not k.startswith("output_layer")}
    config, float32 = ChatGLM3Config.from_state_dict(encoder), Storage(torch.float32, torch.float32)

    def convert(weights: dict[str, Tensor], source: Storage, target: Storage) -> dict[str, Tensor]:
        return convert_weights(config, Weights.of(weights), source, target)

    def outputs(weights: dict[str, Tensor], storage: Storage) -> tuple[Tensor, Tensor]:
        model = storage.build(config)
        model.load_state_dict(weights, assign=True)
        return encode_prompts(model.requires_grad_(False).eval(), [prompt(20)])

    def errors(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> tuple[float, ...]:
        return tuple(relative_error(a, b) for a, b in zip(found, expected))

    exact, result = outputs(convert(encoder, float32, float32), float32), {}
    for name in STORAGES:
        storage = choose_storage(name, float32, torch.device("cpu"))
        stored = convert(encoder, float32, storage)
        found = outputs(stored, storage)
        values = outputs(convert(stored, storage, float32), float32)
        result[name] = {"stored": errors(values, exact), "computed": errors(found, values)}
    return result


def measure_diffusers(sizes: Sizes, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a prompt by diffusers in half precision, and of this package in the same: all layers of `sizes`."""
    result = {}
    for name, dtype in _released.HALVES.items():
        ours, theirs = build_pair(sizes, dtype)
        runs = {
            "diffusers": partial(encode, theirs, [prompt(20)]),
            "ours": partial(encode_prompts, ours, [prompt(20)]),
        }
        with torch.inference_mode():
            result[name] = alternate(runs, rounds)
    return result


def print_speed(speed: dict[str, tuple[dict[str, list], float]], names: dict[str, list[str]]) -> None:
    rows = [
        (name, f"{ours.wall * 1000:.0f}", f"{theirs.wall * 1000:.0f}", f"{1 / ours.ratio:.2f}x", f"{floor * 1000:.0f}",
         f"{error:.1e}")
        for what, (costs, floor) in speed.items()
        for name, ours, theirs, error in zip(names[what], costs["ours"], costs["diffusers"], costs["errors"])
    ]  # fmt: skip
    print(table(("Tokens of text", "ours, ms", "diffusers, ms", "faster by", "weights read once, ms", "error"), rows))


def print_errors(errors: dict[str, dict[str, tuple[float, ...]]]) -> None:
    rows = [
        (name, *(f"{error:.1e}" for error in (*case["stored"], *case["computed"]))) for name, case in errors.items()
    ]
    headings = ("Storage", "context", "pooled", "context against its own values", "pooled against its own values")
    print("\n" + table(headings, rows))


def print_loading(loading: dict[str, dict[str, float]]) -> None:
    rows = [
        (name, f"{case['file']:.0f}", f"{case['kept']:.0f}", f"{case['loading']:.0f}",
         f"{case['loading'] / case['kept']:.2f}x", f"{case['encoding']:.0f}", f"{case['seconds']:.2f}")
        for name, case in loading.items()
    ]  # fmt: skip
    headings = ("Loading", "file, MiB", "kept, MiB", "peak, MiB", "peak / kept", "with one prompt, MiB", "s")
    print("\n" + table(headings, rows))


def page_rows(speed: dict[str, tuple[dict[str, list], float]], storages: dict[str, Cost], curve: Curve) -> list[Row]:
    def row(name: str, what: str, index: int = 0) -> Row:
        costs = speed[what][0]
        return timed(name, costs["ours"][index], costs["diffusers"][index])

    rows = [
        *(row(f"Prompt of {tokens} tokens, float32", "curve", index) for index, tokens in enumerate(TOKENS)),
        row("Prompts of 0 and 20 tokens together, float32", "pair"),
        row("Prompt of 20 tokens, two layers at the released width, float32", "released width"),
    ]
    rows += [
        Row("Reading the weights once", speed["curve"][1]),
        Row("Reading the weights once, two layers at the released width", speed["released width"][1]),
    ]
    plain = storages["fp32"]
    for name, cost in storages.items():
        if cost is not plain:
            found = f"Prompt of 20 tokens, stored in {name}"
            rows.append(compared(found, cost.wall, plain.wall, beside="float32", ratio=cost.ratio))
    return [*rows, curve.row("Prompt, over its tokens")]


def run_released(args: argparse.Namespace) -> None:
    sizes, config, rounds = (TINY, _released.TINY, 1) if args.quick else (RELEASED, _released.RELEASED, 3)
    report = _released.measure(__file__, config, args.folder, ("int4", "bf16") if args.quick else _released.STORAGES)
    _released.print_released(report)
    halves = measure_diffusers(sizes, rounds)
    rows = [
        (name, f"{costs['diffusers']:.2f}", f"{costs['ours']:.2f}", f"{costs['diffusers'] / costs['ours']:.1f}x")
        for name, costs in halves.items()
    ]
    headings = (f"{sizes.layers} layers of that width", "diffusers, s", "ours, s", "faster by")
    print("\n" + table(headings, rows))
    page_rows = _released.page_rows(report, halves, sizes.layers)
    save("text_encoder_released", {"storages": report, "layers": halves}, args.results, page_rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--released", action="store_true", help="the released size instead: up to 12 GB a file")
    parser.add_argument("--folder", type=_sides.Path, help="where these files go meanwhile (default: temporary files)")
    parser.add_argument("--prompts", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=2, metavar=("FILE", "STORAGE"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.load:
        print(json.dumps(load_in_this_process(*args.load)))
        return
    if args.prompts:
        print(json.dumps(_released.encode_in_this_process(args.prompts)))
        return
    if args.released:
        run_released(args)
        return
    mid, released, large, rounds = (TINY, TINY, TINY, 1) if args.quick else (MID, RELEASED, GIGABYTE, 9)
    cases = {
        "curve": (mid, [[prompt(tokens)] for tokens in TOKENS]),
        "pair": (mid, [[prompt(0), prompt(20)]]),
        "released width": (released, [[prompt(20)], [prompt(0), prompt(20)]]),
    }
    names = {
        "curve": list(map(str, TOKENS)),
        "pair": ["0 and 20 together"],
        "released width": ["20, two layers at the released width", "0 and 20 together, two layers at that width"],
    }
    speed = {what: measure_speed(*case, rounds) for what, case in cases.items()}
    print_speed(speed, names)
    errors = measure_errors(mid)
    print_errors(errors)
    storages = measure_storages(mid, rounds)
    print("\n" + table(("Stored in", *HEADINGS), [(name, *cost.cells(1)) for name, cost in storages.items()]))
    loading = measure_loading(large, QUICK if args.quick else LOADED)
    print_loading(loading)
    report = {what: {"cases": names[what], "floor": floor} | costs for what, (costs, floor) in speed.items()}
    costs, floor = speed["curve"]
    curves = {side: costs[side] for side in ("ours", "diffusers")}
    curves["reading the weights once"] = [Cost(floor, floor, 0.0, 0.0)] * len(TOKENS)
    curve = Curve("tokens of text", list(TOKENS), curves)
    report = {"speed": report, "errors": errors, "storages": storages, "loading": loading}
    save("text_encoder", report, args.results, page_rows(speed, storages, curve))
    plot("text_encoder", [curve], args.results)


if __name__ == "__main__":
    main()
