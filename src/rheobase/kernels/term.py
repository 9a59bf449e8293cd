"""A term of a stage: one of the things that drive a spiking layer, as the C++ kernel is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

DENSE, LOOKUP, EVENTS, REAL_EVENTS, DEPTHWISE, REAL_DEPTHWISE, IDENTITY, CURRENT, TILES = range(9)
GEOMETRY = (
    "windows", "taken", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w",
    "block", "flush", "zero", "shift", "spelled",
)  # fmt: skip


@dataclass(frozen=True)
class Term:
    """What the kernel is told of one term: its kind, the numbers of `GEOMETRY`, its tensors beside what it reads."""

    kind: int
    geometry: dict[str, int] = field(default_factory=dict)
    weights: Tensor = torch.empty(0)
    scale: Tensor = torch.empty(0)
    bias: Tensor = torch.empty(0)

    @property
    def numbers(self) -> list[int]:
        """The kind and the numbers, 0 for those that such a kind does not have."""
        return [self.kind, *(int(self.geometry.get(name, 0)) for name in GEOMETRY)]

    @property
    def tensors(self) -> list[Tensor]:
        """Weights, scale and bias."""
        return [self.weights, self.scale, self.bias]


def identity(scale: Tensor, shift: int, stride: int) -> Term:
    """Letters that pass on, `scale` `[O]` times, from channel o - shift and every stride-th place."""
    return Term(IDENTITY, {"shift": shift, "stride_h": stride, "stride_w": stride}, scale=scale.float().contiguous())


def current() -> Term:
    """A drive that is computed elsewhere."""
    return Term(CURRENT)
