"""The host's layers in the quicker way on a CPU: the same numbers, and the host's own way where it matters."""

import pytest
import torch
from reference import relative_error

pytestmark = pytest.mark.host

EXACT = 1e-6  # relative L2, float32


@pytest.fixture(scope="module")
def quick_ops():
    from comfyui_kolors.kolors_core.host import cpu as quick_ops

    return quick_ops


@pytest.fixture(params=["disable_weight_init", "manual_cast"])
def pair(request, quick_ops):
    """The host's operations, and ours made of them."""
    import comfy.ops

    operations = getattr(comfy.ops, request.param)
    return operations, quick_ops.quick_operations(operations)


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
def test_weights_of_another_dtype_are_cast_as_the_host_does(quick_ops, kind, sizes, shape, dtype):
    import comfy.ops

    theirs, ours = twins((comfy.ops.manual_cast, quick_ops.CASTING), kind, *sizes, dtype=dtype)
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


def test_operations_with_layers_of_their_own_stay(quick_ops):
    import comfy.ops

    for operations in (comfy.ops.fp8_ops, quick_ops.CASTING, quick_ops.quick_operations(comfy.ops.manual_cast)):
        assert quick_ops.quick_operations(operations) is operations


def test_the_model_draws_with_them(quick_ops, tmp_path):
    """A tiny model at 512 pixels, in whose first blocks the channels are last."""
    from comfyui_kolors.demo.random_models import TINY, random_unet
    from comfyui_kolors.kolors_core.host import sampling, unet
    from comfyui_kolors.kolors_core.host import unet_file as loaders
    from safetensors.torch import save_file
    from sampling_runs import ours, theirs

    unet.register()
    reference = random_unet(TINY)
    save_file(reference.state_dict(), tmp_path / "unet.safetensors")
    model = loaders.load_unet(tmp_path / "unet.safetensors")
    convs = [m for m in model.model.diffusion_model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convs and all(isinstance(conv, quick_ops.QuickConv2d) for conv in convs)
    shape = (1, 4, 64, 64)
    found = ours(sampling, model, "euler", 2, shape=shape)
    assert relative_error(found, theirs(reference, "euler", 2, shape=shape)) <= 1e-4
