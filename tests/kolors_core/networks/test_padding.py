"""The equal tokens of a prompt's padding, counted from the first one."""

import math

import pytest
import torch
from comfyui_kolors.kolors_core.networks.padding import count_equal


def prompt(tokens: int, rows: int = 256) -> torch.Tensor:
    """States (1, rows, 8) of a prompt whose last `tokens` differ."""
    states = torch.randn(1, tokens + 1, 8, generator=torch.Generator().manual_seed(tokens))
    return torch.cat((states[:, :1].expand(-1, rows - tokens, -1), states[:, 1:]), dim=1)


def test_they_are_counted_from_the_first():
    states = torch.cat((prompt(0), prompt(20), prompt(255), prompt(256)))
    assert count_equal(states).tolist() == [[256], [236], [1], [1]]
    states[1, 3] += 1  # one that differs ends them, whatever follows
    assert count_equal(states)[1].item() == 3


@pytest.mark.parametrize("place", [0, 2])
def test_what_is_not_a_number_equals_nothing(place):
    states = torch.zeros(1, 9, 4)
    states[0, place, 1] = math.nan
    assert count_equal(states).item() == place
