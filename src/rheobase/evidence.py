"""How much a spiking network loses against its source on the same samples, with bounds that hold for few of them."""

from __future__ import annotations

import math

from torch import Tensor

from .predict import upper_bound


class Evidence:
    """Paired answers: the drop is the share that only the source has right minus the share that only the other has.

        low = least(lost) - most(won),      high = most(lost) - least(won)

    with the Clopper-Pearson bounds of both shares, each at a half of what the certainty leaves: true for any number of
    samples, and narrow where the two networks seldom differ.

    >>> import torch
    >>> seen = Evidence(0.95)
    >>> seen.add(torch.tensor([True] * 90 + [False] * 10), torch.tensor([True] * 80 + [False] * 20))
    >>> round(seen.drop, 3), seen.samples
    (0.1, 100)
    """

    def __init__(self, certainty: float = 0.95) -> None:
        self.certainty = certainty
        self.samples = self.lost = self.won = 0

    def add(self, source: Tensor, other: Tensor) -> None:
        """Which samples the source has right, and which the other, both bool `[N]`."""
        source, other = source.cpu(), other.cpu()
        self.samples += len(source)
        self.lost += int((source & ~other).sum())
        self.won += int((other & ~source).sum())

    @property
    def drop(self) -> float:
        """The accuracy of the source minus that of the other on these samples."""
        return (self.lost - self.won) / max(1, self.samples)

    @property
    def error(self) -> float:
        """The standard error of the drop."""
        return math.sqrt(self._variance / max(1, self.samples))

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which two values the drop on all data lies, at the certainty."""
        n, each = self.samples, 1 - (1 - self.certainty) / 4
        if n == 0:
            return -1.0, 1.0
        most = upper_bound(self.lost, n, each), upper_bound(self.won, n, each)
        least = 1 - upper_bound(n - self.lost, n, each), 1 - upper_bound(n - self.won, n, each)
        return least[0] - most[1], most[0] - least[1]

    @property
    def _variance(self) -> float:
        n = self.samples
        return max(0.0, ((self.lost + self.won) / n - self.drop**2) * n / (n - 1)) if n > 1 else 1.0
