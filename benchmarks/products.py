"""Ways to multiply a few rows with the matrix of a layer on a CPU: `python3 dev.py bench products`.

Which of them a product takes is decided in `kolors_core/networks/products.py`: `as_columns` by a rule that was read off
the first table, the others by a measurement in the process. Times are divided by that of the way that is taken.
Writes products.json.
"""

from __future__ import annotations

import _sides  # noqa: F401 - sets the threads
import torch
from _report import argument_parser, save, table
from _timing import alternate
from comfyui_kolors.kolors_core.networks import products
from comfyui_kolors.kolors_core.networks.quantization import BITS, quantize
from torch.nn.functional import linear

ROWS = (1, 3, 8, 13, 16, 23, 32, 48, 64, 128, 257)
#: (o, i) of the layers: the released encoder's four, and two of width 1024.
SHAPES = ((27392, 4096), (4096, 13696), (4608, 4096), (4096, 4096), (6848, 1024), (1024, 3424))
HEADINGS = ("o x i", "rows", "ms", "oneDNN, rows", "oneDNN, columns", "torch's own")
STORED = ("o x i", "rows", "int8, ms", "unpacked", "int4, ms", "unpacked", "bf16, ms", "unpacked", "fp16 unpacked, ms",
          "float32, ms")  # fmt: skip


@torch.inference_mode()
def measure_float32(x: torch.Tensor, weight: torch.Tensor, rounds: int) -> dict[str, float]:
    """Seconds of each way."""
    runs = {"taken": lambda: products.multiply(x, weight), "torch": lambda: linear(x, weight)}
    if (operator := products.onednn_linear()) is not None:
        runs["rows"] = lambda: operator(x, weight, None, "none", [], "")
        runs["columns"] = lambda: products.multiply_columns(operator, x, weight, None)
    return alternate(runs, rounds)


@torch.inference_mode()
def measure_stored(x: torch.Tensor, weight: torch.Tensor, rounds: int) -> dict[str, float]:
    """Seconds of the products with each storage of a matrix; "unpacked" where another way is taken or might be."""
    runs = {"float32": lambda: products.multiply(x, weight)}
    for name, bits in BITS.items():
        packed, scale = quantize(weight, bits)
        ordered = x if bits == 8 else products.order_columns(x)
        runs[name] = lambda packed=packed, scale=scale, bits=bits: products.multiply_packed(x, packed, scale, bits)
        runs[f"{name} unpacked"] = lambda packed=packed, scale=scale, bits=bits, x=ordered: products.multiply_floats(
            x, packed, scale, bits
        )
    half, brain = weight.half(), weight.bfloat16()
    runs["fp16 unpacked"] = lambda: products.multiply_stored(x, half)
    runs["bf16 unpacked"] = lambda: products.multiply_stored(x, brain)
    runs["bf16"] = lambda: products.multiply_bfloat16(x, brain)
    return alternate(runs, rounds)


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    rows, shapes, rounds = ((3, 16), ((64, 32),), 1) if args.quick else (ROWS, SHAPES, 5)
    float32, stored = {}, {}
    for outputs, inputs in shapes:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(outputs, inputs, generator=generator) * 0.02
        for count in rows:
            x = torch.randn(count, inputs, generator=generator)
            float32[f"{outputs} x {inputs}, {count}"] = measure_float32(x, weight, rounds)
            stored[f"{outputs} x {inputs}, {count}"] = measure_stored(x, weight, rounds)
    print(table(HEADINGS, [float32_row(name, times) for name, times in float32.items()]))
    print("\n" + table(STORED, [stored_row(name, times) for name, times in stored.items()]))
    pays = {"integers": products.integers_pay(), "bfloat16": products.bfloat16_pays()}
    print("\nTaken here:", ", ".join(name for name, taken in pays.items() if taken) or "neither integers nor bfloat16")
    save("products", {"float32": float32, "stored": stored, "pays": pays}, args.results)


def float32_row(name: str, times: dict[str, float]) -> tuple[str, ...]:
    ratios = (f"{times[way] / times['taken']:.2f}" if way in times else "-" for way in ("rows", "columns", "torch"))
    return (*name.split(", "), f"{times['taken'] * 1000:.2f}", *ratios)


def stored_row(name: str, times: dict[str, float]) -> tuple[str, ...]:
    cells = []
    for storage in (*BITS, "bf16"):
        cells += [f"{times[storage] * 1000:.2f}", f"{times[f'{storage} unpacked'] / times[storage]:.2f}"]
    return (*name.split(", "), *cells, *(f"{times[way] * 1000:.2f}" for way in ("fp16 unpacked", "float32")))


if __name__ == "__main__":
    main()
