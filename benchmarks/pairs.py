"""Times as ratios: candidates and their reference take turns in one process, on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch

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
    return lambda: seconds(work, count)


def seconds(work: Work, count: int = 1) -> float:
    """How long one call takes, the mean of so many in a row, until a GPU, where there is one, has done them all."""
    wait()
    started = time.perf_counter()
    for _ in range(count):
        work()
    wait()
    return (time.perf_counter() - started) / count


def wait() -> None:
    """Until a GPU has done all it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def graphed(work: Work) -> Work:
    """The same work as one CUDA graph: its kernels start without Python, each time in the memory of the first run."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = work()

    def replay() -> object:
        graph.replay()
        return answer

    return replay


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
    gpu = {"gpu": torch.cuda.get_device_name(), "triton": release("triton")} if torch.cuda.is_available() else {}
    return versions() | peers | {"rounds": rounds, "cpu": processor()} | gpu


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
