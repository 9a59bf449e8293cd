"""A streaming histogram of activations whose result does not depend on batches, their order or their number."""

from __future__ import annotations

import torch
from torch import Tensor

_LOWEST, _OCTAVES, _STEPS = -24, 48, 256  # bins cover [2^-24, 2^24), 256 to the octave; the last takes what is above
BINS = _OCTAVES * _STEPS + 1  # bin 0 holds everything below, zero and negative values among it


class Histogram:
    """Counts per channel over bins that are the exponent and the 8 leading mantissa bits of a float32.

    The bin of a value depends on nothing but the value, and counts are integers, so any order, any batch size and any
    split over processes (`merge`) give the same bits. Bins are 0.4 % wide; the maximum is kept exactly. Any number of
    values; memory is `channels * 98 kB`.

    >>> h = Histogram(1)
    >>> h.add(torch.arange(1001.0)[None])
    >>> [round(float(h.quantile(p)), 1) for p in (50, 99.9, 100)]
    [500.5, 1000.0, 1000.0]
    """

    def __init__(self, channels: int) -> None:
        self.counts = torch.zeros(channels, BINS, dtype=torch.int64)
        self.maximum = torch.full((channels,), -torch.inf)
        self.negative: Histogram | None = None  # of the same values with the other sign, where someone asks for it

    def add(self, values: Tensor) -> None:
        """Count `values` `[channels, anything]`."""
        values = values.detach().to(torch.float32)
        bits = values.contiguous().view(torch.int32) >> 15
        first = (_LOWEST + 127) * _STEPS
        bins = (bits - first + 1).clamp_(0, BINS - 1).to(torch.int64)
        channels = len(values)
        bins += torch.arange(channels, device=bins.device)[:, None] * BINS
        counts = torch.bincount(bins.flatten(), minlength=channels * BINS)
        self.counts += counts.reshape(channels, BINS).cpu()
        self.maximum = torch.maximum(self.maximum, values.amax(1).cpu())

    def add_both(self, values: Tensor) -> None:
        """Count `values` of both signs."""
        self.negative = self.negative or Histogram(len(self.counts))
        self.add(values)
        self.negative.add(-values)

    def merge(self, other: Histogram) -> None:
        """Add what another process or another part of the data has counted."""
        self.counts += other.counts
        self.maximum = torch.maximum(self.maximum, other.maximum)
        if other.negative is not None:
            self.negative = self.negative or Histogram(len(self.counts))
            self.negative.merge(other.negative)

    def layer(self) -> Histogram:
        """The same values without the distinction of channels."""
        whole = Histogram(1)
        whole.counts = self.counts.sum(0, keepdim=True)
        whole.maximum = self.maximum.max(0, keepdim=True).values
        whole.negative = self.negative.layer() if self.negative is not None else None
        return whole

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the values of each channel, float64, to the width of a bin.

        Of both signs if they were counted by `add_both`; otherwise every value below 0 counts as 0.
        """
        values, n = middles(torch.arange(BINS)), self.counts.sum(1).clamp(min=1)
        sides = [(1, self)] if self.negative is None else [(1, self), (-1, self.negative)]
        mean = torch.stack([sign * (side.counts * values).sum(1) for sign, side in sides]).sum(0) / n
        square = torch.stack([(side.counts * values.square()).sum(1) for _, side in sides]).sum(0) / n
        return mean, (square - mean.square()).clamp(min=0).sqrt()

    def quantile(self, p: float) -> Tensor:
        """The value below which p percent of the values of each channel lie, `[channels]`; p = 100 is the maximum."""
        below = self.counts.cumsum(1)
        rank = below[:, -1:].double() * (p / 100)
        bins = (below.double() < rank).sum(1, keepdim=True).clamp_(max=BINS - 1)
        inside = self.counts.gather(1, bins).double()
        part = ((rank - (below.gather(1, bins).double() - inside)) / inside.clamp(min=1)).clamp(0, 1)
        low, high = _edges(bins)
        high = torch.where(bins == BINS - 1, self._top(high[:, 0])[:, None], high)
        value = torch.where(bins == 0, 0.0, low + part * (high - low)).squeeze(1).float()
        return self.maximum.clone() if p == 100 else torch.minimum(value, self.maximum.clamp(min=0))

    def share_above(self, theta: Tensor) -> Tensor:
        """The share of the values of each channel above theta `[channels]` or `[1]`: what a threshold clips."""
        low, high = _edges(torch.arange(BINS).expand(len(self.counts), -1))
        high[:, -1] = self._top(high[:, -1])
        part = ((high - theta.double().cpu().reshape(-1, 1)) / (high - low)).clamp(0, 1)
        share = ((self.counts * part).sum(1) / self.counts.sum(1).clamp(min=1)).float()
        return torch.where(self.maximum <= theta.float().cpu().reshape(-1), torch.zeros_like(share), share)

    def _top(self, edge: Tensor) -> Tensor:
        """Where the last bin ends: at the largest value, if that lies beyond its edge."""
        return self.maximum.double().clamp(max=torch.finfo(torch.float32).max).maximum(edge)


def middles(bins: Tensor) -> Tensor:
    """The value in the middle of each bin, 0 for the lowest, float64."""
    low, high = _edges(bins)
    return torch.where(bins == 0, 0.0, (low + high) / 2)


def _edges(bins: Tensor) -> tuple[Tensor, Tensor]:
    octave, step = (bins - 1).clamp(min=0).div(_STEPS, rounding_mode="floor"), (bins - 1).clamp(min=0) % _STEPS
    width = torch.exp2(octave.double() + _LOWEST) / _STEPS
    low = torch.where(bins == 0, torch.zeros_like(width), width * (_STEPS + step))
    return low, torch.where(bins == 0, torch.full_like(width, 2.0**_LOWEST), low + width)
