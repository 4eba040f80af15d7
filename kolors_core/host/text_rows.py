"""Cross attention to a prompt whose first rows are all the same, without computing each of them.

A prompt of n tokens fills the last n of 256 rows, and the padded rows before them are equal. So are their keys and
values; and p equal keys count in a softmax as one whose score is larger by log(p). Both are exact, and of 256 rows
n + 1 remain: at 256 x 256 pixels that is 15 % of a step. Everybody else still sees tensors of 256 rows.

A tensor is *marked* with how many of its first rows are equal. The mark is an attribute of that very object: what a
patch of another pack makes of it has none, and is computed in full.
"""

from __future__ import annotations

import inspect
import math

import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention
from torch import Tensor

from .cpu import quick_operations

# The host hands an override the functions inside its decorator.
PYTORCH, SUB_QUADRATIC = inspect.unwrap(attention.attention_pytorch), inspect.unwrap(attention.attention_sub_quad)
MARK = "kolors_equal_rows"
OVERRIDE = "optimized_attention_override"  # the host's own option for another attention
#: Kinds of device on which it is done: those on which it was measured to be quicker.
DEVICES = {"cpu"}


def count_equal_rows(context: Tensor) -> Tensor:
    """How many first rows of each prompt are equal: context (b, rows, width) -> (b, 1) int64."""
    equal = (context == context[:, :1]).all(dim=-1)  # (b, rows)
    return equal.cumprod(dim=-1).sum(dim=-1, keepdim=True)


def mark(x: Tensor, count: int) -> Tensor:
    """A view of x (b, rows, width), known to have `count` equal first rows."""
    x = x.view_as(x)
    setattr(x, MARK, count)
    return x


def equal_rows(x: Tensor) -> int:
    """How many first rows of x (b, rows, width) are known to be equal; 1 where nothing is known."""
    return getattr(x, MARK, 1)


def operations_for_rows(operations):
    """The host's `operations` with a Linear that computes equal rows of a marked input once, and marks its output."""
    operations = quick_operations(operations)

    class Linear(operations.Linear):
        def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
            if torch.compiler.is_compiling() or (count := equal_rows(x)) < 2:
                return super().forward(x, *args, **kwargs)
            y = super().forward(x[:, count - 1 :], *args, **kwargs)
            return mark(torch.cat((y[:, :1].expand(-1, count - 1, -1), y), dim=1), count)

    return type(operations.__name__, (operations,), {"Linear": Linear})


def attend(function, query: Tensor, key: Tensor, value: Tensor, heads: int, mask=None, **options) -> Tensor:
    """Attention on a CPU; `function` is the host's choice, the other arguments are the host's.

    On a CPU that choice is made for graphics cards without a better one. Torch's own takes as little memory and an
    eighth less time for a step at 512 x 512 pixels, so it stands in unless the user has asked for the other.
    """
    if function is SUB_QUADRATIC and not args.use_quad_cross_attention:
        function = PYTORCH
    count = min(equal_rows(key), equal_rows(value))
    if function is PYTORCH and mask is None and count > 1:
        key, value = key[:, count - 1 :], value[:, count - 1 :]
        mask = query.new_zeros(1, key.shape[1])  # (queries, rows)
        mask[0, 0] = math.log(count)
    return function(query, key, value, heads, mask=mask, **options)
