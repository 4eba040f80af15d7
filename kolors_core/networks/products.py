"""Products of float32 rows with the matrix of a layer, in whatever it is stored, where the processor computes itself.

A matrix that is not float32 is read in blocks that stay in the processor's cache, through memory that is kept: the
whole matrix in float32 would cost four to eight times its own size in traffic, and new pages for each product.

Packed integers are multiplied as integers. Each row of the input becomes three digits of int8, each of which torch
multiplies with the stored bytes exactly; together they are as exact as float32, and take less time. In 4 bits the
columns of the input are put into the order in which the halves of the bytes are taken.

Axes: r rows, i in features, o out features.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

BLOCK = 1 << 22  # bytes of unpacked values that a thread works on at a time, for up to
THREADS = 8  # so many
MOST_COLUMNS = 64  # rows, up to which a product may be quicker as one of columns
TILE = 16  # columns that a product has at least, and a multiple of
BASE = 254  # of the digits: a rounding error cannot take them out of int8
DIGITS = 3
MARGIN = 1.3  # how much quicker products by another library or rounded ones must be to be taken, and
LEAST = 0.5  # integers: native instructions are quicker by far more, and a busy machine measures badly


# ---- float32 --------------------------------------------------------------------------------------------------------


@functools.cache
def onednn_linear() -> Callable[..., Tensor] | None:
    """oneDNN's linear layer, where torch has both of Intel's libraries and the operator.

    It is the one that torch's compiler emits, and private: a version of torch may take it away.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return None  # with neither, as on ARM, torch's own choice stands
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``nn.functional.linear`` of float32, by oneDNN where that is quicker: x (..., i), weight (o, i), bias (o,).

    Torch's own choice is MKL, which uses half the width of the vector registers where the processor is not Intel's: on
    an AMD EPYC with AVX-512 it takes 1.4 to 5 times as long (`benchmarks/products.py`). Where it uses all of it, it is
    as quick, but for few rows of a wide matrix.
    """
    if (linear := onednn_linear()) is None:
        return nn.functional.linear(x, weight, bias)
    if x.ndim > 1:
        outputs, inputs = weight.shape
        if as_columns(x.numel() // inputs, outputs, inputs):
            return multiply_columns(linear, x, weight, bias)
    return linear(x, weight, bias, "none", [], "") if onednn_pays() else nn.functional.linear(x, weight, bias)


def own_is_quick(x: Tensor, weight: Tensor) -> bool:
    """Whether torch's own product of x (..., i) with a weight (o, i) is as quick as any of these; told in no time."""
    if x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    return onednn_linear() is None or (x.numel() > MOST_COLUMNS * x.shape[-1] and not onednn_pays())


def as_columns(rows: int, outputs: int, inputs: int) -> bool:
    """Whether a product is quicker as ``weight @ x.T``, in which oneDNN reads the weight in the order it lies in.

    Otherwise oneDNN reorders it for each product. But the columns are filled up to a multiple of `TILE`, and few short
    ones are slow. The limits are read off `benchmarks/products.py`, and off whole prompts at two widths.
    """
    return outputs >= 512 and (7 if inputs >= 2048 else TILE) < rows <= MOST_COLUMNS


