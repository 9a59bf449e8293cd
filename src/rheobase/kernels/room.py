"""Memory that is used again. A page that is new costs the operating system more time than a kernel needs to fill it."""

from __future__ import annotations

import math
import weakref
from collections import deque
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CPU = torch.device("cpu")
SMALL = 1 << 16
"""Bytes up to which the allocator of PyTorch has memory at hand anyway."""


Bytes = NDArray[np.uint8]


class _Loan(weakref.ref[Bytes]):
    """What is lent, as long as a tensor refers to it, and the memory it lies in."""

    __slots__ = ("memory",)
    memory: Bytes


class Room:
    """Lends memory to tensors, and takes it back when nothing refers to them any more.

    A tensor gets the smallest piece at hand that is large enough and not more than twice as large. No more is held than
    twice what was lent at once at some time: before memory is made, what lies idle gives way. A tensor of up to `small`
    bytes is one of PyTorch.
    """

    def __init__(self, small: int = SMALL) -> None:
        self._small = small
        self._idle: dict[int, list[Bytes]] = {}
        self._out: dict[int, _Loan] = {}
        self._lent = self._most = 0
        self._returned: deque[_Loan] = deque()  # a loan ends at any time and may not wait, so that only adds here
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Room], tuple[int]]:
        return Room, (self._small,)  # a copy has room of its own

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Tensor:
        """Like `torch.empty`; a device other than the CPU has an allocator that lends memory itself."""
        size = math.prod(shape) * dtype.itemsize
        if size <= self._small or device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        return self._borrowed(size).view(dtype).view(shape)

    def strided(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        """Like `torch.empty_strided(shape, strides)` of float32, for strides without gaps."""
        size = 4 * math.prod(shape)
        if size <= self._small:
            return torch.empty_strided(shape, strides)
        return self._borrowed(size).view(torch.float32).as_strided(shape, strides)

    def clear(self) -> None:
        """Give back to the system what is not lent."""
        with self._lock:
            self._take_back()
            self._idle.clear()
            self._most = self._lent

    @property
    def idle(self) -> int:
        """Bytes that are held and not lent."""
        with self._lock:
            self._take_back()
            return self._held()

    def _held(self) -> int:
        return sum(size * len(pieces) for size, pieces in self._idle.items())

    def _take_back(self) -> None:
        while self._returned:
            loan = self._returned.popleft()
            del self._out[id(loan)]
            self._lent -= loan.memory.size
            self._idle.setdefault(loan.memory.size, []).append(loan.memory)

    def _borrowed(self, size: int) -> Tensor:
        """So many bytes."""
        with self._lock:
            self._take_back()
            memory = self._piece(size)
            self._lent += memory.size
            self._most = max(self._most, self._lent)
            lent = memory[:size]  # a view of its own, by which the end of the loan is seen
            loan = _Loan(lent, self._returned.append)
            loan.memory = memory
            self._out[id(loan)] = loan
        return torch.from_numpy(lent)

    def _piece(self, size: int) -> Bytes:
        if exact := self._idle.get(size):
            return exact.pop()
        fitting = [held for held, pieces in self._idle.items() if pieces and size <= held <= 2 * size]
        if fitting:
            return self._idle[min(fitting)].pop()
        spare = 2 * max(self._most, self._lent + size) - self._lent - size
        for pieces in self._idle.values():
            while pieces and self._held() > spare:
                pieces.pop()
        return torch.empty(size, dtype=torch.uint8).numpy()  # aligned, unlike memory of NumPy


ROOM = Room()
"""What the neurons of the C++ kernel send, and the gradients they answer, stand here. `ROOM.clear()` lets it go."""
