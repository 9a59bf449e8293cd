"""What a neuron forgets between two steps, and how its drive charges it."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from .spec import require, spec


class Charge(Protocol):
    """What a leak must answer. `w` is the learned tensor of a leak that has one, `Tensors.leak`."""

    @property
    def lossless(self) -> bool:
        """Whether all charge stays, so that the neuron integrates."""
        ...

    @property
    def learned(self) -> float | None:
        """The value that `Tensors.leak` starts with, or None if nothing is learned."""
        ...

    def charge(self, v: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        """The potential u of this step, from what was left and the drive."""
        ...

    def rheobase(self, theta: Tensor) -> Tensor:
        """The smallest constant drive whose potential tends to theta."""
        ...


@spec(kw_only=False)
class Leak:
    """`u = beta * v + x`. beta = 1 is the IF neuron, beta < 1 the LIF neuron."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.beta <= 1, f"Leak(beta={self.beta}) must lie in [0, 1]")

    @property
    def lossless(self) -> bool:
        return self.beta == 1

    @property
    def learned(self) -> float | None:
        return None

    def charge(self, v: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        return v + x if self.beta == 1.0 else self.beta * v + x

    def rheobase(self, theta: Tensor) -> Tensor:
        return theta * (1 - self.beta)


@spec(kw_only=False)
class Decay:
    """`u = v + (x - (v - rest)) / tau`: the potential goes 1/tau of the way to its drive, so the drive is scaled too.

    tau: the time constant in steps, 1 or more; at 1 the neuron has no memory. rest: where it goes undriven. The LIF
    neuron as [fang2021plif] writes it.
    """

    tau: float = 2.0
    rest: float = 0.0

    def __post_init__(self) -> None:
        require(self.tau >= 1, f"Decay(tau={self.tau}) overshoots its drive", instead="tau of 1 or more")

    @property
    def lossless(self) -> bool:
        return False

    @property
    def learned(self) -> float | None:
        return None

    def charge(self, v: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        return v + (x - (v - self.rest)) / self.tau if self.rest else v + (x - v) / self.tau

    def rheobase(self, theta: Tensor) -> Tensor:
        return theta - self.rest


@spec(kw_only=False)
class LearnedDecay:
    """`u = v + sigmoid(w) (x - (v - rest))`: as `Decay` with 1/tau = sigmoid(w), one learned w a layer: PLIF.

    tau: where the learning starts, w = -ln(tau - 1). Source: [fang2021plif].
    """

    tau: float = 2.0
    rest: float = 0.0

    def __post_init__(self) -> None:
        require(self.tau > 1, f"LearnedDecay(tau={self.tau}): sigmoid(w) never is 1", instead="tau > 1")

    @property
    def lossless(self) -> bool:
        return False

    @property
    def learned(self) -> float | None:
        return -math.log(self.tau - 1)

    def charge(self, v: Tensor, x: Tensor, w: Tensor | None = None) -> Tensor:
        assert w is not None, "a learned leak needs Tensors.leak"
        left = v - self.rest if self.rest else v
        return v + (x - left) * torch.sigmoid(w)

    def rheobase(self, theta: Tensor) -> Tensor:
        return theta - self.rest
