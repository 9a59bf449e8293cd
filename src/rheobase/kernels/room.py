"""Memory that is used again. A page that is new costs the operating system more time than a kernel needs to fill it."""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor


class Room:
    """Lends memory to tensors, and takes it back when nothing refers to them any more.

    It never holds more than was lent at once at some time: before memory is made, what lies idle gives way.
    """

    def __init__(self) -> None:
        self._idle: dict[int, list[Tensor]] = {}
        self._lent = self._most = 0

    def __reduce__(self) -> tuple[type[Room], tuple[()]]:
        return Room, ()  # a copy has room of its own

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Like `torch.empty(shape, dtype=dtype)`."""
        size = max(1, math.prod(shape)) * dtype.itemsize
        memory = (self._idle.get(size) or [None]).pop()
        self._lent += size
        if memory is None:
            self._most = max(self._most, self._lent)
            self._shrink()
            memory = torch.empty(size, dtype=torch.uint8)
        lent = memory.numpy()
        weakref.finalize(lent, self._back, memory).atexit = False
        return torch.from_numpy(lent).view(dtype)[: math.prod(shape)].view(shape)

    @property
    def idle(self) -> int:
        """Bytes that are held and not lent."""
        return sum(size * len(held) for size, held in self._idle.items())

    def _back(self, memory: Tensor) -> None:
        self._lent -= memory.numel()
        self._idle.setdefault(memory.numel(), []).append(memory)

    def _shrink(self) -> None:
        """Let idle memory go until all that is held is no more than was ever lent."""
        spare = self._most - self._lent
        for size in list(self._idle):
            while self._idle[size] and self.idle > spare:
                self._idle[size].pop()
            if not self._idle[size]:
                del self._idle[size]
