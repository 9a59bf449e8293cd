"""The two kinds of tensors of a neuron: what is calibrated or learned, and what it remembers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tensors(NamedTuple):
    """Calibrated or learned; in `state_dict`. Each broadcasts against one step's drive `[N, ...]`.

    theta0: base threshold, > 0, in the unit of the source activation.
    v0: initial potential, same unit.
    confidence: probability that an early spike is trusted, in [0, 1]; only with `SpikeConfidence`.
    key: int64 scalar that seeds the neuron's own random numbers; only with `SpikeConfidence`.
    bias: correction added to the drive of step t, `[steps, ...]`, same unit; nothing is added after its last row.
    leak: what a leak has learned, one scalar a layer; only with `LearnedDecay`.
    """

    theta0: Tensor
    v0: Tensor
    confidence: Tensor | None = None
    key: Tensor | None = None
    bias: Tensor | None = None
    leak: Tensor | None = None

    def corrected(self, xs: Tensor, t: Tensor) -> Tensor:
        """Drives `[T, N, ...]` of the steps from t on, with the bias of their steps."""
        if self.bias is None or int(t) >= len(self.bias):
            return xs
        rows = self.bias[int(t) : int(t) + len(xs)].to(xs.dtype)
        rows = rows.reshape(len(rows), *(1,) * (xs.ndim - rows.ndim), *rows.shape[1:])
        if len(rows) == len(xs):
            return xs + rows
        return torch.cat([xs[: len(rows)] + rows, xs[len(rows) :]])


class Membrane(NamedTuple):
    """Memory: born at t = 0, carried by the caller, never a buffer and never saved.

    v: potential after the last reset `[N, ...]`, at least float32.
    t: steps done so far, int64 scalar on the CPU, so that no device is waited for where the step matters.
    threshold: what the threshold rule itself remembers (MSAT: the sum of v).
    gate: what the gate itself remembers (SentCharge: the sum of what left).
    link: what the link itself remembers (Differential: the mean of what its readers received).
    """

    v: Tensor
    t: Tensor
    threshold: tuple[Tensor, ...] = ()
    gate: tuple[Tensor, ...] = ()
    link: tuple[Tensor, ...] = ()


def differentiated(xs: Tensor, tensors: Tensors, m: Membrane | None) -> bool:
    """Whether a gradient may be asked for of a run with these drives, tensors and memory."""
    given = (xs, *tensors, *(() if m is None else (m.v, *m.threshold, *m.gate, *m.link)))
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
