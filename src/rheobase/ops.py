"""The closed vocabulary of a network: every node is one of these specs, so a saved network is data and never code.

An op works on one step `[N, ...]`; `network` runs it over time. What an op does to time and to scale is said by two
class attributes: `linear` (f(a x) = a f(x), so letters may pass and thresholds fold through) and by being `Stateful`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .kernels import choose, cpu
from .membrane import Membrane, Tensors
from .neuron import Emission, Neuron, in_time
from .spec import spec

Weights = Mapping[str, Tensor]


class Op(Protocol):
    """`op(weights, *inputs) -> output`, one step, `[N, ...]`."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor: ...


# --- synapses: they hold weights, cost operations and absorb thresholds ------------------------------------------


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
        weight, padding = weights["weight"], self.padding
        if isinstance(padding, str) or not cpu.convolves(xs[0], weight, self.dilation, self.groups):
            return self(weights, *xs)
        return cpu.convolve(xs[0], weight, weights.get("bias"), self.stride, padding, self.dilation)


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


SYNAPSES = (Conv, Linear, Affine)

# --- carriers: linear, without weights, letters pass through ----------------------------------------------------


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
    """Average over windows that tile the map into `size`."""

    size: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(self.size) - 1]
        return pool(xs[0], list(self.size))  # type: ignore[arg-type]


@spec
class Mean:
    """Mean over `dims`, counted with the batch axis as 0."""

    dims: tuple[int, ...]
    keepdim: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].mean(list(self.dims), self.keepdim)


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
    """Zeros around: `pad` as in `torch.nn.functional.pad`, last axis first."""

    pad: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.pad(xs[0], list(self.pad))


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
class MaxPool:
    """Maximum over windows. Over time exact: its running output is the window's maximum of the running input.

        m(t) = max over the window of sum_{i<=t} x(i);   y(t) = m(t) - m(t-1)

    The same values as the lateral-inhibition pooling of MSAT's authors, without their unfolded copy.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.kernel) - 1]
        return pool(
            xs[0], list(self.kernel), list(self.stride), list(self.padding), list(self.dilation), self.ceil_mode
        )

    def scan(
        self, weights: Weights, xs: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`[T, N, ...]` to `[T, N, ...]`; the memory is (running input, its maximum), in float32 at least."""
        dtype = torch.promote_types(xs.dtype, torch.float32)
        if memory is None:
            running = torch.zeros_like(xs[0], dtype=dtype)
            memory = (running, self(weights, running))
        running, maximum = memory
        ys = []
        for x in xs.unbind(0):
            running = running + x
            new = self(weights, running)
            ys.append((new - maximum).to(xs.dtype))
            maximum = new
        return in_time(ys), (running, maximum)


# --- activations: what a conversion replaces, and what it puts there ----------------------------------------------


@spec
class Rectify:
    """The activation of the source network: `clip(x, 0, bound)`; with `levels` L the QCFS staircase of L steps.

    bound None: max(x, 0)       levels L: bound * clip(floor(x L / bound + 1/2) / L, 0, 1)
    """

    bound: float | None = None
    levels: int | None = None

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        if self.bound is None:
            return F.relu(xs[0])
        if self.levels is None:
            return xs[0].clamp(0, self.bound)
        return torch.floor(xs[0] * self.levels / self.bound + 0.5).clamp(0, self.levels) * (self.bound / self.levels)


@spec
class Spike:
    """A population of neurons. `letters`: theta is folded into what reads it, so the letter itself travels."""

    neuron: Neuron
    letters: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        raise TypeError("a neuron has memory: it runs by scan")

    def scan(self, weights: Weights, xs: Tensor, memory: Membrane | None) -> tuple[Emission, Membrane]:
        """The letters `[T, N, ...]` and what each is worth, by the first kernel that takes the neuron."""
        tensors = Tensors(**{name: weights[name] for name in Tensors._fields if name in weights})
        return choose(self.neuron, tensors, xs).run(self.neuron, tensors, xs, memory)
