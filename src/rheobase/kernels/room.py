"""Memory that is used again. A page that is new costs the operating system more time than a kernel needs to fill it."""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor


class Room:
    """Lends memory to tensors, and takes it back when nothing refers to them any more.

    A tensor gets the smallest piece at hand that is large enough and not more than twice as large. No more is held than
    twice what was lent at once at some time: before memory is made, what lies idle gives way.
    """

    def __init__(self) -> None:
        self._idle: dict[int, list[Tensor]] = {}
        self._lent = self._most = 0

    def __reduce__(self) -> tuple[type[Room], tuple[()]]:
        return Room, ()  # a copy has room of its own

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Like `torch.empty(shape, dtype=dtype)`."""
        count = math.prod(shape)
        memory = self._piece(max(1, count) * dtype.itemsize)
        self._lent += memory.numel()
        self._most = max(self._most, self._lent)
        lent = memory.numpy()
        weakref.finalize(lent, self._back, memory).atexit = False
        return torch.from_numpy(lent)[: count * dtype.itemsize].view(dtype).view(shape)

    @property
    def idle(self) -> int:
        """Bytes that are held and not lent."""
        return sum(size * len(held) for size, held in self._idle.items())

    def _piece(self, size: int) -> Tensor:
        fitting = [held for held, pieces in self._idle.items() if pieces and size <= held <= 2 * size]
        if fitting:
            return self._idle[min(fitting)].pop()
        spare = 2 * max(self._most, self._lent + size) - self._lent - size
        for pieces in self._idle.values():
            while pieces and self.idle > spare:
                pieces.pop()
        return torch.empty(size, dtype=torch.uint8)

    def _back(self, memory: Tensor) -> None:
        self._lent -= memory.numel()
        self._idle.setdefault(memory.numel(), []).append(memory)
