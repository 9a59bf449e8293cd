"""When an answer is read: after the last step, or for each sample as soon as waiting would hardly change it."""

from __future__ import annotations

from torch import Tensor

from .spec import require, spec


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
