"""Times as ratios: candidates and their reference take turns in one process, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import NamedTuple

Work = Callable[[], object]


class Ratio(NamedTuple):
    """Time of a candidate in times of the reference: the median over rounds and the quartiles around it."""

    median: float
    low: float
    high: float


def paired(reference: Work, candidates: Mapping[str, Work], rounds: int = 9) -> dict[str, Ratio]:
    """Each candidate against the mean of the reference runs just before and just after it, `rounds` times.

    The machine may slow down for everybody in between: a ratio of neighbours hardly notices.
    """
    for work in (reference, *candidates.values()):
        work()  # first calls build caches
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        before = seconds(reference)
        for name, work in candidates.items():
            taken, after = seconds(work), seconds(reference)
            found[name].append(2 * taken / (before + after))
            before = after
    return {name: spread(values) for name, values in found.items()}


def seconds(work: Work) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float]) -> Ratio:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return Ratio(median(values), low, high)
