"""Where theta0 comes from: a scale turns the statistics of one activation into its base threshold, once."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from .errors import ConversionError
from .histogram import Histogram, middles
from .spec import require, spec


class Scale(Protocol):
    """`theta0 = scale.fit(histogram, bound, index, ceiling)`, shape `[1]` or `[channels]`.

    bound: what a bounded activation (ReLU6, Clip, QCFS) does not exceed, None for ReLU. index: the how-manyeth
    activation of the network it is, from 0. ceiling: what can leave in one step, in units of theta0.
    """

    @property
    def channelwise(self) -> bool: ...

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor: ...


@spec
class Max:
    """theta0 = the largest activation on the calibration data: the max-norm of the field, its weak baseline."""

    channelwise: bool = False

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        return _alive(histogram.quantile(100.0))


@spec(kw_only=False)
class Percentile:
    """theta0 = the p-th percentile of all activations on the calibration data, zeros among them; p = 100 is Max."""

    p: float = 99.9
    channelwise: bool = False

    def __post_init__(self) -> None:
        require(
            0 < self.p <= 100, f"Percentile({self.p}) must lie in (0, 100]", instead="Percentile(99.9) for 99.9 percent"
        )

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        """A channel that is silent up to the percentile takes the percentile of its layer."""
        theta0, layer = histogram.quantile(self.p), histogram.layer()
        if float(layer.quantile(self.p)) <= 0 < float(layer.maximum):
            raise ConversionError(
                f"the {self.p}th percentile of the activations is 0",
                why=f"fewer than {100 - self.p:g} % of them are positive",
                instead="a higher percentile, or Max()",
            )
        return _alive(torch.where(theta0 > 0, theta0, layer.quantile(self.p)))


@spec(kw_only=False)
class MinMSE:
    """The threshold at which rounding the activations to `levels` levels above 0 costs the least squared error.

        theta0 = top / ceiling,   top = argmin of sum_a (top / L * clip(floor(a L / top + 1/2), 0, L) - a)^2

    over 64 candidates from 2 % of the maximum to all of it. T steps of a neuron that can send `ceiling` letters a step
    have L = T * ceiling levels: choose for the steps the network will run. levels: how many even ones, or, where they
    are not even, the levels themselves, ascending and in any unit (`alphabet.letters`); then to the nearest of these.
    Source: calibration of [li2021calibration], here on the streaming histogram.

    """

    levels: int | tuple[float, ...]
    channelwise: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.levels, tuple):
            require(self.levels >= 1, f"MinMSE(levels={self.levels}) has no level above 0")
            return
        ascending = all(a < b for a, b in pairwise((0.0, *self.levels)))
        require(len(self.levels) > 0 and ascending, f"MinMSE(levels={self.levels}) must ascend from above 0")

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        found = []
        for counts, maximum in zip(histogram.counts, histogram.maximum.double(), strict=True):
            bins = counts.nonzero()[:, 0]
            values, weights = middles(bins).minimum(maximum.clamp(min=0)), counts[bins].double()
            tops = maximum.clamp(min=0) * torch.linspace(0.02, 1, 64, dtype=torch.float64)[:, None]
            errors = ((self._rounded(values, tops) - values).square() * weights).sum(1)
            found.append(tops[errors.argmin(), 0])
        return _alive(torch.stack(found)) / ceiling

    def _rounded(self, values: Tensor, tops: Tensor) -> Tensor:
        """Each value to the nearest of its levels up to each top, `[tops, values]`."""
        if not isinstance(self.levels, tuple):
            return (
                torch.floor(values * self.levels / tops.clamp(min=1e-30) + 0.5).clamp(0, self.levels)
                * tops
                / self.levels
            )
        parts = torch.tensor((0.0, *self.levels), dtype=torch.float64) / self.levels[-1]
        reached = torch.bucketize(values / tops.clamp(min=1e-30), (parts[1:] + parts[:-1]) / 2, right=True)
        return parts[reached] * tops


@spec(kw_only=False)
class Fitted:
    """The threshold whose staircase of `levels` levels agrees best with the activation, fitted layer after layer.

        theta0 = levels * unit / ceiling,    unit = argmax of correlation(q, a),    q = staircase of the right mean

    on the drives that the layer meets when all layers before it are staircases already, so it is chosen for them and
    not for those of the source network, and jointly with the start (`Pairs.fitted`). T steps of a neuron that can send
    `ceiling` letters a step have T * ceiling levels: choose for the steps the network will run. Activations of both
    signs keep the threshold of `MinMSE`. Ours; the start that belongs to it is `Matched`.
    """

    levels: int
    channelwise: bool = True

    def __post_init__(self) -> None:
        require(self.levels >= 1, f"Fitted(levels={self.levels}) has no level above 0")

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        """Where the walk through the layers begins: the threshold of `MinMSE`."""
        return MinMSE(self.levels, self.channelwise).fit(histogram, bound, index, ceiling)


@spec(kw_only=False)
class GaussianMSE:
    """The threshold of least squared error for `levels` levels if the pre-activation z is a normal number.

        theta0 = top / ceiling,   top = E[z q] / E[q^2],   q = (1/L) sum_i H(z - c_i),   c_i = top (2i - 1) / (2L)

    with z ~ N(mean, deviation) of the pre-activation, so that both expectations are sums of the normal tail and density
    at the c_i; where the equation holds no top nearby has a smaller E[(top q - max(z, 0))^2]. It is solved by bisection
    (the authors iterate it 100 times, which stops short of many levels). Mean and deviation come from the streaming
    histograms of both signs. Choose levels = T * ceiling for the steps T the network will run; a fixed number, as in
    the authors' default of 64, serves one T only. Where a channel is far from normal `MinMSE` is the better choice.
    Source: [huang2025differential].
    """

    levels: int
    channelwise: bool = True

    def __post_init__(self) -> None:
        require(self.levels >= 1, f"GaussianMSE(levels={self.levels}) has no level above 0")

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        mean, deviation = histogram.moments()
        top = normal_top(mean, deviation, self.levels)
        return _alive(torch.where(histogram.maximum > 0, top, 0.0)) / ceiling


def normal_top(mean: Tensor, deviation: Tensor, levels: int) -> Tensor:
    """The fixed point of `GaussianMSE` for these means and deviations `[channels]`, float64; 0 where there is none.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> [round(float(normal_top(0 * one, one, levels)), 3) for levels in (1, 4, 64)]
    [1.224, 2.135, 3.615]
    """
    mean, deviation = mean.double()[:, None], deviation.double()[:, None].clamp(min=1e-30)
    odd = 2 * torch.arange(1, levels + 1, dtype=torch.float64) - 1
    low, high = torch.zeros_like(mean), mean.clamp(min=0) + deviation * (1.3 + math.sqrt(2 * math.log(levels)))
    for _ in range(60):
        top = (low + high) / 2
        z = (top * odd / (2 * levels) - mean) / deviation
        tail, density = torch.special.erfc(z / math.sqrt(2)) / 2, torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        moment, square = (mean * tail + deviation * density).sum(1), (odd * tail).sum(1)  # L E[z q] and L^2 E[q^2]
        short = (levels * moment > top.squeeze(1) * square)[:, None]
        low, high = torch.where(short, top, low), torch.where(short, high, top)
    return torch.where(low > 0, high, 0.0).squeeze(1)


@spec
class Balance:
    """Local threshold balancing: the threshold grows by what it clips, as long as `updates` greedy updates would last.

        theta(0) = 0,   d theta / dk = 2 rate E[(a - theta)+],   theta0 = theta(updates) / ceiling

    the continuous limit of the source's update, one for each batch of a pass over the training data. What is clipped is
    piecewise linear in theta on the histogram, so the equation is solved in closed form from one small calibration
    pass instead of by updates. More updates approach the maximum. Source: [bu2025inference].
    """

    updates: int = 392
    rate: float = 1.0
    channelwise: bool = True

    def __post_init__(self) -> None:
        require(self.updates >= 1, f"Balance(updates={self.updates}) never leaves 0")
        require(self.rate > 0, f"Balance(rate={self.rate}) must be positive")

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        found = [self._grown(c, m) for c, m in zip(histogram.counts, histogram.maximum.double(), strict=True)]
        return _alive(torch.stack(found)) / ceiling

    def _grown(self, counts: Tensor, maximum: Tensor) -> Tensor:
        """theta(updates) of one channel, 0 if it is silent."""
        bins = counts.nonzero()[:, 0]
        values, weights = middles(bins).minimum(maximum.clamp(min=0)), counts[bins].double()
        keep = values > 0
        values, weights = values[keep], weights[keep] / weights.sum()
        if len(values) == 0:
            return torch.zeros((), dtype=torch.float64)
        starts = torch.cat([values.new_zeros(1), values[:-1]])  # between two values the clipped amount falls by `above`
        above = weights.flip(0).cumsum(0).flip(0)
        clipped = ((values - starts) * above).flip(0).cumsum(0).flip(0)  # at the start of each piece
        left = torch.cat([clipped[1:], clipped.new_zeros(1)])  # and at its end
        spent = (torch.log(clipped / left) / (2 * self.rate * above)).cumsum(0)  # infinite at the maximum
        piece = int((spent < self.updates).sum())
        rest = self.updates - (float(spent[piece - 1]) if piece else 0.0)
        clips = clipped[piece] * -torch.expm1(-2 * self.rate * above[piece] * rest)
        return starts[piece] + clips / above[piece]


@spec(kw_only=False)
class Given:
    """theta0 as given: one number for every layer, or one for each activation of the network in order."""

    theta0: float | tuple[float, ...]

    def __post_init__(self) -> None:
        values = self.theta0 if isinstance(self.theta0, tuple) else (self.theta0,)
        require(len(values) > 0 and all(v > 0 for v in values), f"Given({self.theta0}) must be positive")

    @property
    def channelwise(self) -> bool:
        return False

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        if not isinstance(self.theta0, tuple):
            return torch.tensor([self.theta0], dtype=torch.float64)
        if index >= len(self.theta0):
            raise ConversionError(
                f"Given has {len(self.theta0)} thresholds, and the network has more activations",
                instead="one threshold for each activation, in the order of the network",
            )
        return torch.tensor([self.theta0[index]], dtype=torch.float64)


@spec(kw_only=False)
class Learned:
    """theta0 = the bound of the activation itself (lambda of Clip and QCFS, 6 of ReLU6); `otherwise` for plain ReLU."""

    otherwise: Max | Percentile | Given = Percentile(99.9)

    @property
    def channelwise(self) -> bool:
        return self.otherwise.channelwise

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        if bound is None:
            return self.otherwise.fit(histogram, bound, index, ceiling)
        return torch.tensor([bound], dtype=torch.float64)


def _alive(theta0: Tensor) -> Tensor:
    """A silent channel takes the largest threshold of its layer; a silent layer has none to take."""
    largest = theta0.max()
    if not largest > 0:
        raise ConversionError(
            "every activation is 0 on the calibration data",
            why="a dead layer has no scale to set a threshold from",
            instead="calibrate on more or other data, or set this layer by hand: "
            "convert(ann, {'<layer>': Method(scale=Given(1.0)), '': method}, batches)",
        )
    return torch.where(theta0 > 0, theta0, largest)
