"""The derivative that a threshold is given backward, where its own is 0 or infinite. Forward nothing changes.

A surrogate h is of unit area, even, and takes r, how far the potential lies above a level, in the height of that level
(1, that is theta, for evenly spaced letters). Its integral H is the smoothed step: what training differentiates.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from .alphabet import Alphabet
from .spec import require, spec


class Surrogate(Protocol):
    """What a surrogate must answer, any shape, same dtype."""

    def derivative(self, r: Tensor) -> Tensor:
        """`h(r)`, of area 1."""
        ...

    def integral(self, r: Tensor) -> Tensor:
        """`H(r)`, the integral of h up to r, from 0 to 1: the smoothed step."""
        ...


@spec(kw_only=False)
class Rectangular:
    """`h(r) = 1/a for -a/2 <= r < a/2`. With a = 1 the windows of neighbouring letters tile without gap or overlap.

    Source: the STBP family [wu2018stbp]; that [xu2022mtlif] uses this form and width is our reconstruction.

    >>> Rectangular().derivative(torch.tensor([-0.75, -0.5, 0.0, 0.5])).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    a: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, self.a)

    def derivative(self, r: Tensor) -> Tensor:
        return ((r >= -self.a / 2) & (r < self.a / 2)).to(r.dtype) / self.a

    def integral(self, r: Tensor) -> Tensor:
        return (r / self.a + 0.5).clamp(0, 1)


@spec(kw_only=False)
class Polynomial:
    """`h(r) = max(0, sqrt(a)/2 - (a/4) |r|)`, a triangle over |r| < 2 / sqrt(a).

    Source: the STBP family [wu2018stbp]; that [xu2022mtlif] uses this form is our reconstruction.

    >>> Polynomial().derivative(torch.tensor([-2.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.25]
    """

    a: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, self.a)

    def derivative(self, r: Tensor) -> Tensor:
        return (math.sqrt(self.a) / 2 - self.a / 4 * r.abs()).clamp(min=0)

    def integral(self, r: Tensor) -> Tensor:
        q = (r * math.sqrt(self.a) / 2).clamp(-1, 1)
        return 0.5 + q - q * q.abs() / 2


@spec(kw_only=False)
class Gaussian:
    """`h(r) = exp(-r^2 / 2a) / sqrt(2 pi a)`, a the variance.

    Source: the STBP family [wu2018stbp]; that [xu2022mtlif] uses this form is our reconstruction.

    >>> round(Gaussian(0.5).derivative(torch.tensor(0.0)).item(), 4)
    0.5642
    """

    a: float = 0.5

    def __post_init__(self) -> None:
        _positive(self, self.a)

    def derivative(self, r: Tensor) -> Tensor:
        return torch.exp(r * r / (-2 * self.a)) / math.sqrt(2 * math.pi * self.a)

    def integral(self, r: Tensor) -> Tensor:
        return (1 + torch.erf(r / math.sqrt(2 * self.a))) / 2


@spec(kw_only=False)
class ATan:
    """`h(r) = (alpha/2) / (1 + (pi alpha r / 2)^2)`, the derivative of `atan(pi alpha r / 2) / pi + 1/2`.

    Source: [fang2021plif].

    >>> ATan().derivative(torch.tensor(0.0)).item()
    1.0
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        _positive(self, self.alpha)

    def derivative(self, r: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * r).square())

    def integral(self, r: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * r) / math.pi + 0.5


@spec(kw_only=False)
class Sigmoid:
    """`h(r) = exp(-r/a) / (a (1 + exp(-r/a))^2)`, the derivative of `sigmoid(r / a)`.

    Source: the STBP family [wu2018stbp].

    >>> Sigmoid(0.25).derivative(torch.tensor(0.0)).item()
    1.0
    """

    a: float = 0.25

    def __post_init__(self) -> None:
        _positive(self, self.a)

    def derivative(self, r: Tensor) -> Tensor:
        up = torch.sigmoid(r / self.a)
        return up * (1 - up) / self.a

    def integral(self, r: Tensor) -> Tensor:
        return torch.sigmoid(r / self.a)


def _positive(surrogate: Any, width: float) -> None:
    require(width > 0, f"{surrogate} has no width")


class Compared:
    """One comparison of a step: potentials `r` in units of theta beside the levels of an alphabet.

    attached: gradients also flow through what the reset takes.
    """

    __slots__ = ("alphabet", "attached", "r", "surrogate")

    def __init__(self, r: Tensor, alphabet: Alphabet, surrogate: Surrogate | None, attached: bool) -> None:
        self.r, self.alphabet, self.surrogate, self.attached = r, alphabet, surrogate, attached

    def letters(self) -> Tensor:
        """The letter of each potential; backward the slope of the alphabet under the surrogate."""
        return self._fired(self.alphabet, self.r)

    def reached(self, level: float) -> Tensor:
        """1 where this level is reached, on either side of zero if there are negative letters, else 0."""
        alone = Alphabet(levels=(level,), heights=(1.0,))
        up = self._fired(alone, self.r)
        return up + self._fired(alone, -self.r) if self.alphabet.signed else up

    def _fired(self, alphabet: Alphabet, r: Tensor) -> Tensor:
        if self.surrogate is None:
            return alphabet.fire(r)
        return _Fire.apply(r, alphabet, self.surrogate, self.attached)  # type: ignore[no-any-return]


class _Fire(torch.autograd.Function):
    """Forward `alphabet.fire(r)`, bit for bit; backward its slope with the surrogate in the place of each step."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, alphabet: Alphabet, surrogate: Surrogate, attached: bool) -> Tensor:
        ctx.save_for_backward(r)
        ctx.parts = alphabet, surrogate, attached
        return alphabet.fire(r)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (r,), (alphabet, surrogate, attached) = ctx.saved_tensors, ctx.parts
        if alphabet.uniform and not alphabet.signed and surrogate == Rectangular():
            inside = (r >= 0.5) & (r < alphabet.ceiling + 0.5)  # the windows tile: the sum is one comparison
            return grads[0] * inside, None, None, None
        return grads[0] * alphabet.slope(r, surrogate.derivative, attached), None, None, None
