"""What a CPU computes in another way: the same numbers, and the host's own way where it matters."""

import os
import subprocess
import sys

import pytest
import torch
from comfyui_kolors.kolors_core.networks import marks, products
from comfyui_kolors.kolors_core.networks.quantization import dequantize, quantize
from house import ROOT
from reference import relative_error

pytestmark = pytest.mark.host

EXACT = 1e-6  # relative L2, float32


@pytest.fixture(scope="module")
def cpu():
    from comfyui_kolors.kolors_core.host import cpu

    return cpu


@pytest.fixture(params=["disable_weight_init", "manual_cast"])
def pair(request, cpu):
    """The host's operations, and ours made of them."""
    import comfy.ops

    operations = getattr(comfy.ops, request.param)
    return operations, cpu.operations(operations)


def twins(pair, kind, *sizes, dtype=torch.float32, **options):
    """The same layer of either side."""
    torch.manual_seed(0)
    weights = {"weight": torch.randn(getattr(torch.nn, kind)(*sizes, **options).weight.shape), "bias": torch.randn(6)}
    layers = [getattr(operations, kind)(*sizes, dtype=dtype, **options) for operations in pair]
    for layer in layers:
        layer.load_state_dict({key: tensor.to(dtype) for key, tensor in weights.items()})
        layer.requires_grad_(False)
    return layers


@pytest.mark.parametrize("cells", [(64, 64), (32, 160), (63, 64), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}], ids=str)
def test_a_convolution_equals_the_hosts(pair, cells, options):
    theirs, ours = twins(pair, "Conv2d", 5, 6, 3 if min(cells) > 1 else 1, **options)
    x = torch.randn(2, 5, *cells)
    kept = x.clone()
    found, expected = ours(x), theirs(x)
    assert found.shape == expected.shape and relative_error(found, expected) <= EXACT
    assert torch.equal(x, kept) and x.is_contiguous()
    is_large = cells[0] * cells[1] >= 64 * 64
    assert found.is_contiguous(memory_format=torch.channels_last) or not is_large
    assert is_large or torch.equal(found, expected)


def test_a_picture_without_a_batch_passes(pair):
    theirs, ours = twins(pair, "Conv2d", 5, 6, 3)
    x = torch.randn(5, 64, 64)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("kind", "sizes", "shape"), [("Conv2d", (5, 6, 3), (1, 5, 64, 64)), ("Linear", (5, 6), (2, 5))]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_are_cast_as_the_host_does(cpu, kind, sizes, shape, dtype):
    import comfy.ops

    theirs, ours = twins((comfy.ops.manual_cast, cpu.CASTING), kind, *sizes, dtype=dtype)
    x = torch.randn(shape)
    assert ours(x).dtype == torch.float32
    assert relative_error(ours(x), theirs(x)) <= EXACT
    x = x.to(dtype)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("kind", "sizes", "shape"), [("Conv2d", (5, 6, 3), (1, 5, 64, 64)), ("Linear", (5, 6), (2, 5))]
)
def test_patches_that_wait_are_applied(pair, kind, sizes, shape):
    theirs, ours = twins(pair, kind, *sizes)
    x, plain = torch.randn(shape), ours(torch.zeros(shape))
    for layer in (theirs, ours):
        layer.weight_function = [lambda weight: weight * 3]
        layer.bias_function = [lambda bias: bias + 1]
    assert relative_error(ours(x), theirs(x)) <= EXACT
    assert relative_error(ours(torch.zeros(shape)), plain + 1) <= EXACT


