"""A term of a stage: one of the things that drive a spiking layer, as the C++ kernel is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

DENSE, EVENTS, REAL_EVENTS, DEPTHWISE, REAL_DEPTHWISE, IDENTITY, CURRENT = range(7)
GEOMETRY = (
    "height", "width", "channels", "windows", "taken", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "pad_h", "pad_w", "dilation_h", "dilation_w", "block", "flush", "zero", "shift",
    "spelled", "image_step", "time_step",
)  # fmt: skip


@dataclass(frozen=True)
class Term:
    """What the kernel is told of one term: its kind, the numbers of `GEOMETRY`, its tensors beside what it reads."""

    kind: int
    geometry: dict[str, int] = field(default_factory=dict)
    weights: Tensor = torch.empty(0)
    scale: Tensor = torch.empty(0)
    bias: Tensor = torch.empty(0)

    def numbers(self, x: Tensor) -> list[int]:
        """All numbers, for what it reads: letters `[N, T, H, W, C]`, or a current `[T, N, H, W, C]`."""
        if self.kind == CURRENT:
            return [*self._own[:-2], x.stride(1), x.stride(0)]
        return [self.kind, *x.shape[2:], *self._own[4:]]

    @cached_property
    def _own(self) -> list[int]:
        """The kind and the numbers, 0 for those that come from what it reads."""
        return [self.kind, *(int(self.geometry.get(name, 0)) for name in GEOMETRY)]


def identity(scale: Tensor, shift: int, stride: int) -> Term:
    """Letters that pass on, `scale` `[O]` times, from channel o - shift and every stride-th place."""
    return Term(IDENTITY, {"shift": shift, "stride_h": stride, "stride_w": stride}, scale=scale.float().contiguous())


def current() -> Term:
    """A drive that is computed elsewhere."""
    return Term(CURRENT)
