"""Two samples in one: CutMix, between neighbours of the shuffled order."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..spec import require, spec
from .augment import box


class Mix(Protocol):
    """`mix(x, target, u)`: images `[N, C, H, W]`, probabilities `[N, classes]`, numbers `[N, draws]`, to both alike."""

    @property
    def draws(self) -> int: ...
    def __call__(self, x: Tensor, target: Tensor, u: Tensor) -> tuple[Tensor, Tensor]: ...


@spec
class CutMix:
    """A box of another sample pasted in, the target mixed by area, with the chance `probability` [yun2019cutmix].

    The area is uniform in 0..1. The other sample is the neighbour, 2i with 2i + 1: the order is random already, and so
    a batch may be split among processes at even places.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.probability <= 1, f"probability={self.probability} is no chance")

    @property
    def draws(self) -> int:
        return 4

    def __call__(self, x: Tensor, target: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        require(len(x) % 2 == 0, f"CutMix mixes pairs, and there are {len(x)} samples", instead="an even batch")
        other = torch.arange(len(x), device=x.device) ^ 1
        side = u[:, 1].sqrt() * (u[:, 0] < self.probability)
        inside = box(x, u[:, 2:], (side * x.shape[2]).floor(), (side * x.shape[3]).floor())
        share = inside.flatten(1).to(target.dtype).mean(1, keepdim=True)
        return torch.where(inside, x[other], x), (1 - share) * target + share * target[other]
