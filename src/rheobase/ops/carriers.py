"""Linear operations without weights: letters pass through them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import spec
from .op import Weights


@spec
class AvgPool:
    """Average over windows, in 1, 2 or 3 dimensions."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(self.kernel) - 1]
        return pool(
            xs[0], list(self.kernel), list(self.stride), list(self.padding), self.ceil_mode, self.count_include_pad
        )


@spec
class AdaptiveAvgPool:
    """Average over as many windows as `size`, that cover the map and may overlap and differ: if alike, an AvgPool."""

    size: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(self.size) - 1]
        return pool(xs[0], list(self.size))  # type: ignore[arg-type]


@spec
class Mean:
    """Mean over `dims`, counted with the batch axis as 0; with `total` their sum."""

    dims: tuple[int, ...]
    keepdim: bool = False
    total: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        reduce = torch.sum if self.total else torch.mean
        return reduce(xs[0], list(self.dims), self.keepdim)


@spec
class Reshape:
    """Each sample to `shape`: view, reshape, flatten, squeeze and their kin."""

    shape: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].reshape(len(xs[0]), *self.shape)


@spec
class Permute:
    """Axes in the order `dims`, the batch axis first."""

    dims: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].permute(self.dims)


@spec
class Slice:
    """`x[..., start:stop:step, ...]`: one (start, stop, step) per axis, the batch axis whole; None is the end."""

    parts: tuple[tuple[int | None, int | None, int | None], ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0][tuple(slice(*part) for part in self.parts)]


@spec
class Pad:
    """Zeros around, or in another `mode` copies: `pad` as in `torch.nn.functional.pad`, last axis first."""

    pad: tuple[int, ...]
    mode: str = "constant"

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.pad(xs[0], list(self.pad), self.mode)


@spec
class Concat:
    """Inputs side by side along `dim`."""

    dim: int

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return torch.cat(xs, self.dim)


@spec
class Add:
    """The sum of the inputs: where a residual branch meets the trunk."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return sum(xs[1:], start=xs[0])


@spec
class Resize:
    """Up- or downsampling of maps to `size`, as in `torch.nn.functional.interpolate`."""

    size: tuple[int, ...]
    mode: str = "nearest"
    align_corners: bool | None = None

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.interpolate(xs[0], list(self.size), mode=self.mode, align_corners=self.align_corners)


@spec
class Pulse:
    """A constant value in the first of every `block` sub-steps, 0 in the others: what acts once in a step."""

    block: int

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0]

    def over(self, xs: Tensor) -> Tensor:
        """`[T * block, N, ...]`, whole blocks."""
        ys = torch.zeros_like(xs, memory_format=torch.contiguous_format)
        ys[:: self.block] = xs[:: self.block]
        return ys


@spec
class Roll:
    """Axes `dims` shifted round by `shifts`."""

    shifts: tuple[int, ...]
    dims: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return torch.roll(xs[0], self.shifts, self.dims)


@spec
class Flip:
    """Axes `dims` in the opposite order."""

    dims: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return torch.flip(xs[0], self.dims)


@spec
class Expand:
    """Axes of length 1 repeated up to `shape`, that of one sample."""

    shape: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].expand(len(xs[0]), *self.shape)
