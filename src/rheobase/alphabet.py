"""Which letters exist: a table of levels (where a letter starts, in units of theta) and heights (what it adds)."""

from __future__ import annotations

from torch import Tensor

from .spec import require, spec


@spec
class Alphabet:
    """`fire(r) = sum_k height_k * H(r - level_k)`, H(0) = 1, for a potential r in units of theta.

    levels: strictly ascending and positive. heights: as many, positive.

    >>> import torch
    >>> burst(3).fire(torch.tensor([-0.5, 0.5, 1.0, 2.75, 9.0]))
    tensor([0., 0., 1., 2., 3.])
    """

    levels: tuple[float, ...]
    heights: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.levels) > 0, "an alphabet needs at least one level")
        require(len(self.levels) == len(self.heights), "an alphabet needs one height for each level")
        ascending = all(a < b for a, b in zip((0.0, *self.levels), self.levels, strict=False))
        require(ascending, f"levels must be positive and ascending, got {self.levels}")
        require(all(h > 0 for h in self.heights), f"heights must be positive, got {self.heights}")

    def __repr__(self) -> str:
        return (
            f"burst({len(self.levels)})" if self.uniform else f"Alphabet(levels={self.levels}, heights={self.heights})"
        )

    @property
    def uniform(self) -> bool:
        """Whether the letters are 0, 1, ..., k at the levels 1, ..., k."""
        return self.levels == tuple(range(1, len(self.levels) + 1)) and set(self.heights) == {1.0}

    @property
    def ceiling(self) -> float:
        """The largest letter: the most that can leave in one step, in units of theta."""
        return sum(self.heights)

    def fire(self, r: Tensor) -> Tensor:
        """The letter of each potential `r`, any shape, same dtype."""
        if self.uniform:
            return r.floor().clamp_(0, len(self.levels))  # the same table in two passes
        letters = r.new_zeros(r.shape)
        for level, height in zip(self.levels, self.heights, strict=True):
            letters = letters + height * (r >= level).to(r.dtype)
        return letters


def burst(k: int) -> Alphabet:
    """0, 1, ..., k spikes in one step. Source: burst spikes [li2022burst]; MT-LIF uses the same table."""
    require(k >= 1, f"burst({k}) has no letter", instead="burst(1) is the binary neuron")
    return Alphabet(levels=tuple(float(i) for i in range(1, k + 1)), heights=(1.0,) * k)


binary = burst(1)
