"""What a neuron forgets between two steps."""

from __future__ import annotations

from torch import Tensor

from .spec import require, spec


@spec(kw_only=False)
class Leak:
    """`u = beta * v + x`. beta = 1 is the IF neuron, beta < 1 the LIF neuron."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.beta <= 1, f"Leak(beta={self.beta}) must lie in [0, 1]")

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return v + x if self.beta == 1.0 else self.beta * v + x
