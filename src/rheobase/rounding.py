"""Weights as whole numbers of 8 bits, on a grid so coarse that no sum of theirs ever rounds in float32."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 127
DIGITS = 5
"""How many binary digits a scale has: few, so that a sum of weights times its scale is a float32 without rounding."""
FINEST = 2**-16
"""No scale is finer than this part of the bias, as those of a dead channel would be: a float32 has no room for both."""


class Rounded(NamedTuple):
    """Weights `scale * whole` and a bias, per output (axis 0).

    whole: int8, of the shape of the weight. scale, bias: float32 `[outputs]`. error: ||scale * whole - weight|| /
    ||weight||. exact: whether every sum of the weights, times the letters they were rounded for, plus the bias, is a
    float32, in whatever order it is added up; so any kernel gives the same drive, bit for bit.
    """

    whole: Tensor
    scale: Tensor
    bias: Tensor
    error: float
    exact: bool

    @property
    def weight(self) -> Tensor:
        """The weights as float32, without rounding."""
        return self.whole * _along(self.scale, self.whole)

    def reach(self, low: int, high: int) -> Tensor:
        """The largest that a sum of the whole weights times letters low .. high can be while it grows, `[outputs]`."""
        whole = self.whole.flatten(1).double()
        up = torch.maximum(whole * high, whole * low).clamp_(min=0).sum(1)
        down = torch.minimum(whole * high, whole * low).clamp_(max=0).sum(1)
        return torch.maximum(up, -down)


def rounded(weight: Tensor, bias: Tensor | None, low: int, high: int) -> Rounded:
    """`weight` `[outputs, ...]` by least squared error, each output with a scale of its own, for letters low .. high.

    scale = m 2^e, 16 <= m < 32, the best of the octave in which the largest weight is just not clipped and of half an
    octave below, or in which the bias leaves room for it. The bias keeps as many binary digits behind the scale as are
    exact beside the largest sum.

    >>> made = rounded(torch.tensor([[0.5, -0.25]]), torch.tensor([0.25]), 0, 1)
    >>> made.whole.tolist(), made.scale.tolist(), made.bias.tolist(), made.error, made.exact
    ([[64, -32]], [0.0078125], [0.25], 0.0, True)
    """
    weight = weight.detach().float()
    flat = weight.flatten(1)
    offset = flat.new_zeros(len(flat)).double() if bias is None else bias.detach().double()
    largest = torch.maximum(flat.abs().amax(1).double(), LARGEST * FINEST * offset.abs())
    best, error = torch.ones_like(largest), torch.where(largest > 0, torch.inf, 0.0)
    for scale in _scales(largest):
        off = (_whole(flat, scale) * _along(scale.float(), flat) - flat).square().sum(1, dtype=torch.float64)
        better = off < error
        best, error = torch.where(better, scale, best), torch.where(better, off, error)
    whole = _whole(flat, best).to(torch.int8).reshape(weight.shape)
    made = Rounded(whole, best.float(), offset.float(), 0.0, False)
    digits = torch.frexp(best).mantissa * 2**DIGITS
    room = 2**24 / (digits * (made.reach(low, high) + (offset / best).abs() + 1))
    grid = torch.exp2(torch.floor(torch.log2(room)).clamp(0, 12)) / best
    norm = float(flat.square().sum(dtype=torch.float64).sqrt())
    relative = float(error.sum().sqrt()) / norm if norm else 0.0
    return made._replace(
        bias=(torch.round(offset * grid) / grid).float(), error=relative, exact=bool((room >= 1).all())
    )


def _scales(largest: Tensor) -> list[Tensor]:
    """The scales to try for each output, descending from a power of two that clips nothing."""
    top = torch.exp2(torch.ceil(torch.log2(largest.clamp(min=1e-30) / LARGEST)))
    most = 2**DIGITS
    octave = [top * m / most for m in range(most, most // 2, -1)]
    return octave + [scale / 2 for scale in octave[: most // 4]]


def _whole(flat: Tensor, scale: Tensor) -> Tensor:
    return torch.round(flat / _along(scale.float(), flat)).clamp_(-LARGEST, LARGEST)


def _along(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *(1,) * (weight.ndim - 1))
