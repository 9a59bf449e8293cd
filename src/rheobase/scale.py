"""Where theta0 comes from: a scale turns the statistics of one activation into its base threshold, once."""

from __future__ import annotations

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
    have L = T * ceiling levels: choose for the steps the network will run. Source: calibration of [li2021calibration],
    here on the streaming histogram.
    """

    levels: int
    channelwise: bool = True

    def __post_init__(self) -> None:
        require(self.levels >= 1, f"MinMSE(levels={self.levels}) has no level above 0")

    def fit(self, histogram: Histogram, bound: float | None, index: int, ceiling: float = 1.0) -> Tensor:
        found = []
        for counts, maximum in zip(histogram.counts, histogram.maximum.double(), strict=True):
            bins = counts.nonzero()[:, 0]
            values, weights = middles(bins).minimum(maximum.clamp(min=0)), counts[bins].double()
            tops = maximum.clamp(min=0) * torch.linspace(0.02, 1, 64, dtype=torch.float64)[:, None]
            rounded = torch.floor(values * self.levels / tops.clamp(min=1e-30) + 0.5).clamp(0, self.levels)
            errors = ((rounded * tops / self.levels - values).square() * weights).sum(1)
            found.append(tops[errors.argmin(), 0])
        return _alive(torch.stack(found)) / ceiling


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
