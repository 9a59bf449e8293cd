"""Neurons of other papers that are one setting away: MLF, LM-HT, I-LIF, ternary spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .alphabet import Alphabet, burst, ternary
from .layers import Population
from .leak import Leak
from .membrane import Membrane
from .neuron import Neuron
from .recompute import run
from .reset import Reset, Subtract, ToValue
from .spec import require
from .surrogate import Rectangular, Surrogate


class LMHT(Population):
    """Several equidistant thresholds V, 2V, ..., `levels` V over one membrane, its reset detached: LM-HT.

    From v in [0, V) without a leak a step is `levels` steps of the IF neuron at a `levels`-th of the drive: the lemma
    that `rheobase.lower` does not need. The learned mixing of time steps and the learned leak of the source are left
    out. Source: [hao2024lmht].

    >>> LMHT(2)(torch.tensor([[[1.5, 2.5, 9.0]]]))[0].tolist()
    [[[1.0, 2.0, 2.0]]]
    """

    def __init__(
        self,
        levels: int = 2,
        threshold: float = 1.0,
        leak: float = 1.0,
        *,
        surrogate: Surrogate | None = Rectangular(),
        reset: Reset = Subtract(detach=True),
        **options: Any,
    ) -> None:
        neuron = Neuron(alphabet=burst(levels), leak=Leak(leak), reset=reset, surrogate=surrogate)
        super().__init__(neuron, threshold=threshold, **options)


class ILIF(Population):
    """Trained with whole numbers `s = clip(floor(u + 1/2), 0, levels)`, run on binary steps by `rheobase.lower`: I-LIF.

    In units of the threshold; what is rounded up is owed, `v = u - s` may be negative. Source: [luo2024ilif], the
    update equations our reconstruction.

    >>> ys, memory = ILIF(4)(torch.tensor([[[0.25, 0.75, 2.5, 9.0]]]))
    >>> ys.tolist(), memory.v.tolist()
    ([[[0.0, 1.0, 3.0, 4.0]]], [[0.25, -0.25, -0.5, 5.0]])
    """

    def __init__(
        self,
        levels: int = 4,
        threshold: float = 1.0,
        leak: float = 0.25,
        *,
        surrogate: Surrogate | None = Rectangular(),
        reset: Reset = Subtract(),
        **options: Any,
    ) -> None:
        require(levels >= 1, f"levels={levels} leaves no threshold")
        rounding = Alphabet(levels=tuple(k + 0.5 for k in range(levels)), heights=(1.0,) * levels)
        neuron = Neuron(alphabet=rounding, leak=Leak(leak), reset=reset, surrogate=surrogate)
        super().__init__(neuron, threshold=threshold, **options)


class TernarySpike(nn.Module):
    """Spikes of -a, 0 and a, with a learned for the layer: `y = a s`, while the threshold stays.

    a folds into the weights that read the spikes, `rheobase.folded`, so that what travels is -1, 0 or 1. Hard reset.
    Source: [guo2024ternary], the update equations our reconstruction.

    >>> TernarySpike(amplitude=0.5)(torch.tensor([[[-1.5, 0.5, 1.0]]]))[0].tolist()
    [[[-0.5, 0.0, 0.5]]]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        leak: float = 0.25,
        *,
        amplitude: float = 1.0,
        surrogate: Surrogate | None = Rectangular(),
        reset: Reset = ToValue(0.0),
        **options: Any,
    ) -> None:
        super().__init__()
        neuron = Neuron(alphabet=ternary, leak=Leak(leak), reset=reset, surrogate=surrogate)
        self.spikes = Population(neuron, threshold=threshold, **options)
        self.amplitude = nn.Parameter(torch.tensor(float(amplitude)))

    def forward(self, xs: Tensor, memory: Membrane | None = None) -> tuple[Tensor, Membrane]:
        letters, memory = _letters(self.spikes, xs, memory)
        return letters * self.amplitude, memory

    def first(self, x: Tensor) -> Tensor:
        """The emission of the first step after birth, `[N, ...]`."""
        return self(x.unsqueeze(0))[0].squeeze(0)


class MLF(nn.Module):
    """A neuron of several units with a membrane and a threshold each, `s = sum_k s_k`: multi-level firing.

    Every unit gets the same drive, leaks by `leak`, sends 1 and is reset to 0 alone; it is not a neuron of several
    thresholds. The window of the surrogate is 1 wide in the unit of the drive. Source: [feng2022mlf].

    >>> ys, memories = MLF()(torch.tensor([[[0.5, 1.0, 2.0, 9.0]]]))
    >>> ys.tolist(), len(memories)
    ([[[0.0, 1.0, 2.0, 3.0]]], 3)
    """

    def __init__(self, thresholds: tuple[float, ...] = (0.6, 1.6, 2.6), leak: float = 0.25, **options: Any) -> None:
        super().__init__()
        require(len(thresholds) > 0, "MLF needs a threshold")
        self.units = nn.ModuleList(
            Population(
                Neuron(leak=Leak(leak), reset=ToValue(0.0), surrogate=Rectangular(1 / v)), threshold=v, **options
            )
            for v in thresholds
        )

    def forward(self, xs: Tensor, memory: tuple[Membrane, ...] | None = None) -> tuple[Tensor, tuple[Membrane, ...]]:
        memories = [None] * len(self.units) if memory is None else memory
        ran = [_letters(unit, xs, m) for unit, m in zip(self.units, memories, strict=True)]
        return torch.stack([letters for letters, _ in ran]).sum(0), tuple(m for _, m in ran)

    def first(self, x: Tensor) -> Tensor:
        """The emission of the first step after birth, `[N, ...]`."""
        return self(x.unsqueeze(0))[0].squeeze(0)


def _letters(layer: Any, xs: Tensor, memory: Membrane | None) -> tuple[Tensor, Membrane]:
    """The letters of a layer, whatever they are worth."""
    emission, memory = run(layer.neuron, layer.tensors, xs, memory, layer.recompute)
    return emission.letters.to(xs.dtype), memory


SPIKING = (Population, TernarySpike, MLF)
"""The modules that stand for neurons while a network is read: `layer.first(x)` is what stands for their answer."""
