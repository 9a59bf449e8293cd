"""Frames from the events of an event camera: cut a recording in T pieces and count in each."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import InputError
from ..spec import require, spec


class Events(NamedTuple):
    """Events in the order of time: `t` in microseconds, place `x`, `y`, polarity `p` (1 brighter, 0 darker)."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def between(self, start: float, stop: float) -> Events:
        """Those with start <= t < stop."""
        first, last = np.searchsorted(self.t, (start, stop))
        return Events(*(array[first:last] for array in self))


class Cut(Protocol):
    """A rule to cut a recording in `steps` pieces: the index where each begins, and the end `[steps + 1]`."""

    @property
    def steps(self) -> int: ...
    def edges(self, t: np.ndarray) -> np.ndarray: ...


@spec(kw_only=False)
class ByTime:
    """T pieces of equal duration from the first event to the last.

    >>> ByTime(2).edges(np.array([0, 1, 2, 100])).tolist()
    [0, 3, 4]
    """

    steps: int

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"ByTime({self.steps}) has no piece")

    def edges(self, t: np.ndarray) -> np.ndarray:
        inner = np.linspace(t[0], t[-1], self.steps + 1)[1:-1] if len(t) else np.zeros(self.steps - 1)
        return np.concatenate([[0], np.searchsorted(t, inner), [len(t)]]).astype(np.int64)


@spec(kw_only=False)
class ByCount:
    """T pieces of equally many events, up to one.

    >>> ByCount(2).edges(np.array([0, 1, 2, 100])).tolist()
    [0, 2, 4]
    """

    steps: int

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"ByCount({self.steps}) has no piece")

    def edges(self, t: np.ndarray) -> np.ndarray:
        return np.arange(self.steps + 1) * len(t) // self.steps


def frames(events: Events, cut: Cut, side: tuple[int, int], size: int) -> np.ndarray:
    """How many events of each polarity fell on each place: uint8 `[T, 2, size, size]`, at most 255.

    side: height and width of the sensor; places are scaled to `size` by whole-number division. Channel 0 is darker,
    channel 1 brighter. Raises InputError for events outside of the sensor or out of order.
    """
    height, width = side
    if len(events.t):
        outside = events.x.min() < 0 or events.y.min() < 0 or events.x.max() >= width or events.y.max() >= height
        if outside or np.any(np.diff(events.t.astype(np.int64)) < 0):
            why = f"the sensor has {height} rows and {width} columns" if outside else "time must not run back"
            raise InputError("these events are no recording", why=why)
    row = events.y.astype(np.int64) * size // height
    column = events.x.astype(np.int64) * size // width
    place = ((events.p.astype(np.int64) > 0) * size + row) * size + column
    edges = cut.edges(events.t)
    counts = [np.bincount(place[a:b], minlength=2 * size * size) for a, b in pairwise(edges)]
    return np.minimum(np.stack(counts), 255).astype(np.uint8).reshape(-1, 2, size, size)
