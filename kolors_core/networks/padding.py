"""The equal tokens of a prompt's padding.

A prompt of n tokens fills the last n of 256, and the padded tokens before them are equal: in the encoder, in what it
gives, and so in the keys and values of a cross attention. p equal keys count in a softmax as one whose score is larger
by log(p). Both are exact, and of 256 tokens n + 1 remain to be computed.
"""

from __future__ import annotations

from torch import Tensor


def count_equal(states: Tensor) -> Tensor:
    """How many leading tokens of each prompt equal its first, bit by bit: (p, tokens, width) -> (p, 1) int64.

    At least 1, but 0 where the first token is not equal to itself (NaN).
    """
    equal = (states == states[:, :1]).all(dim=-1)  # (p, tokens)
    return equal.cumprod(dim=-1).sum(dim=-1, keepdim=True)
