"""Activations: what a conversion replaces, and what it puts there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kernels import choose
from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron
from ..spec import spec
from .op import Weights


@spec
class Rectify:
    """The activation of the source network: `clip(x, 0, bound)`; with `levels` L the QCFS staircase of L steps.

    bound None: max(x, 0)       levels L: bound * clip(floor(x L / bound + 1/2) / L, 0, 1)
    signed: values of both signs pass, `clip(x, -bound, bound)`; what a neuron with negative letters rectifies: nothing.
    """

    bound: float | None = None
    levels: int | None = None
    signed: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        if self.signed:
            return self._both(xs[0])
        if self.bound is None:
            return F.relu(xs[0])
        if self.levels is None:
            return xs[0].clamp(0, self.bound)
        return torch.floor(xs[0] * self.levels / self.bound + 0.5).clamp(0, self.levels) * (self.bound / self.levels)

    def _both(self, x: Tensor) -> Tensor:
        if self.bound is None:
            return x
        if self.levels is None:
            return x.clamp(-self.bound, self.bound)
        unit = self.bound / self.levels
        return torch.floor(x / unit + 0.5).clamp(-self.levels, self.levels) * unit


@spec
class Spike:
    """A population of neurons. `letters`: theta is folded into what reads it, so the letter itself travels."""

    neuron: Neuron
    letters: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        raise TypeError("a neuron has memory: it runs by scan")

    def scan(self, weights: Weights, xs: Tensor, memory: Membrane | None) -> tuple[Emission, Membrane]:
        """The letters `[T, N, ...]` and what each is worth, by the first kernel that takes the neuron."""
        tensors = Tensors(**{name: weights[name] for name in Tensors._fields if name in weights})
        return choose(self.neuron, tensors, xs).run(self.neuron, tensors, xs, memory)
