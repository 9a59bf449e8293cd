"""Activations: what a conversion replaces, and what it puts there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron, received
from ..recompute import run
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
class Staircase:
    """What a neuron with `levels` levels sends in sum when its input comes evenly, per step:

        unit * clip(floor(x / unit + start), 0, levels),     signed: from -levels to levels

    unit and start: tensors that broadcast against one sample. Gradients pass the floor straight through, and stop where
    the staircase has ended.
    """

    levels: int
    signed: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        low = -self.levels if self.signed else 0
        return _Floor.apply(xs[0] / weights["unit"] + weights["start"], low, self.levels) * weights["unit"]


class _Floor(torch.autograd.Function):
    """`clip(floor(r), low, high)`, differentiated as if it were r from low to high + 1."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward((r >= low) & (r < high + 1))
        return torch.floor(r).clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.saved_tensors[0], None, None


@spec
class Spike:
    """A population of neurons.

    letters: theta is folded into what reads it, so the letter itself travels. block: sub-steps of a step, in which a
    letter of s units leaves as single spikes in the first s; the neuron sums up a block and fires at its end.
    """

    neuron: Neuron
    letters: bool = False
    block: int = 1

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        """The first step after birth."""
        return self.emitted(self.scan(weights, xs[0].unsqueeze(0), None)[0], xs[0].dtype)[0]

    def scan(
        self, weights: Weights, xs: Tensor, memory: Membrane | None, recompute: bool = True
    ) -> tuple[Emission, Membrane]:
        """The letters `[T, N, ...]` and what each is worth, by the first kernel that takes the neuron."""
        tensors = Tensors(**{name: weights[name] for name in Tensors._fields if name in weights})
        if self.block == 1:
            return run(self.neuron, tensors, xs, memory, recompute)
        emission, memory = run(self.neuron, tensors, xs.unflatten(0, (-1, self.block)).sum(1), memory, recompute)
        return self.serial(emission), memory

    def serial(self, emission: Emission) -> Emission:
        """The letters `[T, N, ...]` as spikes of one unit in sub-steps `[T * block, N, ...]`."""
        (letters, worth), unit = emission, self.neuron.alphabet.unit
        spikes = [
            letters.sign() * unit * (letters.abs() > (j + 0.5) * unit).to(letters.dtype) for j in range(self.block)
        ]
        graded = self.neuron.threshold.graded
        return Emission(
            torch.stack(spikes, 1).flatten(0, 1), worth.repeat_interleave(self.block, 0) if graded else worth
        )

    def emitted(self, emission: Emission, dtype: torch.dtype, before: Membrane | None = None) -> Tensor:
        """What the readers receive in a run that began with `before`: letters, or what they are worth."""
        return received(self.neuron, emission, before, self.letters).to(dtype)
