"""Augmentations of images, in torch alone: each a function of the image and of a few uniform numbers for it.

As the numbers come from outside, an augmentation has no state and no generator, a batch may be split among processes,
and a resumed run sees the same images.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import require, spec


class Augmentation(Protocol):
    """`augment(x, u)`: images `x` `[N, C, H, W]` in 0..1 and uniform numbers `u` `[N, draws]`, to images alike."""

    @property
    def draws(self) -> int: ...
    def __call__(self, x: Tensor, u: Tensor) -> Tensor: ...


@spec
class Mirror:
    """Mirrored left to right, every second image.

    >>> Mirror()(torch.arange(2.0).reshape(1, 1, 1, 2), torch.tensor([[0.1]])).flatten().tolist()
    [1.0, 0.0]
    """

    @property
    def draws(self) -> int:
        return 1

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where(u.reshape(-1, 1, 1, 1) < 0.5, x.flip(3), x)


@spec
class Crop:
    """Shifted by up to `padding` pixels each way, zeros coming in: the random crop of a padded image."""

    padding: int = 4

    def __post_init__(self) -> None:
        require(self.padding >= 0, f"padding={self.padding} is no number of pixels")

    @property
    def draws(self) -> int:
        return 2

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        height, width = x.shape[2:]
        shift = (u * (2 * self.padding + 1)).long()
        rows = shift[:, :1] + torch.arange(height, device=x.device)
        columns = shift[:, 1:] + torch.arange(width, device=x.device)
        samples = torch.arange(len(x), device=x.device).reshape(-1, 1, 1)
        padded = F.pad(x, (self.padding,) * 4).movedim(1, 3)
        return padded[samples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


@spec
class Jitter:
    """Turned by up to `degrees`, scaled by up to a share `scale`, shifted by up to `shift` pixels; bilinear."""

    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.scale < 1, f"scale={self.scale} is no share")

    @property
    def draws(self) -> int:
        return 4

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        signed = 2 * u - 1
        turn, size = signed[:, 0] * math.radians(self.degrees), 1 + signed[:, 1] * self.scale
        zero = torch.zeros_like(turn)
        rows = [[turn.cos() / size, -turn.sin() / size, zero], [turn.sin() / size, turn.cos() / size, zero]]
        return moved(x, rows, signed[:, 2:] * self.shift)


@spec
class Cutout:
    """A square of `size` pixels set to zero, its centre anywhere: cutout."""

    size: int = 8

    @property
    def draws(self) -> int:
        return 2

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        inside = box(x, u, torch.full_like(u[:, 0], self.size), torch.full_like(u[:, 0], self.size))
        return x.masked_fill(inside, 0.0)


def moved(x: Tensor, rows: list[list[Tensor]], shift: Tensor) -> Tensor:
    """The images under the linear map `rows` (of output to input places) and a shift `[N, 2]` in pixels (x, y)."""
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    size = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
    matrix[:, :, 2] = matrix[:, :, 2] + 2 * shift / size
    grid = F.affine_grid(matrix.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def box(x: Tensor, centre: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Which pixels `[N, 1, H, W]` lie in a box around `centre` `[N, 2]` in 0..1, cut off at the edges."""
    inside = []
    for axis, length in ((0, height), (1, width)):
        size = x.shape[2 + axis]
        middle = (centre[:, axis] * size).floor()
        place = torch.arange(size, device=x.device)
        low, high = middle - (length / 2).floor(), middle + ((length + 1) / 2).floor()
        inside.append((place >= low[:, None]) & (place < high[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
