"""A trained network for tests that need one: DigitsNet on scikit-learn's digits, a few seconds, once a session."""

from __future__ import annotations

from functools import cache

from torch import Tensor, nn

from rheobase import demo


@cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """The network in eval mode, 300 training images `[N, 1, 8, 8]` and their labels. Nobody may change them."""
    split = demo.digits(0)
    with demo.one_thread():
        ann = demo.train(split, 0, lambda stage, n, of: None, epochs=10)
    return ann, split.x[:300], split.y[:300]
