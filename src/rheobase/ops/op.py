"""What an operation of a network is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

Weights = Mapping[str, Tensor]


class Op(Protocol):
    """`op(weights, *inputs) -> output`, one step, `[N, ...]`."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor: ...