def multiply_columns(linear: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product of rows with that of columns; the same bits on an AMD EPYC."""
    rows = x.reshape(-1, x.shape[-1])
    y = linear(weight, _fill(rows), None, "none", [], "")[:, : len(rows)].t().contiguous()
    return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], len(weight))


def _fill(rows: Tensor) -> Tensor:
    """Rows (r, i) with as many zeros as fill the last tile."""
    return nn.functional.pad(rows, (0, 0, 0, -len(rows) % TILE))


# ---- other floats ---------------------------------------------------------------------------------------------------


def multiply_stored(x: Tensor, weight: Tensor) -> Tensor:
    """x (r, i) float32 with a weight (o, i) of any other float dtype -> (r, o) float32, the values unrounded."""
    return _multiply_unpacked(x, weight, lambda rows, values: values.copy_(weight[rows]))


def multiply_bfloat16(x: Tensor, weight: Tensor) -> Tensor:
    """The same with a weight in bfloat16 by the processor's own instructions, which round x and the product to it."""
    return nn.functional.linear(x.bfloat16(), weight).float()


def _multiply_unpacked(x: Tensor, weight: Tensor, unpack: Callable[[slice, Tensor], object]) -> Tensor:
    """The product with float32 values (o, i) that `unpack` writes, some rows at a time."""
    y = x.new_empty(len(x), len(weight))
    for rows in _blocks(len(weight), x.shape[1], torch.float32):
        values = _scratch.take("floats", x.device, torch.float32, rows.stop - rows.start, x.shape[1])
        unpack(rows, values)
        y[:, rows] = multiply(x, values)
    return y


# ---- packed integers ------------------------------------------------------------------------------------------------


def multiply_packed(x: Tensor, packed: Tensor, scale: Tensor, bits: int) -> Tensor:
    """x (r, i) float32 with a matrix as `quantization` packs it, scale (o,) -> (r, o) float32.

    Exact to float32's own rounding.
    """
    if not len(x):
        return x.new_empty(0, len(packed))
    by = multiply_integers if integers_pay() else multiply_floats
    return by(order_columns(x) if bits == 4 else x, packed, scale, bits)


def order_columns(x: Tensor) -> Tensor:
    """x (r, i) for the integers of 4 bits: first what belongs to all high halves of the bytes, and a sixteenth."""
    return torch.cat((x[:, ::2], x[:, 1::2]), dim=1).div_(16)


@functools.cache
def integer_product() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Torch's product of int8 (o, i) and (i, r) -> int32 (o, r), which is private: a version of torch may lack it."""
    return getattr(torch.ops.aten, "_int_mm", None)


def _integers(packed: Tensor, bits: int) -> Tensor:
    """Some rows of a packed matrix as int8 (o, i); in 4 bits first all high halves, then all low ones, times 16."""
    if bits == 8:
        return packed
    rows, half = packed.shape
    values = _scratch.take("integers", packed.device, torch.int8, rows, 2 * half)
    torch.bitwise_and(packed, -16, out=values[:, :half])
    torch.bitwise_left_shift(packed, 4, out=values[:, half:])
    return values


def multiply_floats(x: Tensor, packed: Tensor, scale: Tensor, bits: int) -> Tensor:
    """`multiply_packed` by unpacking to float32; x in the order of `order_columns` where bits is 4."""
    return _multiply_unpacked(x, packed, lambda rows, values: values.copy_(_integers(packed[rows], bits))).mul_(scale)


def multiply_integers(x: Tensor, packed: Tensor, scale: Tensor, bits: int) -> Tensor:
    """`multiply_packed` by digits of int8; x in the order of `order_columns` where bits is 4."""
    multiply = integer_product()
    assert multiply is not None
    digits, step = split_digits(x)
    columns = _fill(digits.flatten(0, 1)).t()  # (i, digits * r and zeros)
    y = x.new_empty(len(x), len(packed))
    for rows in _blocks(len(packed), x.shape[1], torch.int8):
        sums: Tensor = multiply(_integers(packed[rows], bits), columns).float()
        high, middle, low = (sums[:, digit * len(x) :][:, : len(x)] for digit in range(DIGITS))
        y[:, rows] = low.add(middle, alpha=BASE).add_(high, alpha=BASE**2).mul_(scale[rows, None]).t()
    return y.mul_(step)


def split_digits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (r, i) float32 as digits (`DIGITS`, r, i) int8, the highest first, and the step (r, 1) of the last one.

    ``x = step * (digits[0] * BASE**2 + digits[1] * BASE + digits[2])``, to less than a step, which is the row's largest
    value / 8,193,532. A row that is not finite has a step that is not.
    """
    step = x.abs().amax(dim=1, keepdim=True).div_(127 * BASE**2).clamp_min_(torch.finfo(torch.float32).tiny)
    rest = (x / step).round_()
    digits = x.new_empty(DIGITS, *x.shape, dtype=torch.int8)
    for digit, power in zip(digits, (BASE**2, BASE, 1)):
        values = (rest / power).round_()
        rest.sub_(values, alpha=power)
        digit.copy_(values)
    return digits, step


# ---- memory and measurements ----------------------------------------------------------------------------------------


def _blocks(outputs: int, inputs: int, dtype: torch.dtype) -> Iterator[slice]:
    """Rows of a matrix that are worked on together."""
    size = BLOCK * min(torch.get_num_threads(), THREADS)
    step = max(size // (max(inputs, 1) * dtype.itemsize) // 64, 1) * 64
    for start in range(0, outputs, step):
        yield slice(start, min(start + step, outputs))


class Scratch(threading.local):
    """Memory that is used again: new pages for each product would cost more than the product."""

    def __init__(self):
        self.kept: dict[tuple[str, torch.device], Tensor] = {}

    def take(self, name: str, device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
        """Uninitialised values, which the next one of this name on the device overwrites."""
        key, size = (name, device), torch.Size(shape).numel() * dtype.itemsize
        if key not in self.kept or self.kept[key].numel() < size:
            with torch.inference_mode(False):  # what is made in this mode cannot be written outside of it
                self.kept[key] = torch.empty(size, dtype=torch.uint8, device=device)
        return self.kept[key][:size].view(dtype).view(shape)


_scratch = Scratch()


@functools.cache
def integers_pay() -> bool:
    """Whether torch multiplies int8 exactly here, and by instructions of the processor; found out once.

    Without such instructions oneDNN adds two products in 16 bits, where the largest do not fit.
    """
    multiply = integer_product()
    if multiply is None or not is_exact(multiply):
        return False
    x, packed, scale = torch.ones(TILE, 2048), torch.ones(4096, 2048, dtype=torch.int8), torch.ones(4096)
    integers, floats = (functools.partial(by, x, packed, scale, 8) for by in (multiply_integers, multiply_floats))
    return ratio(integers, floats) > LEAST


def is_exact(multiply: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether a product of int8 has the right sums of the largest values of either sign; not where torch has none."""
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.int8).repeat(TILE, 128)
    weight, x = 127 * signs, (127 * signs[:TILE]).t()
    try:
        return torch.equal(multiply(weight, x), (weight.double() @ x.double()).int())
    except RuntimeError:  # the operator is there, but not for this kind of device
        return False