def test_operations_with_layers_of_their_own_keep_their_products(cpu):
    import comfy.ops

    class Own(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def forward(self, x):
                return "its own"

    for own in (Own, Own()):  # ComfyUI-GGUF hands over an object
        made = cpu.operations(own)
        assert made.Linear(5, 6)(torch.zeros(2, 5)) == "its own" and made.Conv2d is Own.Conv2d
        assert issubclass(made, Own) and made.__name__ == "Own"


def test_the_model_draws_with_them(cpu, tmp_path):
    """A tiny model at 512 pixels, in whose first blocks the channels are last."""
    import loaders
    from comfyui_kolors.demo.random_models import TINY, random_unet
    from comfyui_kolors.kolors_core.host import sampling, unet
    from safetensors.torch import save_file
    from sampling_runs import ours, theirs

    unet.register()
    reference = random_unet(TINY)
    save_file(reference.state_dict(), tmp_path / "unet.safetensors")
    model = loaders.load_unet(tmp_path / "unet.safetensors")
    convs = [m for m in model.model.diffusion_model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convs and all(isinstance(conv, cpu.CPUConv2d) for conv in convs)
    shape = (1, 4, 64, 64)
    found = ours(sampling, model, "euler", 2, shape=shape)
    assert relative_error(found, theirs(reference, "euler", 2, shape=shape)) <= 1e-4


# ---- products ----

WEIGHT = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["both libraries", "one"])
def libraries(request, cpu, monkeypatch):
    """Both paths, whatever this torch was built with; a torch with both is where the quick one can be tried."""
    if request.param == "one":
        monkeypatch.setattr(products, "onednn_linear", lambda: None)
    elif products.onednn_linear() is None:
        pytest.skip("this torch has not both of MKL and oneDNN")
    else:
        monkeypatch.setattr(products, "onednn_pays", lambda: True)


@pytest.fixture
def torchs(monkeypatch):
    """How often torch's own product was called."""
    calls, own = [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: calls.append(args) or own(*args))
    return calls


def rows(*shape, dtype=torch.float32):
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("shape", [(1,), (23,), (2, 256), (2, 3, 4), (0,), (2, 0), ()])
@pytest.mark.parametrize("bias", [None, torch.arange(48.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_equals_torchs(cpu, libraries, shape, bias, dtype):
    x, weight, bias = rows(*shape, dtype=dtype), WEIGHT.to(dtype), bias if bias is None else bias.to(dtype)
    found, expected = cpu.linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias)
    assert (found.shape, found.dtype, found.is_contiguous()) == (expected.shape, dtype, True)
    assert not found.numel() or relative_error(found, expected) <= 1e-6


@pytest.mark.parametrize(
    "x, weight",
    [(rows(8, 2).transpose(0, 1), WEIGHT), (rows(8)[3:], WEIGHT), (rows(4), WEIGHT.t().contiguous().t()),
     (rows(1, 4).expand(3, -1, -1), WEIGHT), (rows(4), WEIGHT[::2])],
    ids=["transposed rows", "later rows", "transposed weight", "repeated rows", "every second row of the weight"],
)  # fmt: skip
def test_memory_may_lie_in_any_order(cpu, libraries, x, weight):
    assert relative_error(cpu.linear(x, weight), torch.nn.functional.linear(x, weight)) <= 1e-6


@pytest.fixture
def ways(cpu, monkeypatch):
    """Which of the products of a weight that is not float32 were taken, here also of the smallest."""
    taken = []
    for name in ("multiply_stored", "multiply_bfloat16", "multiply_packed"):
        own = getattr(products, name)
        monkeypatch.setattr(products, name, lambda *args, name=name, own=own: taken.append(name) or own(*args))
    monkeypatch.setattr(cpu, "MANY", 1)
    return taken


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("bias", [None, torch.arange(48.0).half()])
def test_a_weight_of_another_dtype_is_multiplied_in_blocks(cpu, ways, monkeypatch, dtype, pays, native, bias):
    """In bfloat16 only where it pays, and only for who agrees to be rounded."""
    monkeypatch.setattr(products, "bfloat16_pays", lambda: pays)
    x, weight = rows(2, 4), WEIGHT.to(dtype)
    found = cpu.linear(x, weight, bias, native)
    is_rounded = native and pays and dtype == torch.bfloat16
    assert ways == ["multiply_bfloat16" if is_rounded else "multiply_stored"]
    expected = torch.nn.functional.linear(x, weight.float(), None if bias is None else bias.float())
    assert found.shape == (2, 4, 48) and relative_error(found, expected) <= (1e-2 if is_rounded else EXACT)


@pytest.mark.parametrize("change", [{"FEW": 7}, {"MANY": 48 * 32 + 1}], ids=str)
def test_many_rows_or_few_values_are_multiplied_at_once(cpu, ways, monkeypatch, change):
    for name, value in change.items():
        monkeypatch.setattr(cpu, name, value)
    found = cpu.linear(rows(2, 4), WEIGHT.half())
    assert relative_error(found, torch.nn.functional.linear(rows(2, 4), WEIGHT.half().float())) <= EXACT and not ways


def test_bfloat16_is_multiplied_as_such_whatever_the_number_of_rows(cpu, ways, monkeypatch):
    """The same prompt alone and among others must not differ."""
    monkeypatch.setattr(products, "bfloat16_pays", lambda: True)
    monkeypatch.setattr(cpu, "FEW", 7)
    cpu.linear(rows(2, 4), WEIGHT.bfloat16(), native=True)
    assert ways == ["multiply_bfloat16"]


def test_only_the_text_encoder_agrees_to_be_rounded(cpu):
    import comfy.ops
    from comfyui_kolors.kolors_core.host.text_encoder.storage import Storage
    from comfyui_kolors.kolors_core.networks.chatglm3 import ChatGLM3Config

    assert cpu.NATIVE.Linear.native and not cpu.CASTING.Linear.native
    assert not cpu.operations(comfy.ops.manual_cast).Linear.native
    encoder = Storage(torch.bfloat16, torch.bfloat16).build(ChatGLM3Config(num_layers=1))
    assert isinstance(encoder.encoder["layers"][0].mlp.dense_h_to_4h, cpu.NATIVE.Linear)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (0,), ()])
@pytest.mark.parametrize("bias", [None, torch.arange(48.0)])
@pytest.mark.parametrize("off", [False, True])
def test_a_packed_weight_is_multiplied_as_it_is(cpu, ways, monkeypatch, bits, shape, bias, off):
    monkeypatch.setattr(cpu, "ENABLED", not off)
    packed, scale = quantize(WEIGHT, bits)
    found = cpu.multiply_packed(rows(*shape), packed, scale, bits, bias)
    expected = torch.nn.functional.linear(rows(*shape), dequantize(packed, scale, bits), bias)
    assert found.shape == expected.shape and (ways == ["multiply_packed"]) is not off
    assert not found.numel() or relative_error(found, expected) <= EXACT


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_packed_weight_gives_the_dtype_of_its_input(cpu, ways, dtype):
    packed, scale = quantize(WEIGHT, 8)
    assert cpu.multiply_packed(rows(4, dtype=dtype), packed, scale, 8).dtype == dtype and not ways


def test_a_gradient_flows_through_a_packed_weight(cpu, ways):
    packed, scale = quantize(WEIGHT, 8)
    x = rows(4).requires_grad_()
    cpu.multiply_packed(x, packed, scale, 8).sum().backward()
    assert relative_error(x.grad, dequantize(packed, scale, 8).sum(0).expand(4, -1)) <= EXACT and not ways


@pytest.mark.parametrize("learns", ["x", "weight", "bias"])
def test_gradients_flow(cpu, libraries, learns):
    tensors = {"x": rows(4), "weight": WEIGHT.clone(), "bias": torch.zeros(48)}
    tensors[learns].requires_grad_()
    cpu.linear(**tensors).sum().backward()
    found = tensors[learns].grad
    tensors[learns].grad = None
    torch.nn.functional.linear(*tensors.values()).sum().backward()
    assert torch.equal(found, tensors[learns].grad)


@pytest.mark.parametrize("pays", [True, False])
def test_the_quick_one_is_taken(cpu, torchs, monkeypatch, pays):
    if products.onednn_linear() is None:
        pytest.skip("this torch has not both of MKL and oneDNN")
    monkeypatch.setattr(products, "onednn_pays", lambda: pays)
    with torch.no_grad():
        cpu.linear(rows(4), WEIGHT.requires_grad_(False))
    assert len(torchs) == (not pays)


def test_products_in_bfloat16_are_torchs(cpu, torchs):
    cpu.linear(rows(4, dtype=torch.bfloat16), WEIGHT.bfloat16())
    assert len(torchs) == 1


def test_other_classes_of_tensors_keep_their_own_product(cpu, libraries):
    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.linear:
                return "its own"
            return super().__torch_function__(function, types, args, kwargs)

    assert cpu.linear(rows(4), WEIGHT.as_subclass(Own)) == "its own"


def test_torch_without_the_operator_multiplies_by_itself(cpu, torchs, monkeypatch):
    """It is a private one: another version of torch may not have it."""
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    products.onednn_linear.cache_clear()
    try:
        with torch.no_grad():
            assert cpu.linear(rows(4), WEIGHT).shape == (4, 48)
    finally:
        products.onednn_linear.cache_clear()
    assert len(torchs) == 1


@pytest.mark.parametrize(
    ("weight", "bias", "words"),
    [
        (torch.zeros(48, 31), None, "shapes cannot be multiplied"),
        (torch.zeros(48, 31), torch.zeros(48), "shapes cannot be multiplied"),
        (WEIGHT, torch.zeros(47), "expanded size"),
        (WEIGHT[None], None, "2 dimensions"),
    ],
    ids=["width", "width beside a bias", "bias", "dimensions"],
)
def test_shapes_that_do_not_fit_are_told_by_torch(cpu, libraries, weight, bias, words):
    with torch.no_grad(), pytest.raises(RuntimeError, match=words):
        cpu.linear(rows(4), weight, bias)


@pytest.mark.parametrize("bias", [torch.ones(1), torch.ones(1, 48), torch.ones(4, 1)], ids=lambda bias: str(bias.shape))
def test_a_bias_is_repeated_as_torch_does(cpu, libraries, bias):
    with torch.no_grad():
        assert torch.equal(cpu.linear(rows(4), WEIGHT, bias), torch.nn.functional.linear(rows(4), WEIGHT, bias))


def test_a_product_over_no_width_is_the_bias(cpu, libraries):
    with torch.no_grad():
        assert torch.equal(cpu.linear(torch.zeros(2, 0), torch.zeros(3, 0), torch.ones(3)), torch.ones(2, 3))


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_a_layer_given_another_width_says_the_shapes(pair, kind):
    _, layer = twins(pair, kind, 5, 6, *[3] * (kind == "Conv2d"))
    for x in (torch.zeros(1, 7, 64, 64), torch.zeros(1, 7, 8, 8)) if kind == "Conv2d" else (torch.zeros(1, 4, 7),):
        with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|to have 5 channels, but got 7"):
            layer(x)


SWITCHED_OFF = """
import sys
sys.path.insert(0, "tests")
import conftest, torch
from comfyui_kolors.kolors_core.host import cpu
from comfyui_kolors.kolors_core.networks import products
products.onednn_pays = lambda: True  # whatever the processor
multiplied, own = [], torch.nn.functional.linear
torch.nn.functional.linear = lambda *given: multiplied.append(given) or own(*given)
with torch.no_grad():
    cpu.linear(torch.zeros(4, 32), torch.zeros(8, 32))
print(len(multiplied), cpu.count_padding(torch.device("cpu"), torch.zeros(1, 4, 8)))
"""


def test_layers_that_multiply_by_themselves_need_no_weight(cpu):
    """As those of other packages, whose weights lie under other names."""

    class Own:
        class Linear(torch.nn.Linear):
            weight_function = bias_function = ()

            def forward(self, x):
                return x + 1

    layer = cpu.operations(Own).Linear(4, 4)
    del layer.weight
    with torch.inference_mode(False):
        x = torch.zeros(1, 3, 4)
    with torch.inference_mode():
        assert torch.equal(layer(x), x + 1)
        kept = marks.keep(x, 2, marks.Room(1 << 20))
        assert all(torch.equal(layer(kept), x + 1) for _ in range(2))


@pytest.mark.parametrize(("switch", "printed"), [("0", "1 1"), ("1", "0 4")])
def test_the_user_can_switch_it_off(cpu, switch, printed):
    if switch == "1" and products.onednn_linear() is None:
        pytest.skip("this torch has not both of MKL and oneDNN")
    done = subprocess.run(
        [sys.executable, "-c", SWITCHED_OFF], cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"KOLORS_CPU": switch},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] and done.stdout.splitlines()[-1].startswith(printed), done.stderr


@pytest.mark.parametrize("off", [False, True])
def test_nothing_is_written_into_what_the_caller_hands_over(cpu, monkeypatch, off):
    monkeypatch.setattr(cpu, "ENABLED", not off)
    options, context = {"kept": 1}, torch.zeros(1, 4, 8)
    marked, new = cpu.prepare(context, options)
    assert options == {"kept": 1} and cpu.equal_tokens(context) == 1
    assert new["kept"] == 1 and (cpu.OVERRIDE in new, cpu.equal_tokens(marked)) == ((False, 1) if off else (True, 4))
    assert cpu.prepare(context, {cpu.OVERRIDE: "another pack's"})[1][cpu.OVERRIDE] == "another pack's"
