"""What is known of a tensor: of that object alone, for as long as it is what it was."""

import gc
import weakref

import pytest
import torch
from comfyui_kolors.kolors_core.networks.marks import MARK, Room, equal_tokens, is_known, keep, mark
from torch import nn


class Layer(nn.Linear):
    """A layer that keeps what it makes of a marked input, and counts what it computes."""

    computed = 0

    def forward(self, x):
        known = getattr(x, MARK, None)
        return super().forward(x) if known is None else known.product(self, x, self.multiply)

    def multiply(self, x):
        self.computed += 1
        self.tokens = x.shape[1]
        return super().forward(x)


@pytest.fixture
def layer():
    return Layer(8, 4).requires_grad_(False)


def states() -> torch.Tensor:
    """A tensor (2, 16, 8) of 9 equal leading tokens that can be kept, also when it is made in inference mode."""
    with torch.inference_mode(False):
        x = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
        x[:, :9] = x[:, :1]
        return x


def product(layer, x) -> torch.Tensor:
    return nn.functional.linear(x + 0, layer.weight, layer.bias)


@pytest.fixture(params=[0, 4096], ids=["where it was made", "in blocks"])
def room(request):
    return Room(1 << 20, request.param)


@pytest.fixture(params=[True, False], ids=["whole", "each token once"])
def whole(request):
    return request.param


def test_only_the_marked_tensor_itself_is_known():
    x = states()
    marked = mark(x, 9)
    assert (equal_tokens(x), equal_tokens(marked)) == (1, 9) and marked.data_ptr() == x.data_ptr()
    assert equal_tokens(marked + 0) == equal_tokens(marked[:, 1:]) == 1
    assert is_known(marked) and not is_known(x)


@torch.inference_mode()
def test_a_product_is_computed_once_and_is_marked_like_its_input(layer, room, whole):
    x = keep(states(), 9, room, whole)
    first = layer(x)
    assert torch.equal(layer(x), first) and (layer.computed, layer.tokens, equal_tokens(first)) == (1, 8, 9)
    assert (layer(x) is first) == whole  # a tensor of all tokens costs their number in memory
    assert torch.allclose(first, product(layer, x), atol=1e-6) and torch.equal(first[:, 0], first[:, 8])
    assert layer(x + 0) is not first and layer(x.clone()) is not first  # other objects


@torch.inference_mode()
def test_a_mark_without_room_keeps_nothing(layer):
    x = mark(states(), 9)
    assert layer(x) is not layer(x) and layer.computed == 2 and layer.tokens == 8
    assert torch.allclose(layer(x), product(layer, x), atol=1e-6) and equal_tokens(layer(x)) == 9


@torch.inference_mode()
def test_what_is_kept_ends_where_the_room_does(layer):
    room = Room(2 * 16 * 4 * 4)  # bytes of one product
    x, other = keep(states(), 1, room), Layer(8, 4).requires_grad_(False)
    assert layer(x) is layer(x) and other(x) is not other(x)
    assert room.left == 0


@torch.inference_mode()
def test_a_product_of_a_product_is_kept_too(layer, room):
    """As of the projected text the keys are, for which that one has to be the same tensor each time."""
    x, keys = keep(states(), 9, room, whole=True), Layer(4, 4).requires_grad_(False)
    first, again = (keys(layer(x)) for _ in range(2))
    assert torch.equal(first, again) and (layer.computed, keys.computed, keys.tokens) == (1, 1, 8)
    assert torch.allclose(first, product(keys, layer(x)), atol=1e-6) and equal_tokens(first) == 9


@torch.inference_mode()
def test_a_change_in_place_is_noticed(layer, room, whole):
    x, other = keep(states(), 9, room, whole), Layer(8, 4).requires_grad_(False)
    kept, beside = layer(x), other(x)
    kept.mul_(2)  # as another package might do with keys
    assert equal_tokens(kept) == (1 if whole else 9) and equal_tokens(beside) == 9
    again = layer(x)
    assert again is not kept and torch.equal(other(x), beside) and other.computed == 1
    assert torch.allclose(again, product(layer, x), atol=1e-6)
    x[:, 3] += 1
    assert not is_known(x) and equal_tokens(x) == 1
    assert torch.allclose(layer(x), product(layer, x), atol=1e-6) and layer.tokens == 16


@torch.inference_mode()
def test_another_weight_is_noticed(layer, room, whole):
    x = keep(states(), 9, room, whole)
    layer(x)
    layer.weight = nn.Parameter(layer.weight * 2, requires_grad=False)
    assert torch.allclose(layer(x), product(layer, x), atol=1e-6) and layer.computed == 2


def test_nothing_is_kept_while_something_learns(layer):
    x = keep(states(), 9, Room(1 << 20))
    assert layer(x) is not layer(x) and layer.computed == 2


@torch.inference_mode()
def test_what_is_kept_ends_with_the_tensor(layer, room, whole):
    x = keep(states(), 9, room, whole)
    layer(x)
    kept = weakref.ref(getattr(x, MARK).products[layer][1])
    assert kept() is not None
    del x
    assert kept() is None, gc.get_referrers(kept())
