"""The linear layer on a CPU: the same numbers as torch's, by whichever library."""

import pytest
import torch
from comfyui_kolors.kolors_core.networks import linear as module
from comfyui_kolors.kolors_core.networks.linear import linear
from reference import relative_error

WEIGHT = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["both libraries", "one"])
def libraries(request, monkeypatch):
    """Both paths, whatever this torch was built with; a torch with both is where the quick one can be tried."""
    if request.param == "one":
        monkeypatch.setattr(module, "BOTH", False)
    elif not module.BOTH:
        pytest.skip("this torch has not both of MKL and oneDNN")


@pytest.fixture
def products(monkeypatch):
    """How often torch's own product was called."""
    calls, own = [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: calls.append(args) or own(*args))
    return calls


def rows(*shape, dtype=torch.float32):
    return torch.randn(*shape, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("shape", [(1,), (23,), (2, 256), (2, 3, 4), (0,), (2, 0), ()])
@pytest.mark.parametrize("bias", [None, torch.arange(48.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_equals_torchs(libraries, shape, bias, dtype):
    x, weight, bias = rows(*shape, dtype=dtype), WEIGHT.to(dtype), bias if bias is None else bias.to(dtype)
    found, expected = linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias)
    assert (found.shape, found.dtype, found.is_contiguous()) == (expected.shape, dtype, True)
    assert not found.numel() or relative_error(found, expected) <= 1e-6


@pytest.mark.parametrize(
    "x, weight",
    [(rows(8, 2).transpose(0, 1), WEIGHT), (rows(8)[3:], WEIGHT), (rows(4), WEIGHT.t().contiguous().t()),
     (rows(1, 4).expand(3, -1, -1), WEIGHT), (rows(4), WEIGHT[::2])],
    ids=["transposed rows", "later rows", "transposed weight", "repeated rows", "every second row of the weight"],
)  # fmt: skip
def test_memory_may_lie_in_any_order(libraries, x, weight):
    assert relative_error(linear(x, weight), torch.nn.functional.linear(x, weight)) <= 1e-6


@pytest.mark.parametrize("learns", ["x", "weight", "bias"])
def test_gradients_flow(libraries, learns):
    tensors = {"x": rows(4), "weight": WEIGHT.clone(), "bias": torch.zeros(48)}
    tensors[learns].requires_grad_()
    linear(**tensors).sum().backward()
    found = tensors[learns].grad
    tensors[learns].grad = None
    torch.nn.functional.linear(*tensors.values()).sum().backward()
    assert torch.equal(found, tensors[learns].grad)


@pytest.mark.skipif(not module.BOTH, reason="this torch has not both of MKL and oneDNN")
def test_the_quick_one_is_taken(products):
    with torch.no_grad():
        linear(rows(4), WEIGHT.requires_grad_(False))
    assert not products
    linear(rows(4, dtype=torch.bfloat16), WEIGHT.bfloat16())
    assert len(products) == 1


def test_other_classes_of_tensors_keep_their_own_product(libraries):
    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.linear:
                return "its own"
            return super().__torch_function__(function, types, args, kwargs)

    assert linear(rows(4), WEIGHT.as_subclass(Own)) == "its own"
