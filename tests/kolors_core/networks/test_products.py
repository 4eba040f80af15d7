"""Products block by block: the values of the whole product, whatever the matrix is stored in and the way taken."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from comfyui_kolors.kolors_core.networks import products
from comfyui_kolors.kolors_core.networks.quantization import dequantize, quantize
from house import ROOT
from reference import relative_error

EXACT = 1e-6  # relative L2 against float64
FLOATS = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(x, values):
    return x.double() @ values.double().T


@pytest.fixture(params=[True, False], ids=["integers", "floats"])
def way(request, monkeypatch):
    """Either way to multiply packed integers, whatever this processor is better at."""
    if request.param and not integers_are_exact():
        pytest.skip("this processor does not multiply int8 exactly")
    monkeypatch.setattr(products, "integers_pay", lambda: request.param)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 rows, so that a matrix of a test has several and a part of one."""
    monkeypatch.setattr(products, "BLOCK", 1)


def integers_are_exact():
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randint(-128, 128, (256, 256), dtype=torch.int8, generator=generator) for _ in range(2))
    return torch.equal(torch._int_mm(weight, x), (weight.double() @ x.double()).int())


# ---- float32 ----


@pytest.mark.parametrize("rows", [1, 3, 12, 13, 16, 23, 26, 32, 39, 64, 65])
@pytest.mark.parametrize("shape", [(1280, 2048), (512, 8192), (2560, 1024)])
@pytest.mark.parametrize("bias", [None, normal(2560)])
def test_a_product_of_columns_equals_one_of_rows(monkeypatch, rows, shape, bias):
    operator = products.onednn_linear()
    if operator is None:
        pytest.skip("this torch has not both of MKL and oneDNN")
    x, weight = normal(rows, shape[1]), normal(*shape, seed=1)
    expected = operator(x, weight, None, "none", [], "")
    if bias is not None:
        bias = bias[: shape[0]]
        expected = expected + bias
    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    found = products.multiply(x, weight, bias)
    assert relative_error(found, expected) <= EXACT and found.is_contiguous()
    assert torch.equal(products.multiply(x[None], weight, bias), found[None])


@pytest.mark.parametrize(("quicker", "pays"), [(2.0, True), (1.1, False)])
def test_what_is_quicker_is_measured_once(monkeypatch, quicker, pays):
    if products.onednn_linear() is None:
        pytest.skip("this torch has not both of MKL and oneDNN")
    measured = []
    monkeypatch.setattr(products, "ratio", lambda *runs: measured.append([run() for run in runs[:2]]) or quicker)
    products.onednn_pays.cache_clear()
    try:
        assert [products.onednn_pays(), products.onednn_pays()] == [pays, pays]
    finally:
        products.onednn_pays.cache_clear()
    (products_of_both,) = measured
    assert torch.allclose(*products_of_both)


def test_columns_are_taken_where_they_are_quicker():
    def taken(*shape):
        return [rows for rows in range(1, 80) if products.as_columns(rows, *shape)]

    assert taken(4096, 2048) == [*range(8, 65)] and taken(6848, 1024) == [*range(17, 65)] and not taken(511, 4096)


# ---- other floats ----


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [0, 1, 23])
@pytest.mark.parametrize("shape", [(200, 96), (64, 33), (1, 8)])
def test_a_stored_weight_keeps_its_values(small_blocks, dtype, rows, shape):
    x, weight = normal(rows, shape[1]), normal(*shape, seed=1).to(dtype)
    found = products.multiply_stored(x, weight)
    assert found.shape == (rows, shape[0]) and found.dtype == torch.float32
    assert not rows or relative_error(found, exact(x, weight)) <= EXACT


def test_bfloat16_is_rounded_and_no_more(small_blocks):
    x, weight = normal(23, 512), normal(200, 512, seed=1).bfloat16()
    found = products.multiply_bfloat16(x, weight)
    assert found.dtype == torch.float32
    assert relative_error(found, exact(x, weight)) <= 4e-3
    assert relative_error(found, exact(x.bfloat16(), weight)) <= 2e-3


# ---- packed integers ----


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [0, 1, 5, 6, 23, 86])
@pytest.mark.parametrize("shape", [(200, 96), (64, 34), (1, 8), (70, 4096)])
def test_packed_integers_are_multiplied_to_the_last_bit_of_float32(way, small_blocks, bits, rows, shape):
    packed, scale = quantize(normal(*shape, seed=1) * torch.linspace(0.01, 3, shape[0])[:, None], bits)
    x = normal(rows, shape[1])
    kept = x.clone()
    found = products.multiply_packed(x, packed, scale, bits)
    assert found.shape == (rows, shape[0]) and torch.equal(x, kept)
    assert not rows or relative_error(found, exact(x, dequantize(packed, scale, bits))) <= EXACT


