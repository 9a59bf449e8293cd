"""Which letters exist: a table of levels (where a letter starts, in units of theta) and heights (what it adds)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import accumulate, pairwise, product

import torch
from torch import Tensor

from .lloyd import lloyd
from .spec import nearest, require, spec


@spec
class Alphabet:
    """`fire(r) = sum_k height_k * H(r - level_k)`, H(0) = 1, for a potential r in units of theta.

    levels: strictly ascending and positive. heights: as many, positive. signed: negative letters exist, mirrored:
    `fire(-r) = -fire(r)`. floor: the negative letters of a `signed` alphabet are instead the fewest that bring the
    potential back to 0 or above; with levels 1, 2, ... letters then are floor(r), and charge that came too early is
    taken back at once. Source of both: signed neurons [wang2022snm], exact with the floor [you2024spikezip].
    greedy: a cascade. The levels are asked from the largest down, each of what those before it left, and a level takes
    what it adds: `s_k = H(R - level_k), R' = R - level_k s_k`. Levels may then repeat.

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
    greedy: bool = False

    def __post_init__(self) -> None:
        require(len(self.levels) > 0, "an alphabet needs at least one level")
        require(len(self.levels) == len(self.heights), "an alphabet needs one height for each level")
        steps = [b - a for a, b in zip((0.0, *self.levels), self.levels, strict=False)]
        ascending = all(d > 0 or (self.greedy and d == 0) for d in steps) and self.levels[0] > 0
        require(ascending, f"levels must be positive and ascending, got {self.levels}")
        require(all(h > 0 for h in self.heights), f"heights must be positive, got {self.heights}")
        require(self.signed or not self.floor, "floor says how negative letters leave", instead="signed=True")
        require(not (self.greedy and self.signed), "a cascade of negative letters is not defined", instead="signed(k)")
        taken = not self.greedy or self.levels == self.heights
        require(taken, f"in a cascade a level takes what it adds, so heights must be levels, got {self.heights}")

    def __repr__(self) -> str:
        if not self.uniform:
            if self.rounds and self in (written := _rounding(len(self.levels))):
                return written[self]
            flags = "".join(f", {name}=True" for name in ("signed", "floor", "greedy") if getattr(self, name))
            return f"Alphabet(levels={self.levels}, heights={self.heights}{flags})"
        k = len(self.levels)
        return f"signed({k}{', floor=True' if self.floor else ''})" if self.signed else f"burst({k})"

    @property
    def uniform(self) -> bool:
        """Whether the letters are 0, 1, ..., k at the levels 1, ..., k."""
        return self.levels == tuple(range(1, len(self.levels) + 1)) and set(self.heights) == {1.0} and not self.greedy

    @property
    def counts(self) -> bool:
        """Whether the letter is floor(r) from 0 to the ceiling: of a cascade, if every whole number can be paid."""
        if not self.greedy:
            return self.uniform and not self.signed
        return all(p == int(p) and p <= 1 + sum(self.levels[:i]) for i, p in enumerate(self.levels))

    @property
    def letters(self) -> tuple[float, ...]:
        """Every letter above 0, ascending, in units of theta."""
        if not self.greedy:
            return tuple(accumulate(self.heights))
        sums = {0.0}
        for part in self.levels:
            sums |= {s + part for s in sums}
        return tuple(sorted(sums - {0.0}))

    @property
    def rounds(self) -> bool:
        """Whether each letter is reached before the potential is worth it, so that no start has to see to rounding."""
        return all(level < letter for level, letter in zip(self.levels, self.letters, strict=False))

    def levels_of(self, steps: int) -> int | tuple[float, ...]:
        """What `MinMSE` rounds to after `steps` steps: the letters of one; of more about every multiple of the unit."""
        even = self.uniform or steps > 1
        return round(steps * self.ceiling / self.unit) if even else self.letters

    @property
    def unit(self) -> float:
        """The largest number of which every letter is a whole multiple: lowered, a letter is `letter / unit` spikes."""
        return _unit(self.heights)

    @property
    def ceiling(self) -> float:
        """The largest letter: the most that can leave in one step, in units of theta."""
        return sum(self.heights)

    @property
    def full(self) -> float:
        """From which potential on every level is reached, in units of theta."""
        return self.ceiling if self.greedy else self.levels[-1]

    def fire(self, r: Tensor) -> Tensor:
        """The letter of each potential `r`, any shape, same dtype."""
        if self.counts:
            return r.floor().clamp_(0, self.ceiling)  # the same table in two passes
        if self.uniform:
            return (r.floor() if self.floor else r.trunc()).clamp_(-len(self.levels), len(self.levels))
        if not self.greedy and len(self.levels) > 2:
            return self._looked_up(r)
        letters = r.new_zeros(r.shape)
        for height, s in zip(self.heights, self.comparators(r), strict=True):
            letters = letters + height * s
        return letters

    def _looked_up(self, r: Tensor) -> Tensor:
        """The same letters by their places in the table: one search instead of a pass for each level; of NaN none."""
        sums = [r.new_zeros(())]
        for height in self.heights:
            sums.append(sums[-1] + height)
        letters, r = torch.stack(sums), r.nan_to_num(0.0).contiguous()
        levels, mirrored, _ = r.new_tensor([*self._rows()]).T.contiguous()
        up = letters[torch.bucketize(r, levels, right=True)]
        return up - letters[torch.bucketize(-r, mirrored, right=not self.floor)] if self.signed else up

    def comparators(self, r: Tensor, step: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What each level says, `[levels, ...]`: 0 or 1, or -1 where negative letters exist. The letter is
        `sum_k height_k s_k`.

        step: the smoothed step H of a surrogate, of the distance to a level in its height; the letter then is the
        smoothed one, whose derivative is `slope`. A step has no width, so without one the distance is just r - level.
        """

        def above(r: Tensor, level: float, height: float) -> Tensor:
            return (r >= level).to(r.dtype) if step is None else step((r - level) / height)

        def below(r: Tensor, level: float, height: float) -> Tensor:
            if step is None:
                return (-r > level if self.floor else -r >= level).to(r.dtype)
            return step((-r - level) / height)

        if self.greedy:
            rows, left = [], r
            for part in reversed(self.levels):
                rows.append(above(left, part, part))
                left = left - part * rows[-1]
            return torch.stack(rows[::-1])
        return torch.stack(
            [
                above(r, level, height) - below(r, mirrored, height) if self.signed else above(r, level, height)
                for level, mirrored, height in self._rows()
            ]
        )

    def slope(self, r: Tensor, h: Callable[[Tensor], Tensor], attached: bool = True) -> Tensor:
        """The derivative of the letter by r with h, of area 1, in the place of each step's: of area `ceiling` in all.

            sum_k h((r - level_k) / height_k)

        mirrored for negative letters. In a cascade level k stands at what is left R_k, and `dR_k` carries on the chain;
        not attached, what was taken counts as a constant and every dR_k is 1.
        """
        total = r.new_zeros(r.shape)
        if not self.greedy:
            for level, mirrored, height in self._rows():
                total = total + h((r - level) / height)
                if self.signed:
                    total = total + h((-r - mirrored) / height)
            return total
        left, chain = r, torch.ones_like(r)
        for part in reversed(self.levels):
            rise = chain * h((left - part) / part)
            total, left = total + rise, left - part * (left >= part).to(r.dtype)
            chain = chain - rise if attached else chain
        return total

    def _rows(self) -> Iterator[tuple[float, float, float]]:
        """Level, level of the same letter below zero, height."""
        back = 0.0
        for level, height in zip(self.levels, self.heights, strict=True):
            yield level, back if self.floor else level, height
            back += height


@lru_cache(maxsize=256)
def _unit(heights: tuple[float, ...]) -> float:
    parts = [Fraction(height).limit_denominator(2**20) for height in heights]
    common = math.lcm(*(part.denominator for part in parts))
    return math.gcd(*(int(part * common) for part in parts)) / common


def burst(k: int) -> Alphabet:
    """0, 1, ..., k spikes in one step. Source: burst spikes [li2022burst]; MT-LIF uses the same table."""
    require(k >= 1, f"burst({k}) has no letter", instead="burst(1) is the binary neuron")
    return Alphabet(levels=tuple(float(i) for i in range(1, k + 1)), heights=(1.0,) * k)


def signed(k: int, *, floor: bool = False) -> Alphabet:
    """-k, ..., 0, ..., k. As `burst(k)` and mirrored, or floored: see `Alphabet`."""
    up = burst(k)
    return Alphabet(levels=up.levels, heights=up.heights, signed=True, floor=floor)


def parallel(n: int, ladder: str = "equal") -> Alphabet:
    """All n comparators look at the same potential, in units of the smallest part, and the letter is the highest level
    reached; one update takes it.

    "equal": levels 1, 2, ..., n, the same as `burst(n)`. "binary": levels 1, 2, 4, ..., 2^(n-1), the greatest power of
    two. Source: [wang2023mtsnn], our reconstruction.

    >>> import torch
    >>> parallel(3, "binary").fire(torch.tensor([0.5, 1.0, 3.75, 9.0]))
    tensor([0., 1., 2., 4.])
    """
    levels = _ladder(n, ladder)
    return Alphabet(levels=levels, heights=tuple(b - a for a, b in zip((0.0, *levels), levels, strict=False)))


def cascade(n: int, ladder: str = "equal", *, hard: bool = False) -> Alphabet:
    """Comparator i looks at what comparator i - 1 left, the largest part first, in units of the smallest part.

    "equal": n parts of 1, the letters of `burst(n)`. "binary": parts 2^(n-1), ..., 2, 1, so the letters are the n-bit
    numbers 0 .. 2^n - 1. hard: the first comparator that fires empties the membrane, and those behind it find nothing:
    the letter is one part, the largest reached. Source: [wang2023mtsnn], our reconstruction.

    >>> import torch
    >>> r = torch.tensor([0.5, 1.0, 3.75, 9.0])
    >>> cascade(3).fire(r), cascade(3, "binary").fire(r), cascade(3, "binary", hard=True).fire(r)
    (tensor([0., 1., 3., 3.]), tensor([0., 1., 3., 7.]), tensor([0., 1., 2., 4.]))
    """
    levels = _ladder(n, ladder)
    if hard or n == 1:
        return binary if ladder == "equal" else parallel(n, ladder)
    parts = (1.0,) * n if ladder == "equal" else levels
    return Alphabet(levels=parts, heights=parts, greedy=True)


def _ladder(n: int, ladder: str) -> tuple[float, ...]:
    require(n >= 1, f"{n} levels hold no letter", instead="1 level is the binary neuron")
    known = {"equal": lambda i: float(i + 1), "binary": lambda i: 2.0**i}
    rung = known[nearest(ladder, known, "ladder")]
    return tuple(rung(i) for i in range(n))


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


def minifloat(exponent: int, mantissa: int, *, signed: bool = False) -> Alphabet:
    """The numbers of a small float, `signed` or not, `exponent` and `mantissa` bits, in units of the smallest.

        letter(0, m) = m,   letter(e, m) = (2^mantissa + m) 2^(e - 1),   e < 2^exponent,   m < 2^mantissa

    2^(exponent + mantissa) - 1 letters, finer where activations are many than where they are few. The cut to a letter
    lies half way from the one before it, so the letter rounds and v0 is 0. A message has exponent + mantissa bits, and
    a synaptic operation is a product with mantissa + 1 bits, shifted. exponent=1 gives even letters, mantissa=0 powers
    of two. Source: the formats of [rouhani2023microscaling] (whose FP4 is exponent 2, mantissa 1 and a sign).

    >>> minifloat(2, 1).letters
    (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
    >>> minifloat(2, 2).letters[6:]
    (7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0)
    >>> import torch
    >>> minifloat(2, 1).fire(torch.tensor([-9.0, 0.4, 0.5, 4.9, 5.0, 99.0]))
    tensor([ 0.,  0.,  1.,  4.,  6., 12.])
    """
    sizes = 1 <= exponent <= 3 and 0 <= mantissa <= 4
    require(sizes, f"minifloat({exponent}, {mantissa}) must have 1..3 bits of exponent and 0..4 of mantissa")
    normal = [float((2**mantissa + m) * 2**e) for e in range(2**exponent - 1) for m in range(2**mantissa)]
    return _nearest([*map(float, range(1, 2**mantissa)), *normal], signed)


def codebook(k: int, *, signed: bool = False) -> Alphabet:
    """k letters, `signed` or not, in units of the first: those of `lloyd(k)`, of least squared error for activations.

    The cut to a letter lies half way from the one before it, so the letter rounds and v0 is 0. A message is the number
    of a letter, and a synaptic operation a product with what a table of k small whole numbers says (quarters of the
    first letter). Source: the quantiser of [lloyd1982least]; as spikes they are ours.

    >>> codebook(7).letters
    (1.0, 2.0, 3.25, 4.5, 6.25, 8.25, 11.5)
    >>> import torch
    >>> codebook(3).fire(torch.tensor([-9.0, 0.4, 0.5, 1.625, 3.0, 99.0]))
    tensor([0.0000, 0.0000, 1.0000, 2.2500, 2.2500, 4.0000])
    """
    require(2 <= k <= 31, f"codebook({k}) must have 2..31 letters", instead="binary for one")
    return _nearest(lloyd(k), signed)


def _nearest(letters: Sequence[float], signed: bool) -> Alphabet:
    """The letters that each potential is rounded to."""
    cuts, heights = zip(*(((a + b) / 2, b - a) for a, b in pairwise([0.0, *letters])), strict=True)
    return Alphabet(levels=cuts, heights=heights, signed=signed)


@cache
def _rounding(k: int) -> dict[Alphabet, str]:
    """How those of k levels that round are written."""
    found = {power_of_two(k): f"power_of_two({k})"} if k <= 10 else {}
    for both, more in ((False, ""), (True, ", signed=True")):
        if 2 <= k <= 31:
            found[codebook(k, signed=both)] = f"codebook({k}{more})"
        for e, m in product(range(1, 4), range(5)):
            if 2 ** (e + m) - 1 == k:
                found[minifloat(e, m, signed=both)] = f"minifloat({e}, {m}{more})"
    return found


binary = burst(1)
ternary = signed(1)
