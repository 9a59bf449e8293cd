"""What a spike takes from the potential."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .spec import spec


class Reset(Protocol):
    """`v' = reset(u, removed)`, where `removed = s * theta`."""

    def __call__(self, u: Tensor, removed: Tensor) -> Tensor: ...


@spec
class Subtract:
    """Soft reset: `v' = u - s * theta`. What is left over stays, so charge is conserved."""

    def __call__(self, u: Tensor, removed: Tensor) -> Tensor:
        return u - removed


@spec(kw_only=False)
class ToValue:
    """Hard reset: `v' = value` where a spike left, `u` elsewhere. What was left over is lost."""

    value: float = 0.0

    def __call__(self, u: Tensor, removed: Tensor) -> Tensor:
        return torch.where(removed != 0, torch.full_like(u, self.value), u)