@pytest.mark.parametrize("bits", [8, 4])
def test_every_byte_is_unpacked(way, bits):
    """Published files may hold the smallest integer as well, -128 or -8."""
    packed = torch.arange(-128, 128, dtype=torch.int16).to(torch.int8).repeat(3, 1)
    x = torch.eye(256 * 8 // bits)
    found = products.multiply_packed(x, packed, torch.tensor([1.0, 0.5, 2.0]), bits)
    assert torch.allclose(found.T, dequantize(packed, torch.tensor([1.0, 0.5, 2.0]), bits), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_one_value_among_small_ones_does_not_hide_them(way, bits):
    """As the states of a trained encoder are: one feature a thousand times the others, with small weights."""
    x, weight = normal(23, 512), normal(64, 512, seed=1)
    x[:, 7] *= 1e3
    weight[:, 7] *= 1e-3
    packed, scale = quantize(weight, bits)
    packed[:, 7 * bits // 8] = 0
    found = products.multiply_packed(x, packed, scale, bits)
    assert relative_error(found, exact(x, dequantize(packed, scale, bits))) <= 5e-5


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1e30, 1e35])
def test_rows_of_any_size(way, size):
    packed, scale = quantize(normal(64, 96, seed=1) / 1e3, 8)
    x = normal(4, 96).clamp(-1, 1) * size
    expected = exact(x, dequantize(packed, scale, 8))
    assert (products.multiply_packed(x, packed, scale, 8) - expected).abs().max() <= max(1e-6 * size, 1e-37)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_row_that_is_not_finite_stays_so_alone(way, value):
    packed, scale = quantize(normal(64, 96, seed=1), 8)
    x = normal(4, 96)
    x[2, 5] = value
    found = products.multiply_packed(x, packed, scale, 8)
    assert not found[2].isfinite().any() and found[[0, 1, 3]].isfinite().all()


def test_digits_give_the_row_back():
    x = torch.cat((normal(64, 999), torch.rand(64, 999, generator=torch.Generator().manual_seed(1)) - 0.5))
    digits, step = products.split_digits(x)
    powers = torch.tensor([products.BASE**2, products.BASE, 1]).double()
    found = torch.einsum("dri,d->ri", digits.double(), powers) * step.double()
    assert ((found - x.double()).abs() <= step).all()
    assert torch.allclose(step[:, 0] * 8_193_532, x.abs().amax(1), rtol=1e-6)


def test_digits_stay_in_range_where_a_rounding_is_undecided():
    """Values around the halves of each digit, where a rounding error could lead beyond int8."""
    base, top = products.BASE, 127 * products.BASE**2
    halves = torch.tensor([high * base**2 + side * (base**2 // 2) for high in range(-126, 127) for side in (-1, 1)])
    near = (halves[:, None] + torch.arange(-300, 301)).flatten().clamp(-top, top)
    x = torch.cat((near, torch.tensor([top, -top]))).float()[None]
    digits, step = products.split_digits(x)
    assert step.item() == pytest.approx(1) and digits.min() >= -127
    found = digits[0].double() * base**2 + digits[1].double() * base + digits[2].double()
    assert torch.equal(found, x.double())


# ---- memory and measurements ----


def test_memory_is_used_again_by_one_thread_only():
    scratch, taken, here = products.Scratch(), [], torch.device("cpu")
    with torch.inference_mode():
        first = scratch.take("values", here, torch.float32, 4, 8)
    second = scratch.take("values", here, torch.int8, 2, 3)
    second.fill_(1)  # outside of the mode it was made in
    assert (second.shape, second.dtype, second.data_ptr()) == ((2, 3), torch.int8, first.data_ptr())
    assert scratch.take("others", here, torch.int8, 2).data_ptr() != first.data_ptr()
    thread = threading.Thread(target=lambda: taken.append(scratch.take("values", here, torch.float32, 4, 8).data_ptr()))
    thread.start()
    thread.join()
    assert taken != [first.data_ptr()]
    assert scratch.take("values", here, torch.float32, 9).shape == (9,)


@pytest.fixture
def asked_anew():
    products.integers_pay.cache_clear()
    yield
    products.integers_pay.cache_clear()


def test_a_processor_that_cuts_sums_gets_floats(asked_anew, monkeypatch):
    monkeypatch.setattr(products, "ratio", lambda one, other: 2.0)
    own = products.integer_product()
    assert products.integers_pay() == integers_are_exact()
    products.integers_pay.cache_clear()
    monkeypatch.setattr(products, "integer_product", lambda: lambda a, b: own(a, b).clamp(-32768, 32767))
    assert not products.integers_pay()


WITHOUT_INSTRUCTIONS = """
import sys
sys.path.insert(0, "tests")
import conftest, torch
from comfyui_kolors.kolors_core.networks import products
from comfyui_kolors.kolors_core.networks.quantization import dequantize, quantize
from reference import relative_error
packed, scale = quantize(torch.randn(200, 512), 8)
x = torch.randn(23, 512)
expected = x.double() @ dequantize(packed, scale, 8).double().T
print(relative_error(products.multiply_packed(x, packed, scale, 8), expected))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_a_processor_without_instructions_for_integers_multiplies_exactly(instructions):
    """Simulated by oneDNN's own switch, which has no effect on other processors than those of x86."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_INSTRUCTIONS], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
    )  # fmt: skip
    assert done.stdout.strip() and float(done.stdout.splitlines()[-1]) <= EXACT, done.stderr


def test_torch_without_integer_products_gets_floats(asked_anew, monkeypatch):
    def missing(*args):
        raise NotImplementedError("Could not run 'aten::_int_mm' with arguments from the 'CPU' backend.")

    for found in (None, missing):
        products.integers_pay.cache_clear()
        monkeypatch.setattr(products, "integer_product", lambda found=found: found)
        assert not products.integers_pay()


@pytest.mark.parametrize(("ratio", "taken"), [(0.4, False), (0.6, True)])
def test_integers_are_taken_unless_they_are_far_slower(asked_anew, monkeypatch, ratio, taken):
    if not integers_are_exact():
        pytest.skip("this processor does not multiply int8 exactly")
    monkeypatch.setattr(products, "ratio", lambda one, other: ratio)
    assert products.integers_pay() is taken


def test_a_ratio_is_that_of_the_shortest_times(monkeypatch):
    clock, costs = [0.0], {"one": iter([5, 1, 3]), "other": iter([2, 9, 4])}
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock[0])

    def run(name):
        clock[0] += next(costs[name])

    assert products.ratio(lambda: run("one"), lambda: run("other"), rounds=3) == 2.0
