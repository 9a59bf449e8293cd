"""How the threshold moves. A rule is asked once a step for theta, and told once a step what remained.

A rule is any spec with the four members of `Threshold` below; nothing is registered, nothing inherited.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .membrane import Membrane
from .spec import require, spec


class Threshold(Protocol):
    """What a threshold rule must answer."""

    @property
    def graded(self) -> bool:
        """True if a spike carries a payload that changes in time, so that theta cannot fold into weights."""
        ...

    def saturation(self, ceiling: float) -> float:
        """What leaves per step under a large constant drive, in units of theta0, if `ceiling` letters may leave."""
        ...

    def rest(self, theta0: Tensor) -> Tensor:
        """The threshold of a neuron that nothing drives, the least of a schedule: what `Half` is half of."""
        ...

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        """The rule's own memory at t = 0."""
        ...

    def theta(self, theta0: Tensor, x: Tensor, m: Membrane) -> Tensor:
        """The threshold of this step, from the base, this step's drive and the memory of the last step."""
        ...

    def amplitude(self, theta0: Tensor, theta: Tensor) -> Tensor:
        """What one letter is worth to the next layer."""
        ...

    def remember(self, memory: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, ...]:
        """The rule's own memory after the reset left `v`."""
        ...


@spec(kw_only=False)
class Fixed:
    """`theta = gain * theta0`. `Fixed(0.5)` is the constant half of the maximum that MSAT's authors compare with."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        require(self.gain > 0, f"Fixed(gain={self.gain}) never lets a neuron rest", why="gain must be positive")

    @property
    def graded(self) -> bool:
        return False

    def saturation(self, ceiling: float) -> float:
        return self.gain * ceiling

    def rest(self, theta0: Tensor) -> Tensor:
        return theta0 if self.gain == 1.0 else self.gain * theta0

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def theta(self, theta0: Tensor, x: Tensor, m: Membrane) -> Tensor:
        return self.rest(theta0)

    def amplitude(self, theta0: Tensor, theta: Tensor) -> Tensor:
        return theta

    def remember(self, memory: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, ...]:
        return memory


@spec
class MSAT:
    """The multi-stage adaptive threshold: membrane potential (MP) and rate of depolarisation (RD).

        t = 0:   theta = theta0
        t >= 1:  d     = v(t-1) - mean(v(0..t-1))
                 MP    = tau_mp * (alpha * d - theta0 + k_a * ln(1 + exp(d / k_i)))
                 RD    = tau_rd * exp(-x(t) / C)
                 theta = theta0 * sigmoid(MP + RD)

    Spikes are graded: a letter is worth the theta of its step. A stage with tau 0 is off. The constants are absolute,
    in the unit of the activation; `normalised=True` divides v, x and theta0 by theta0 first, the law of the BrainCog
    port, which is another law with the same constants. `guard`: theta never falls under guard * theta0, because the
    source's law underflows to 0 and then divides 0 by 0 for theta0 above about 90. (A guard of 1e-3 already changes the
    authors' own runs, whose thresholds fall below a thousandth of theta0.)

    The abstract says that theta is positively correlated with the average membrane potential; in the authors' code,
    which made their numbers and which this follows, theta falls when the average rises. Source: [he2024msat].
    """

    alpha: float = 0.03
    k_a: float = 1.0
    k_i: float = 1.0
    C: float = 5.0
    tau_mp: float = 1.0
    tau_rd: float = 1.0
    normalised: bool = False
    guard: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("alpha", "k_a", "tau_mp", "tau_rd"):
            require(getattr(self, name) >= 0, f"MSAT({name}={getattr(self, name)}) must not be negative")
        for name in ("k_i", "C"):
            require(getattr(self, name) > 0, f"MSAT({name}={getattr(self, name)}) must be positive")
        require(0 < self.guard < 1, f"MSAT(guard={self.guard}) must lie between 0 and 1")
        require(
            self.tau_mp > 0 or self.tau_rd > 0, "MSAT has both stages off", instead="Fixed() is the neuron without them"
        )

    @property
    def graded(self) -> bool:
        return True

    def saturation(self, ceiling: float) -> float:
        return ceiling

    def rest(self, theta0: Tensor) -> Tensor:
        return theta0

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(v),) if self.tau_mp else ()

    def theta(self, theta0: Tensor, x: Tensor, m: Membrane) -> Tensor:
        unit = theta0 if self.normalised else torch.ones_like(theta0)
        stages = torch.zeros_like(x)
        if self.tau_mp:
            d = (m.v - m.threshold[0] / m.t.clamp(min=1)) / unit
            stages = self.tau_mp * (self.alpha * d - theta0 / unit + self.k_a * softplus(d / self.k_i))
        if self.tau_rd:
            stages = stages + self.tau_rd * torch.exp(-x / unit / self.C)
        theta = theta0 * torch.sigmoid(stages).clamp(min=self.guard)
        return torch.where(m.t == 0, theta0, theta)

    def amplitude(self, theta0: Tensor, theta: Tensor) -> Tensor:
        return theta

    def remember(self, memory: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, ...]:
        return tuple(total + v for total in memory)


MSAT_VGG16 = MSAT()
"""The authors' constants for VGG-16 on CIFAR-10 and CIFAR-100."""
MSAT_RESNET20 = MSAT(alpha=0.3, tau_mp=0.5, tau_rd=0.5)
"""The authors' constants for their ResNet-20 on CIFAR-100 and in groups 1 and 3 on CIFAR-10."""
MSAT_RESNET20_CIFAR10 = MSAT(alpha=0.3, tau_mp=0.2, tau_rd=0.1)
"""The authors' constants for their ResNet-20 on CIFAR-10, group 2, their best."""


