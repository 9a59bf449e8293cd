"""How the rate moves: a function of the step alone, so that nothing of it needs saving."""

from __future__ import annotations

import math
from typing import Protocol

from ..spec import require, spec


class Schedule(Protocol):
    """`schedule(done, epochs)`: the share of the rate after `done` epochs (a fraction too) of `epochs`."""

    def __call__(self, done: float, epochs: float) -> float: ...


@spec
class Steady:
    """The rate itself, always."""

    def __call__(self, done: float, epochs: float) -> float:
        return 1.0


@spec
class Cosine:
    """A linear rise over `warmup` epochs, then `least + (1 - least) (1 + cos(pi s)) / 2` [loshchilov2017sgdr].

    >>> cosine = Cosine(warmup=1.0)
    >>> [round(cosine(done, 5.0), 3) for done in (0.0, 0.5, 1.0, 3.0, 5.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.0
    least: float = 0.0

    def __post_init__(self) -> None:
        require(self.warmup >= 0 and 0 <= self.least <= 1, f"warmup={self.warmup}, least={self.least} is no schedule")

    def __call__(self, done: float, epochs: float) -> float:
        if done < self.warmup:
            return done / self.warmup
        share = min(1.0, (done - self.warmup) / max(epochs - self.warmup, 1e-9))
        return self.least + (1 - self.least) * (1 + math.cos(math.pi * share)) / 2
