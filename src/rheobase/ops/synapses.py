"""Operations that hold weights. Synapses cost a multiplication for each message and absorb thresholds."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..kernels import events
from ..spec import spec
from .op import Weights


@spec
class Conv:
    """Cross-correlation in 1, 2 or 3 dimensions (by the weight `[out, in / groups, ...]`), bias in full each step."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int = 1

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        weight = weights["weight"]
        conv = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
        padding = self.padding if isinstance(self.padding, str) else list(self.padding)
        return conv(xs[0], weight, weights.get("bias"), list(self.stride), padding, list(self.dilation), self.groups)

    def on_events(self, weights: Weights, *xs: Tensor) -> Tensor:
        """The same for an input that is mostly zero; the sum runs in the order of the input."""
        x, weight, bias = xs[0], weights["weight"], weights.get("bias")
        if isinstance(self.padding, str) or not events.convolves(
            x, weight, bias, self.stride, self.dilation, self.groups
        ):
            return self(weights, *xs)
        if weight.ndim == 4:
            return events.convolve(x, weight, bias, self.stride, self.padding, self.dilation)
        row = [(n, *rest) for n, rest in zip((1, 0, 1), (self.stride, self.padding, self.dilation), strict=True)]
        return events.convolve(x.unsqueeze(2), weight.unsqueeze(2), bias, *row).squeeze(2)

    def learns(self, weights: Weights, x: Tensor) -> bool:
        """Whether a gradient is wanted: `on_events` then looks at the input whether it is mostly zero."""
        return events.differentiated(x, weights["weight"], weights.get("bias"))


@spec
class Linear:
    """`x W^T + b` over the last axis."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.linear(xs[0], weights["weight"], weights.get("bias"))


@spec
class Affine:
    """`scale * x + shift` per channel (axis 1): a batch norm in eval mode that found no convolution to fold into."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (xs[0].ndim - 2)
        return xs[0] * weights["weight"].reshape(shape) + weights["bias"].reshape(shape)


@spec
class Scale:
    """`scale * x`: a threshold that could not fold into one weight, the weight of an identity synapse."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0] * weights["scale"]


@spec
class ConvTranspose:
    """Transposed convolution in 1, 2 or 3 dimensions, weight `[in, out / groups, ...]`, bias in full each step."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        weight = weights["weight"]
        conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.ndim - 3]
        sizes = (list(self.stride), list(self.padding), list(self.output_padding))
        return conv(xs[0], weight, weights.get("bias"), *sizes, self.groups, list(self.dilation))


@spec
class Shift:
    """`x + bias`: a constant added at each step, such as a position; `bias` broadcasts against one sample."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0] + weights["bias"]


@spec
class Constant:
    """The tensor `bias` for each sample, whatever the input: a class token."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return weights["bias"].expand(len(xs[0]), *weights["bias"].shape)


@spec
class Embedding:
    """The row of `weight` for each whole number of the input."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.embedding(xs[0], weights["weight"])


SYNAPSES = (Conv, ConvTranspose, Linear, Affine)
"""What costs a multiplication for each real number it reads, or an addition for each letter."""
