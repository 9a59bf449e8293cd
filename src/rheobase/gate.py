"""May this spike leave? A gate looks at each letter before it goes; what it stops is kept or lost, as `keeps` says."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .membrane import Membrane, Tensors
from .spec import require, spec


class Gate(Protocol):
    """`s' = gate(s, tensors, m, unit)` with the memory from before the step; `unit` is what a letter is worth.

    keeps: whether the charge of what the gate stops stays in the membrane, or the reset takes it as if it had left.
    """

    @property
    def keeps(self) -> bool: ...

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        """The gate's own memory at t = 0."""
        ...

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane, unit: Tensor | float = 1.0) -> Tensor: ...

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        """The gate's own memory after `left` has gone: letters, or charge where letters are graded."""
        ...


@spec
class Open:
    """Every spike leaves."""

    @property
    def keeps(self) -> bool:
        return True

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane, unit: Tensor | float = 1.0) -> Tensor:
        return s

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        return memory


@spec(kw_only=False)
class SentCharge:
    """A negative letter only against charge already sent, so that the sum sent never falls under 0: a signed rectifier.

        s' = max(s, -floor(S / unit)),      S' = S + s' * unit

    What is held back stays in the membrane. letters: those of an alphabet that are not evenly spaced, ascending; then a
    negative letter that is not covered gives way to the largest that is, or to none. Source: [wang2022snm].

    >>> from rheobase import power_of_two
    >>> gate, one = SentCharge(power_of_two(3).letters), torch.ones(())
    >>> m = Membrane(torch.zeros(4), torch.tensor(1), gate=(torch.tensor(0.6),))
    >>> gate(torch.tensor([-1.0, -0.5, -0.25, 1.0]), Tensors(one, one), m)
    tensor([-0.5000, -0.5000, -0.2500,  1.0000])
    """

    letters: tuple[float, ...] = ()

    @property
    def keeps(self) -> bool:
        return True

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(v),)

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane, unit: Tensor | float = 1.0) -> Tensor:
        held = m.gate[0] / unit
        if not self.letters:
            return torch.maximum(s, -torch.floor(held))
        letters = s.new_tensor((0.0, *self.letters))
        back = letters[torch.bucketize(torch.minimum(held, -s).contiguous(), letters[1:], right=True)]
        return torch.where(s < 0, -back, s)

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        return (memory[0] + left,)


@spec
class Wait:
    """Accumulate, then fire: no spike leaves before all T inputs of the run are in, and the letters leave in T steps.

        V = v0 + sum x over all T steps,      sum of letters = clip(floor(V / theta), 0, T * ceiling)

    whatever the order of the input, so no error of unevenness is left. A layer waits for the one before it: the answer
    comes after (layers in a row + 1) T steps, unless runs follow each other in a pipeline, and a run of fewer steps is
    another run, no prefix of this one. Source: parallel inference of [hao2025parallel], our reconstruction.
    """

    @property
    def keeps(self) -> bool:
        return True

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane, unit: Tensor | float = 1.0) -> Tensor:
        return s

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        return memory

    def gathered(self, xs: Tensor) -> Tensor:
        """The drives `[T, N, ...]` as a neuron meets them that waits: all of them at once, then nothing."""
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return torch.cat([total.unsqueeze(0), torch.zeros_like(xs[1:])])


@spec
class SpikeConfidence:
    """MSAT's spike confidence: in the first `steps` steps a spike leaves with probability `tensors.confidence`.

    The reset has happened, so the charge of a stopped spike is lost. The random numbers are a function of
    (tensors.key, t, neuron), the same for every sample: the same net gives a sample the same answer twice, in any
    batch, in one piece or in chunks, on any device. The confidence of a layer is estimated on training data by
    `refine.spike_confidence`; the authors use it in the last spiking layer only and leave the others at 1, as
    `last_only` does. Source: [he2024msat].
    """

    steps: int = 16
    last_only: bool = True

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"SpikeConfidence(steps={self.steps}) never acts", instead="Open()")

    @property
    def keeps(self) -> bool:
        return False

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        return memory

    def __call__(self, s: Tensor, tensors: Tensors, m: Membrane, unit: Tensor | float = 1.0) -> Tensor:
        assert tensors.confidence is not None
        assert tensors.key is not None
        trusted = uniform(tensors.key, m.t, s.shape[1:], s.device) < tensors.confidence
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
