"""Which letters exist: a table of levels (where a letter starts, in units of theta) and heights (what it adds)."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate, pairwise

from torch import Tensor

from .spec import require, spec


@spec
class Alphabet:
    """`fire(r) = sum_k height_k * H(r - level_k)`, H(0) = 1, for a potential r in units of theta.

    levels: strictly ascending and positive. heights: as many, positive. signed: negative letters exist, mirrored:
    `fire(-r) = -fire(r)`. floor: the negative letters of a `signed` alphabet are instead the fewest that bring the
    potential back to 0 or above; with levels 1, 2, ... letters then are floor(r), and charge that came too early is
    taken back at once. Source of both: signed neurons [wang2022snm], exact with the floor [you2024spikezip].

    >>> import torch
    >>> burst(3).fire(torch.tensor([-0.5, 0.5, 1.0, 2.75, 9.0]))
    tensor([0., 0., 1., 2., 3.])
    >>> signed(2).fire(torch.tensor([-9.0, -1.0, -0.5, 2.0]))
    tensor([-2., -1., -0.,  2.])
    >>> signed(2, floor=True).fire(torch.tensor([-1.5, -0.5, 0.0]))
    tensor([-2., -1.,  0.])
    """

    levels: tuple[float, ...]
    heights: tuple[float, ...]
    signed: bool = False
    floor: bool = False

    def __post_init__(self) -> None:
        require(len(self.levels) > 0, "an alphabet needs at least one level")
        require(len(self.levels) == len(self.heights), "an alphabet needs one height for each level")
        ascending = all(a < b for a, b in zip((0.0, *self.levels), self.levels, strict=False))
        require(ascending, f"levels must be positive and ascending, got {self.levels}")
        require(all(h > 0 for h in self.heights), f"heights must be positive, got {self.heights}")
        require(self.signed or not self.floor, "floor says how negative letters leave", instead="signed=True")

    def __repr__(self) -> str:
        if not self.uniform:
            flags = "".join(f", {name}=True" for name in ("signed", "floor") if getattr(self, name))
            return f"Alphabet(levels={self.levels}, heights={self.heights}{flags})"
        k = len(self.levels)
        return f"signed({k}{', floor=True' if self.floor else ''})" if self.signed else f"burst({k})"

    @property
    def uniform(self) -> bool:
        """Whether the letters are 0, 1, ..., k at the levels 1, ..., k."""
        return self.levels == tuple(range(1, len(self.levels) + 1)) and set(self.heights) == {1.0}

    @property
    def letters(self) -> tuple[float, ...]:
        """Every letter above 0, ascending, in units of theta."""
        return tuple(accumulate(self.heights))

    @property
    def unit(self) -> float:
        """The largest number of which every letter is a whole multiple: lowered, a letter is `letter / unit` spikes."""
        parts = [Fraction(height).limit_denominator(2**20) for height in self.heights]
        common = math.lcm(*(part.denominator for part in parts))
        return math.gcd(*(int(part * common) for part in parts)) / common

    @property
    def ceiling(self) -> float:
        """The largest letter: the most that can leave in one step, in units of theta."""
        return sum(self.heights)

    def fire(self, r: Tensor) -> Tensor:
        """The letter of each potential `r`, any shape, same dtype."""
        if self.uniform and not self.signed:
            return r.floor().clamp_(0, len(self.levels))  # the same table in two passes
        if self.uniform:
            return (r.floor() if self.floor else r.trunc()).clamp_(-len(self.levels), len(self.levels))
        letters, back = r.new_zeros(r.shape), 0.0
        for level, height in zip(self.levels, self.heights, strict=True):
            letters = letters + height * (r >= level).to(r.dtype)
            if self.signed:
                negative = -r > back if self.floor else -r >= level
                letters = letters - height * negative.to(r.dtype)
            back += height
        return letters


def burst(k: int) -> Alphabet:
    """0, 1, ..., k spikes in one step. Source: burst spikes [li2022burst]; MT-LIF uses the same table."""
    require(k >= 1, f"burst({k}) has no letter", instead="burst(1) is the binary neuron")
    return Alphabet(levels=tuple(float(i) for i in range(1, k + 1)), heights=(1.0,) * k)


def signed(k: int, *, floor: bool = False) -> Alphabet:
    """-k, ..., 0, ..., k. As `burst(k)` and mirrored, or floored: see `Alphabet`."""
    up = burst(k)
    return Alphabet(levels=up.levels, heights=up.heights, signed=True, floor=floor)


def digits(n: int) -> Alphabet:
    """n binary digits in one step: the letters 0, 1, ..., 2^n - 1, the same as `burst(2^n - 1)`."""
    require(1 <= n <= 10, f"digits({n}) must lie in 1..10")
    return burst(2**n - 1)


def power_of_two(n: int) -> Alphabet:
    """One event of either sign worth 2^-i of theta, i = 0 .. n - 1, or none: +-1, +-1/2, ..., +-2^(1-n), 0.

    The cut to a letter lies at 3/4 of it, half way to the next smaller, so the letter rounds and v0 is 0. A message is
    a sign and an exponent, a synaptic operation a shift and an addition. Lowered it is `letter / unit` binary spikes
    of theta 2^(1-n). Source: the multi-threshold neuron of [huang2025differential].

    >>> import torch
    >>> power_of_two(3).fire(torch.tensor([-0.8, -0.2, 0.1, 0.1875, 0.375, 0.74, 5.0]))
    tensor([-1.0000, -0.2500,  0.0000,  0.2500,  0.5000,  0.5000,  1.0000])
    >>> power_of_two(3).letters, power_of_two(3).unit
    ((0.25, 0.5, 1.0), 0.25)
    """
    require(1 <= n <= 10, f"power_of_two({n}) must lie in 1..10")
    letters = [2.0 ** (i + 1 - n) for i in range(n)]
    heights = tuple(b - a for a, b in pairwise([0.0, *letters]))
    return Alphabet(levels=tuple(0.75 * letter for letter in letters), heights=heights, signed=True)


binary = burst(1)
ternary = signed(1)
