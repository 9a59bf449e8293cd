"""Neurons as modules, to write a network for direct training with: IF, LIF, PLIF, MultiThresholdLIF and relatives.

Called directly a layer is the law, `ys, memory = layer(xs, memory)`. Within a network it stands where an activation
would, and `rheobase.spiking(module, example)` reads the network; there is no hidden state and no time loop to write.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .alphabet import Alphabet, cascade, parallel
from .leak import Charge, Leak, LearnedDecay
from .membrane import Membrane, Tensors
from .neuron import Neuron, received
from .recompute import run
from .reset import Reset, Subtract, ToValue
from .spec import nearest, require
from .surrogate import ATan, Rectangular, Surrogate


class Population(nn.Module):
    """A layer of any neuron: `ys, memory = layer(xs, memory)`, drives `[T, N, ...]` to emissions of the same shape.

    threshold: theta0, in the unit of the drives, one for all neurons. start: the initial potential v0, same unit.
    learn_threshold: theta0 is learned too, as `threshold * exp(theta0_exponent)`, so it stays positive. recompute: see
    `rheobase.recompute`. A learned leak is the parameter `leak`. The neuron needs a surrogate to be trained.

    >>> from rheobase import burst
    >>> layer = Population(Neuron(alphabet=burst(2), surrogate=Rectangular()), threshold=0.5)
    >>> ys, memory = layer(torch.tensor([[0.25], [1.0], [0.0]]))
    >>> ys.flatten().tolist(), memory.v.item()
    ([0.0, 1.0, 0.0], 0.25)
    """

    theta0: Tensor
    v0: Tensor

    def __init__(
        self,
        neuron: Neuron,
        *,
        threshold: float = 1.0,
        start: float = 0.0,
        learn_threshold: bool = False,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        require(threshold > 0, f"threshold={threshold} must be positive")
        self.neuron, self.recompute, self.learn_threshold = neuron, recompute, learn_threshold
        self.register_buffer("theta0", torch.tensor(float(threshold)))
        self.register_buffer("v0", torch.tensor(float(start)))
        if learn_threshold:
            self.theta0_exponent = nn.Parameter(torch.zeros(()))
        if neuron.leak.learned is not None:
            self.leak = nn.Parameter(torch.tensor(neuron.leak.learned))

    def held(self) -> dict[str, Tensor]:
        """Its own tensors by name, as a network holds them."""
        return {**self._parameters, **self._buffers}  # type: ignore[dict-item]

    @property
    def tensors(self) -> Tensors:
        """Its tensors as the law takes them."""
        theta0 = self.theta0 * self.theta0_exponent.exp() if self.learn_threshold else self.theta0
        return Tensors(theta0, self.v0, leak=None if self.neuron.leak.learned is None else self.leak)

    def forward(self, xs: Tensor, memory: Membrane | None = None) -> tuple[Tensor, Membrane]:
        emission, after = run(self.neuron, self.tensors, xs, memory, self.recompute)
        return received(self.neuron, emission, memory).to(xs.dtype), after

    def first(self, x: Tensor) -> Tensor:
        """The emission of the first step after birth, `[N, ...]`: what stands for the layer while a network is read."""
        return self(x.unsqueeze(0))[0].squeeze(0)

    def extra_repr(self) -> str:
        return f"{self.neuron}, threshold={self.theta0.item():.6g}"


class MultiThresholdLIF(Population):
    """A neuron with several thresholds: `threshold` in `levels` parts d, and what it emits is what it removes.

        equal ladder     d_i = threshold / levels        letters 0, d, ..., levels d
        binary ladder    d_i = threshold / 2^i           cascade: all multiples of the smallest part below threshold

    mode: "parallel", every comparator looks at the same potential; "cascade", each at what the one before left. With an
    equal ladder and `Subtract` both are one neuron. With `ToValue` a cascade is emptied by the first comparator that
    fires. leak: beta, or any leak (`LearnedDecay()` is PLIF). reset: `Subtract` or `ToValue`, attached or detached.
    surrogate: of each comparator, in units of its part. levels=1 is the LIF neuron.

    Source: [wang2023mtsnn]; the update equations are our reconstruction. `mt_lif` is the neuron of [xu2022mtlif].

    >>> ys, memory = MultiThresholdLIF(levels=4)(torch.tensor([[[0.3, 0.6, 2.0]]]))
    >>> ys.tolist(), memory.v.tolist()
    ([[[0.25, 0.5, 1.0]]], [[0.050000011920928955, 0.10000002384185791, 1.0]])
    """

    def __init__(
        self,
        levels: int = 4,
        threshold: float = 1.0,
        leak: float | Charge = 1.0,
        mode: str = "parallel",
        surrogate: Surrogate | None = Rectangular(),
        *,
        ladder: str = "equal",
        reset: Reset = Subtract(),
        start: float = 0.0,
        learn_threshold: bool = False,
        recompute: bool = True,
    ) -> None:
        require(levels >= 1, f"levels={levels} leaves no threshold")
        parts = levels if nearest(ladder, ("equal", "binary"), "ladder") == "equal" else 2**levels
        neuron = Neuron(
            alphabet=_letters(mode, levels, ladder, reset), reset=reset, leak=_leak(leak), surrogate=surrogate
        )
        super().__init__(
            neuron, threshold=threshold / parts, start=start, learn_threshold=learn_threshold, recompute=recompute
        )

    @classmethod
    def mt_lif(cls, k: int = 4, threshold: float = 1.0, leak: float = 0.5, **options: Any) -> MultiThresholdLIF:
        """K thresholds V, 2V, ..., KV above each other, V = `threshold`: [xu2022mtlif], our reconstruction.

        >>> MultiThresholdLIF.mt_lif(3, leak=1.0)(torch.tensor([[[0.5, 2.5, 9.0]]]))[0].tolist()
        [[[0.0, 2.0, 3.0]]]
        """
        return cls(k, k * threshold, leak, **options)


def _letters(mode: str, levels: int, ladder: str, reset: Reset) -> Alphabet:
    if nearest(mode, ("parallel", "cascade"), "mode") == "parallel":
        return parallel(levels, ladder)
    hard = isinstance(reset, ToValue)
    require(
        not isinstance(reset, ToValue) or reset.at == "first",
        "a cascade is emptied by the first comparator that fires, so it knows no reset at the full threshold",
        instead='ToValue(at="first"), or mode="parallel"',
    )
    return cascade(levels, ladder, hard=hard)


def _leak(leak: float | Charge) -> Charge:
    return Leak(float(leak)) if isinstance(leak, (int, float)) else leak


class IF(Population):
    """The integrate-and-fire neuron: `u = v + x`, one threshold.

    >>> IF()(torch.tensor([[[0.75]], [[0.75]]]))[0].flatten().tolist()
    [0.0, 1.0]
    """

    def __init__(
        self, threshold: float = 1.0, *, surrogate: Surrogate | None = ATan(), reset: Reset = Subtract(), **options: Any
    ) -> None:
        super().__init__(Neuron(reset=reset, surrogate=surrogate), threshold=threshold, **options)


class LIF(Population):
    """The leaky integrate-and-fire neuron: `u = leak * v + x`, one threshold; leak: beta, or any leak.

    >>> LIF(leak=0.5)(torch.tensor([[[0.75]], [[0.75]]]))[0].flatten().tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        leak: float | Charge = 0.5,
        *,
        surrogate: Surrogate | None = ATan(),
        reset: Reset = Subtract(),
        **options: Any,
    ) -> None:
        super().__init__(Neuron(reset=reset, leak=_leak(leak), surrogate=surrogate), threshold=threshold, **options)


class PLIF(Population):
    """The LIF neuron whose time constant is learned, one a layer: `u = v + sigmoid(w) (x - v)`. Source: [fang2021plif].

    tau: where w starts, 1 / tau = sigmoid(w).

    >>> PLIF(tau=2.0)(torch.tensor([[[1.5]], [[1.5]]]))[0].flatten().tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        tau: float = 2.0,
        *,
        surrogate: Surrogate | None = ATan(),
        reset: Reset = Subtract(),
        **options: Any,
    ) -> None:
        super().__init__(
            Neuron(reset=reset, leak=LearnedDecay(tau), surrogate=surrogate), threshold=threshold, **options
        )
