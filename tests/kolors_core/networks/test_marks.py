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

    def multiply(self, x, count):
        self.computed += 1
        self.counts = count
        return super().forward(x)


@pytest.fixture
def layer():
    return Layer(8, 4).requires_grad_(False)


def states() -> torch.Tensor:
    """A tensor (2, 16, 8) that can be kept, also when it is made in inference mode."""
    with torch.inference_mode(False):
        return torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))


def test_only_the_marked_tensor_itself_is_known():
    x = states()
    marked = mark(x, 9)
    assert (equal_tokens(x), equal_tokens(marked)) == (1, 9) and marked.data_ptr() == x.data_ptr()
    assert equal_tokens(marked + 0) == equal_tokens(marked[:, 1:]) == 1
    assert is_known(marked) and not is_known(x)


@torch.inference_mode()
def test_a_product_is_computed_once_and_is_marked_like_its_input(layer):
    x = keep(states(), 9, Room(1 << 20))
    first = layer(x)
    assert layer(x) is first and (layer.computed, layer.counts, equal_tokens(first)) == (1, 9, 9)
    assert torch.equal(first, nn.functional.linear(x, layer.weight, layer.bias))
    assert layer(x + 0) is not first and layer(x.clone()) is not first  # other objects


@torch.inference_mode()
def test_a_mark_without_room_keeps_nothing(layer):
    x = mark(states(), 9)
    assert layer(x) is not layer(x) and layer.computed == 2 and layer.counts == 9


@torch.inference_mode()
def test_what_is_kept_ends_where_the_room_does(layer):
    room = Room(2 * 16 * 4 * 4)  # bytes of one product
    x, other = keep(states(), 1, room), Layer(8, 4).requires_grad_(False)
    assert layer(x) is layer(x) and other(x) is not other(x)
    assert room.left == 0


@torch.inference_mode()
def test_a_change_in_place_is_noticed(layer):
    x = keep(states(), 9, Room(1 << 20))
    kept = layer(x)
    kept.mul_(2)  # as another package might do with keys
    assert equal_tokens(kept) == 1
    again = layer(x)
    assert again is not kept and torch.equal(again, nn.functional.linear(x, layer.weight, layer.bias))
    x[:, 3] += 1
    assert not is_known(x) and equal_tokens(x) == 1
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias)) and layer.counts == 1


@torch.inference_mode()
def test_another_weight_is_noticed(layer):
    x = keep(states(), 9, Room(1 << 20))
    layer(x)
    layer.weight = nn.Parameter(layer.weight * 2, requires_grad=False)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias)) and layer.computed == 2


def test_nothing_is_kept_while_something_learns(layer):
    x = keep(states(), 9, Room(1 << 20))
    assert layer(x) is not layer(x) and layer.computed == 2


@torch.inference_mode()
def test_what_is_kept_ends_with_the_tensor(layer):
    x = keep(states(), 9, Room(1 << 20))
    kept = weakref.ref(layer(layer_input := x))
    assert kept() is not None
    del x, layer_input
    assert kept() is None, gc.get_referrers(kept())
