"""RandAugment: a few operations on colours and places, chosen anew for each image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import require, spec
from .augment import moved

Operation = Callable[[Tensor, Tensor], Tensor]
"""`operation(x, strength)`: images `[N, C, H, W]` in 0..1, a strength `[N]` in -1..1, to images alike."""


@spec
class RandAugment:
    """`count` operations one after the other, each of OPERATIONS with equal chance [cubuk2020randaugment].

    magnitude: in 0..10, the strength is magnitude / 10 with either sign; colours are left alone where C is not 3.
    """

    count: int = 2
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        require(self.count >= 1, f"count={self.count} does nothing")
        require(0 <= self.magnitude <= 10, f"magnitude={self.magnitude} is not in 0..10")

    @property
    def draws(self) -> int:
        return 2 * self.count

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        for pair in u.split(2, 1):
            x = self.once(x, *pair.unbind(1))
        return x

    def once(self, x: Tensor, which: Tensor, sign: Tensor) -> Tensor:
        """One operation for each image."""
        chosen = (which * len(OPERATIONS)).long()
        strength = torch.where(sign < 0.5, -1.0, 1.0) * self.magnitude / 10
        result = x.clone()
        for number, operation in enumerate(OPERATIONS):
            mask = chosen == number
            if bool(mask.any()):
                result[mask] = operation(x[mask], strength[mask])
        return result


def per_image(strength: Tensor) -> Tensor:
    """`[N]` so that it broadcasts against images."""
    return strength.reshape(-1, 1, 1, 1)


def blend(x: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """`other + (1 + 0.9 s) (x - other)`, kept in 0..1."""
    return (other + (1 + 0.9 * per_image(strength)) * (x - other)).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """The luminance of RGB, and the image itself where there are no three channels."""
    if x.shape[1] != 3:
        return x
    return (x * x.new_tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, keepdim=True).expand_as(x)


def identity(x: Tensor, strength: Tensor) -> Tensor:
    return x


def brightness(x: Tensor, strength: Tensor) -> Tensor:
    return blend(x, torch.zeros_like(x), strength)


def colour(x: Tensor, strength: Tensor) -> Tensor:
    return blend(x, grey(x), strength)


def contrast(x: Tensor, strength: Tensor) -> Tensor:
    return blend(x, grey(x).mean((1, 2, 3), keepdim=True).expand_as(x), strength)


def sharpness(x: Tensor, strength: Tensor) -> Tensor:
    kernel = x.new_tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]).expand(x.shape[1], 1, 3, 3) / 13
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=x.shape[1])
    return blend(x, smooth, strength)


def posterise(x: Tensor, strength: Tensor) -> Tensor:
    """The highest 8 to 4 bits of each number."""
    step = 2.0 ** (4 * per_image(strength).abs()).round()
    return ((x * 255 / step).floor() * step / 255).clamp(0, 1)


def solarise(x: Tensor, strength: Tensor) -> Tensor:
    """What is brighter than the threshold is inverted."""
    return torch.where(x > 1 - per_image(strength).abs(), 1 - x, x)


def stretched(x: Tensor, strength: Tensor) -> Tensor:
    """The darkest number of each channel becomes 0, the brightest 1."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def equalised(x: Tensor, strength: Tensor) -> Tensor:
    """Every number of a channel becomes the share of its pixels that are not brighter, in 256 levels."""
    levels = (x * 255).round().long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    below = counts.cumsum(2)
    lowest = levels.amin(2, keepdim=True)
    floor = below.gather(2, lowest)
    share = (below.gather(2, levels) - floor) / (levels.shape[2] - floor).clamp_min(1)
    return share.to(x.dtype).reshape(x.shape)


def _linear(x: Tensor, strength: Tensor, place: tuple[int, int], most: float) -> Tensor:
    """The unit map with one entry of up to `most`."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    rows = [[one, zero, zero], [zero, one, zero]]
    rows[place[0]][place[1]] = strength * most
    return moved(x, rows, torch.zeros(len(x), 2, device=x.device))


def shear_x(x: Tensor, strength: Tensor) -> Tensor:
    return _linear(x, strength, (0, 1), 0.3)


def shear_y(x: Tensor, strength: Tensor) -> Tensor:
    return _linear(x, strength, (1, 0), 0.3)


def shift_x(x: Tensor, strength: Tensor) -> Tensor:
    return _linear(x, strength, (0, 2), 0.6)


def shift_y(x: Tensor, strength: Tensor) -> Tensor:
    return _linear(x, strength, (1, 2), 0.6)


def rotate(x: Tensor, strength: Tensor) -> Tensor:
    turn = torch.deg2rad(30 * strength)
    zero = torch.zeros_like(turn)
    rows = [[turn.cos(), -turn.sin(), zero], [turn.sin(), turn.cos(), zero]]
    return moved(x, rows, torch.zeros(len(x), 2, device=x.device))


OPERATIONS: tuple[Operation, ...] = (
    identity,
    stretched,
    equalised,
    rotate,
    solarise,
    colour,
    posterise,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    shift_x,
    shift_y,
)