@functools.cache
def onednn_pays() -> bool:
    """Whether oneDNN multiplies many rows of float32 by `MARGIN` quicker than torch's own choice; found out once."""
    linear = onednn_linear()
    assert linear is not None
    x, weight, bias = torch.ones(512, 256), torch.ones(256, 256), torch.ones(256)
    with torch.no_grad():
        onednn, own = lambda: linear(x, weight, bias, "none", [], ""), lambda: nn.functional.linear(x, weight, bias)
        return ratio(onednn, own, 5) > MARGIN


@functools.cache
def bfloat16_pays() -> bool:
    """Whether the processor multiplies bfloat16 natively, and so by `MARGIN` quicker than unpacked; found out once."""
    x, weight = torch.ones(TILE, 2048), torch.ones(4096, 2048, dtype=torch.bfloat16)
    return ratio(lambda: multiply_bfloat16(x, weight), lambda: multiply_stored(x, weight)) > MARGIN


def ratio(one: Callable[[], object], other: Callable[[], object], rounds: int = 9) -> float:
    """The time of `other` by that of `one`: the shortest of a few rounds, which other work does not touch."""
    times: dict[Callable[[], object], list[float]] = {one: [], other: []}
    for _ in range(rounds):
        for run, seconds in times.items():
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return min(times[other]) / min(times[one])