class Inverse(Protocol):
    """g of DTIF: falls from 1 as the drive q, in units of theta0, grows."""

    def __call__(self, q: Tensor) -> Tensor: ...


@spec(kw_only=False)
class Reciprocal:
    """`g(q) = 1 / (1 + beta * q)`."""

    beta: float = 4.0

    def __call__(self, q: Tensor) -> Tensor:
        return 1 / (1 + self.beta * q)


@spec(kw_only=False)
class Exponential:
    """`g(q) = exp(-beta * q)`."""

    beta: float = 4.0

    def __call__(self, q: Tensor) -> Tensor:
        return torch.exp(-self.beta * q)


@spec(kw_only=False)
class Ramp:
    """`g(q) = max(0, 1 - beta * q)`."""

    beta: float = 4.0

    def __call__(self, q: Tensor) -> Tensor:
        return (1 - self.beta * q).clamp(min=0)


@spec
class DTIF:
    """DTIF-style threshold, inversely related to the drive: **our reconstruction**, the source's formula is closed.

        q     = max(x, 0) / theta0
        theta = theta0 * max(rho, g(q)),        g = Reciprocal, Exponential or Ramp

    What is known of the source [wu2023dtif] is its abstract: an IF neuron whose threshold is inversely related to its
    input, recomputed at each step. Everything else here is ours. Let ceiling * rho >= 1 (`burst(5)` at rho 0.2), or
    drives near theta0 cannot be carried. `graded=True`: a letter is worth theta, so that charge is conserved.
    `graded=False`: worth theta0, the binary message; its bias does not vanish with T, so it is an ablation.
    """

    inverse: Reciprocal | Exponential | Ramp = Reciprocal()
    rho: float = 0.2
    graded: bool = True

    def __post_init__(self) -> None:
        require(self.inverse.beta >= 0, f"DTIF with beta={self.inverse.beta} is not an inverse relation")
        require(0 < self.rho <= 1, f"DTIF(rho={self.rho}) must lie in (0, 1]")

    def saturation(self, ceiling: float) -> float:
        return ceiling * (self.rho if self.graded else 1.0)

    def rest(self, theta0: Tensor) -> Tensor:
        return theta0

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def theta(self, theta0: Tensor, x: Tensor, m: Membrane) -> Tensor:
        return theta0 * self.inverse(x.clamp(min=0) / theta0).clamp(min=self.rho)

    def amplitude(self, theta0: Tensor, theta: Tensor) -> Tensor:
        return theta if self.graded else theta0

    def remember(self, memory: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, ...]:
        return memory


@spec
class Radix:
    """A threshold that falls from step to step by a factor, so that T letters are the T digits of one number:

        theta(t) = theta0 * T (B - 1) B^(T - 1 - t) / (B^T - 1),      t = 0 .. T - 1,  B = base

    with letters up to B - 1 and `Wait`, the highest digit first: B^T levels in T steps, against T (B - 1) + 1 of a
    rate. theta0 means what it means for a rate: the largest mean of a step is (B - 1) theta0. A letter is worth the
    theta of its step, which every reader knows from the clock; on a chip a reader multiplies its sum by B after each
    step, a shift. Source: radix encoding [wang2024radix]; B = 2 is the phase code of weighted spikes
    [kim2018weighted]. Our reconstruction: they train or convert by rules of their own.

    >>> (7 * Radix(steps=3).slots(torch.zeros(3))).tolist()
    [12.0, 6.0, 3.0]
    """

    steps: int
    base: int = 2

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Radix(steps={self.steps}) has no digit")
        two = self.base >= 2 and self.base & (self.base - 1) == 0
        require(two, f"Radix(base={self.base}) must be a power of two", why="a digit then is a whole number of bits")
        exact = f"{self} has more levels than float32 can tell apart"
        require(self.levels < 2**24, exact, instead=f"at most {24 // (self.base.bit_length() - 1)} steps")

    @property
    def levels(self) -> int:
        """How many levels above 0 the digits count."""
        return self.base**self.steps - 1

    @property
    def graded(self) -> bool:
        return True

    def saturation(self, ceiling: float) -> float:
        return ceiling

    def rest(self, theta0: Tensor) -> Tensor:
        return theta0 * (self.steps * (self.base - 1) / self.levels)

    def worth(self, t: Tensor) -> Tensor:
        """What a letter of step t is worth, in units of the last step's: `B^(T - 1 - t)`, float64, exact."""
        return self.base ** (self.steps - 1 - t).double()

    def slots(self, ys: Tensor) -> Tensor:
        """What a letter is worth at each step, or sub-step, of a run `ys` `[T, N, ...]`, in units of theta0."""
        gains = self.gains.to(ys).repeat_interleave(len(ys) // self.steps)
        return gains.reshape(-1, *(1,) * (ys.ndim - 1))

    @property
    def gains(self) -> Tensor:
        """theta of each step in units of theta0, `[T]`, float32: the last one, times exact powers of the base."""
        return self.rest(torch.ones(())) * self.worth(torch.arange(self.steps)).float()

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def theta(self, theta0: Tensor, x: Tensor, m: Membrane) -> Tensor:
        return self.rest(theta0) * self.worth(m.t).to(theta0.dtype)

    def amplitude(self, theta0: Tensor, theta: Tensor) -> Tensor:
        return theta

    def remember(self, memory: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, ...]:
        return memory
