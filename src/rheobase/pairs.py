"""Drives and answers counted together, and the staircase of one channel that fits them best."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 4096
_FRACTION = 1 << 20  # of the largest answer: answers are summed as whole numbers, so that no order changes a sum


class Pairs:
    """For each channel, over equal bins of the drive, how many samples fell there and the sum of their answers.

    low, high: the range of the drives `[channels]`; largest: what no answer exceeds. Counts and sums are integers, so
    any order, any batch size and any split over processes (`merge`) give the same bits.

    >>> u = torch.linspace(-1, 1, 2001)[None]
    >>> pairs = Pairs(u.amin(1), u.amax(1), 1.0)
    >>> pairs.add(u, u.clamp(min=0))
    >>> unit, start = pairs.fitted(levels=1)  # one bit for a rectified uniform drive; (sqrt(3) - 1) / 2 = 0.366
    >>> round(float(unit), 2), round(float(unit * (1 - start)), 2)  # how much is sent, and from which drive on
    (0.78, 0.36)
    """

    def __init__(self, low: Tensor, high: Tensor, largest: float) -> None:
        self.low, self.width = low.double().cpu(), (high - low).double().cpu().clamp(min=1e-30) / BINS
        self.scale = _FRACTION / 2.0 ** math.ceil(math.log2(max(largest, 1e-30)))
        self.counts = torch.zeros(len(low), BINS, dtype=torch.int64)
        self.sums = torch.zeros(len(low), BINS, dtype=torch.int64)

    def add(self, drives: Tensor, answers: Tensor) -> None:
        """Count pairs, each `[channels, anything]`."""
        channels = len(drives)
        low, width = self.low.to(drives.device)[:, None], self.width.to(drives.device)[:, None]
        bins = ((drives.double() - low) / width).long().clamp_(0, BINS - 1)
        bins += torch.arange(channels, device=drives.device)[:, None] * BINS
        whole = (answers.double() * self.scale).round_().long()
        flat = bins.flatten()
        self.counts += torch.bincount(flat, minlength=channels * BINS).reshape(channels, BINS).cpu()
        sums = torch.zeros(channels * BINS, dtype=torch.int64, device=flat.device).index_add_(0, flat, whole.flatten())
        self.sums += sums.reshape(channels, BINS).cpu()

    def merge(self, other: Pairs) -> None:
        """Add what another process counted over the same range."""
        self.counts += other.counts
        self.sums += other.sums

    def fitted(self, levels: int, most: float = math.inf) -> tuple[Tensor, Tensor]:
        """The staircase `q(u) = unit * clip(floor(u / unit + start), 0, levels)` of each channel, unit and start.

            start such that E[q] = E[a],     unit = argmax of the correlation of q and a

        For one unit the start is found by bisection; then E[q a] and E[q^2] are sums over the steps of the staircase of
        tails of the counts. A staircase that explains the answers least wrongly in the square is smaller than they are,
        the more so the less it explains, and layers behind it starve; among those of the right mean the most correlated
        one is not. 64 units are tried, up to where the staircase ends at the largest drive or at `most`. A channel
        without answers takes the largest unit of its layer and starts at a half.
        """
        tails, mean = _Tails(self), self.mean
        top = (self.low + BINS * self.width).clamp(min=0, max=most)[:, None]
        unit = top * torch.logspace(math.log10(0.02), 0, 64, dtype=torch.float64) / levels
        unit = unit.clamp(min=1e-30)
        start = tails.matched(unit, levels, mean)
        sent, product, square = tails.moments(unit, start, levels)
        spread = (square - sent.square()).clamp(min=0).sqrt()
        agrees = (product - sent * mean[:, None]) / spread.clamp(min=1e-30)
        valid = ((sent - mean[:, None]).abs() <= 1e-3 * mean[:, None]) & (spread > 1e-3 * mean[:, None])
        agrees = torch.where(valid, agrees, -math.inf)  # a unit that cannot reach the mean, or a channel always full
        best = agrees.argmax(1, keepdim=True)
        unit, start = unit.gather(1, best)[:, 0], start.gather(1, best)[:, 0]
        silent = mean <= 0
        largest = torch.where(silent, 0.0, unit).max()
        return torch.where(silent, largest, unit), torch.where(silent, 0.5, start)

    def matched(self, unit: Tensor, levels: int) -> Tensor:
        """The start of each channel at which a staircase of this unit has the mean of the answers."""
        start = _Tails(self).matched(unit.double().cpu()[:, None], levels, self.mean)[:, 0]
        return torch.where(self.mean <= 0, 0.5, start)

    @property
    def mean(self) -> Tensor:
        """The mean answer of each channel."""
        return self.sums.sum(1) / self.scale / self.counts.sum(1).clamp(min=1)


class _Tails:
    """How often the drive reaches a value, and how much of the answers lies there; straight lines inside a bin."""

    def __init__(self, pairs: Pairs) -> None:
        self.low, self.width = pairs.low[:, None, None], pairs.width[:, None, None]
        self.n = pairs.counts.sum(1).clamp(min=1).double()[:, None]
        self.counts, self.sums = _above(pairs.counts).double(), _above(pairs.sums).double() / pairs.scale

    def at(self, tail: Tensor, values: Tensor) -> Tensor:
        """The tail from each of `values` `[channels, units, levels]` on."""
        place = ((values - self.low) / self.width).clamp(0, BINS)
        index = place.long().clamp(max=BINS - 1)
        rows = tail[:, None].expand(-1, values.shape[1], -1)
        here, there = rows.gather(2, index), rows.gather(2, index + 1)
        return here + (there - here) * (place - index)

    def matched(self, unit: Tensor, levels: int, mean: Tensor) -> Tensor:
        """The start `[channels, units]` at which what is sent has this mean, as nearly as it can."""
        steps = torch.arange(1, levels + 1, dtype=torch.float64)
        low = -(self.low[..., 0] + BINS * self.width[..., 0]) / unit
        high = levels + 1 - self.low[..., 0] / unit
        for _ in range(40):
            start = (low + high) / 2
            sent = unit * self.at(self.counts, unit[..., None] * (steps - start[..., None])).sum(2) / self.n
            short = sent < mean[:, None]
            low, high = torch.where(short, start, low), torch.where(short, high, start)
        return (low + high) / 2

    def moments(self, unit: Tensor, start: Tensor, levels: int) -> tuple[Tensor, Tensor, Tensor]:
        """E[q], E[q a] and E[q^2]."""
        steps = torch.arange(1, levels + 1, dtype=torch.float64)
        reached = unit[..., None] * (steps - start[..., None])
        often, answers = self.at(self.counts, reached), self.at(self.sums, reached)
        square = unit.square() * (often * (2 * steps - 1)).sum(2)
        return unit * often.sum(2) / self.n, unit * answers.sum(2) / self.n, square / self.n


def _above(counts: Tensor) -> Tensor:
    """What lies at and above each edge, `[channels, BINS + 1]`."""
    tail = counts.flip(1).cumsum(1).flip(1)
    return torch.cat([tail, torch.zeros_like(tail[:, :1])], 1)
