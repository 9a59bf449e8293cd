"""Times as ratios: candidates and their reference take turns in one process, on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from rheobase.evaluate import versions

Work = Callable[[], object]
LEAST = 0.01
"""Seconds that a time is taken over: a call of microseconds is lost among what else the machine does."""


class Spread(NamedTuple):
    """A figure over the rounds: the median and the quartiles around it."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(*(value * factor for value in self))


def paired(reference: Work, candidates: Mapping[str, Work], rounds: int = 9) -> dict[str, Spread]:
    """Time of each candidate in times of the reference runs just before and just after it, over `rounds`.

    The machine may slow down for everybody in between: a ratio of neighbours hardly notices.
    """
    works = {name: repeated(work) for name, work in candidates.items()}
    beside = repeated(reference)
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        before = beside()
        for name, work in works.items():
            taken, after = work(), beside()
            found[name].append(2 * taken / (before + after))
            before = after
    return {name: spread(values) for name, values in found.items()}


def repeated(work: Work) -> Callable[[], float]:
    """How long one call takes, the mean of as many as fill LEAST seconds. Is called twice first: that builds caches."""
    work()
    count = max(1, math.ceil(LEAST / seconds(work)))
    return lambda: sum(seconds(work) for _ in range(count)) / count


def seconds(work: Work) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float]) -> Spread:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(median(values), low, high)


def plainly(found: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    """Spreads as JSON has them."""
    return {name: value._asdict() for name, value in found.items()}


def provenance(rounds: int) -> dict[str, Any]:
    """What the figures depend on: the machine, the versions of everything that ran, the rounds."""
    peers = {name: found for name in ("spikingjelly", "snntorch", "norse", "sinabs") if (found := release(name))}
    return versions() | peers | {"rounds": rounds, "cpu": processor()}


def release(package: str) -> str:
    """The version of a package, or ""."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def processor() -> str:
    """The name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
