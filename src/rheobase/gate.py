"""May this spike leave? A gate looks at the letter after the reset; what it stops is lost to the next layer."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .membrane import Membrane, Tensors
from .spec import require, spec


class Gate(Protocol):
    """`s' = gate(s, tensors, m)` with the memory from before the step."""

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane) -> Tensor: ...


@spec
class Open:
    """Every spike leaves."""

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane) -> Tensor:
        return s


@spec
class SpikeConfidence:
    """MSAT's spike confidence: in the first `steps` steps a spike leaves with probability `tensors.confidence`.

    The reset has happened, so the charge of a stopped spike is lost. The random numbers are a function of
    (tensors.key, t, position): the same net gives the same answer twice, in one piece or in chunks, on any device.
    The confidence of a layer is estimated on training data by `refine.spike_confidence`; the authors use it in the last
    spiking layer only and leave the others at 1, as `last_only` does. Source: [he2024msat].
    """

    steps: int = 16
    last_only: bool = True

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"SpikeConfidence(steps={self.steps}) never acts", instead="Open()")

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane) -> Tensor:
        assert tensors.confidence is not None
        assert tensors.key is not None
        trusted = uniform(tensors.key, m.t, s.shape, s.device) < tensors.confidence
        return s * (trusted | (m.t >= self.steps)).to(s.dtype)


def uniform(key: Tensor, t: Tensor, shape: torch.Size, device: torch.device) -> Tensor:
    """Numbers in [0, 1) with 24 bits, float32 `shape`, that depend on nothing but (key, t, position).

    A counter through the finaliser of SplitMix64 in wrapping int64 arithmetic. Source: [steele2014splitmix].
    """
    position = torch.arange(shape.numel(), device=device).reshape(shape)
    z = (position + 1) * _signed(0x9E3779B97F4A7C15) + (t + 1) * _signed(0xD1B54A32D192ED03) + key
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return _shift(z ^ _shift(z, 31), 40).to(torch.float32) * 2.0**-24


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _shift(z: Tensor, n: int) -> Tensor:
    """Logical shift to the right of int64."""
    return (z >> n) & ((1 << (64 - n)) - 1)
