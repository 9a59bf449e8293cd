"""When an answer is read: after the last step, or for each sample as soon as waiting would hardly change it."""

from __future__ import annotations

import torch
from torch import Tensor

from .spec import require, spec


@spec(kw_only=False)
class Delayed:
    """The mean of the outputs from step `from_step` on: those before spikes reach the last layer do not count.

        a(t) = (t m(t) - (d - 1) m(d - 1)) / (t - d + 1),       m(t) = mean of outputs 1..t,   d = from_step <= t

    `Delayed(1)` is the mean of all steps, what a network answers by itself. Before step d there is no answer. It costs
    nothing, and pays where many layers fire late. Source: the delayed evaluation of [bu2025inference].

    >>> outputs = torch.tensor([4.0, 1.0, 2.0, 3.0]).reshape(4, 1, 1)
    >>> means = outputs.cumsum(0) / torch.arange(1.0, 5).reshape(4, 1, 1)
    >>> Delayed(2).read(means).flatten().tolist()
    [nan, 1.0, 1.5, 2.0]
    """

    from_step: int = 1

    def __post_init__(self) -> None:
        require(self.from_step >= 1, f"Delayed({self.from_step}) is before the first step", instead="Delayed(1)")

    def read(self, ys: Tensor) -> Tensor:
        """The answers `[T, N, ...]` of a run from its means up to each step `[T, N, ...]`; NaN before the first."""
        d = self.from_step
        if d == 1:
            return ys
        t = torch.arange(1, len(ys) + 1, device=ys.device, dtype=ys.dtype).reshape(-1, *(1,) * (ys.ndim - 1))
        before = (d - 1) * ys[d - 2] if len(ys) >= d else torch.zeros_like(ys[0])
        return torch.where(t >= d, (t * ys - before) / (t - d + 1).clamp(min=1), torch.nan)


@spec(kw_only=False)
class EarlyExit:
    """A sample is finished at the first step, from `first` on, at which its largest class probability is high enough.

        max_c softmax(mean output up to t)_c >= confidence

    `calibrate_exit` finds the lowest confidence whose answers differ from those of the last step no more often than a
    stated risk. Any confidence is 1 at most: with 1.0 nearly every sample waits. Source: [li2023seenn].
    """

    confidence: float = 0.99
    first: int = 1

    def __post_init__(self) -> None:
        require(0 < self.confidence <= 1, f"EarlyExit({self.confidence}) must lie in (0, 1]", instead="EarlyExit(0.99)")
        require(self.first >= 1, f"EarlyExit(first={self.first}) is before the first step")

    def finished(self, ys: Tensor, t: int) -> Tensor:
        """Whether the answers `[N, classes]` after step t may leave, `[N]`."""
        sure = ys.softmax(-1).amax(-1) >= self.confidence
        return sure if t >= self.first else sure & False
