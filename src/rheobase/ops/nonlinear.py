"""Operations that are not linear, and the temporal difference by which they follow what changes in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import require, spec
from .op import Weights

# --- maxima: f(a x) = a f(x) for a >= 0, so their difference over time is exact ------------------------------------


@spec
class MaxPool:
    """Maximum over windows. The difference over time has the values of MSAT's lateral-inhibition pooling."""

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


@spec
class AdaptiveMaxPool:
    """Maximum over windows that tile the map into `size`."""

    size: tuple[int, ...]

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[len(self.size) - 1]
        return pool(xs[0], list(self.size))  # type: ignore[arg-type]


@spec
class Maximum:
    """Maximum over `dims`, counted with the batch axis as 0."""

    dims: tuple[int, ...]
    keepdim: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].amax(self.dims, self.keepdim)


MAXIMA = (MaxPool, AdaptiveMaxPool, Maximum)

# --- functions of one number ----------------------------------------------------------------------------------------


class Range(NamedTuple):
    """A function of one number: what it computes, the least and the greatest of its values (None: no bound)."""

    compute: Callable[..., Tensor]
    low: float | None = None
    high: float | None = None


FUNCTIONS: dict[str, Range] = {
    "relu": Range(F.relu, 0.0),
    "clip": Range(lambda x, low, high: x.clamp(low, high)),
    "leaky_relu": Range(F.leaky_relu),
    "elu": Range(F.elu),
    "celu": Range(F.celu),
    "selu": Range(lambda x: F.selu(x)),
    "silu": Range(lambda x: F.silu(x)),
    "gelu": Range(F.gelu),
    "gelu_tanh": Range(lambda x: F.gelu(x, approximate="tanh")),
    "mish": Range(lambda x: F.mish(x)),
    "hardswish": Range(lambda x: F.hardswish(x)),
    "softplus": Range(F.softplus, 0.0),
    "sigmoid": Range(torch.sigmoid, 0.0, 1.0),
    "hardsigmoid": Range(lambda x: F.hardsigmoid(x), 0.0, 1.0),
    "tanh": Range(torch.tanh, -1.0, 1.0),
    "softsign": Range(F.softsign, -1.0, 1.0),
    "abs": Range(torch.abs, 0.0),
    "square": Range(torch.square, 0.0),
    "sqrt": Range(torch.sqrt, 0.0),
    "rsqrt": Range(torch.rsqrt, 0.0),
    "exp": Range(torch.exp, 0.0),
}


@spec(kw_only=False)
class Function:
    """A function of one number by its name in `FUNCTIONS`, with its constants; "prelu" has a weight per channel."""

    name: str
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(self.name in FUNCTIONS or self.name == "prelu", f"there is no function {self.name!r}")

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        if self.name == "prelu":
            return F.prelu(xs[0], weights["weight"])
        return FUNCTIONS[self.name].compute(xs[0], *self.constants)

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The least and the greatest value, None where there is no bound."""
        if self.name == "clip":
            low, high = self.constants
            return low, high
        return FUNCTIONS[self.name][1:] if self.name in FUNCTIONS else (None, None)


# --- what couples many numbers --------------------------------------------------------------------------------------


@spec
class LayerNorm:
    """`(x - mean) / sqrt(var + eps)` over the last `axes` axes, then `* weight + bias` where there are such."""

    axes: int
    eps: float = 1e-5

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        shape = list(xs[0].shape[-self.axes :])
        return F.layer_norm(xs[0], shape, weights.get("weight"), weights.get("bias"), self.eps)


@spec
class GroupNorm:
    """`(x - mean) / sqrt(var + eps)` over each group of channels, then `* weight + bias` where there are such."""

    groups: int
    eps: float = 1e-5

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return F.group_norm(xs[0], self.groups, weights.get("weight"), weights.get("bias"), self.eps)


@spec
class Softmax:
    """`exp(x) / sum exp(x)` along `dim`, counted with the batch axis as 0; with `log` its logarithm."""

    dim: int
    log: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0].log_softmax(self.dim) if self.log else xs[0].softmax(self.dim)


@spec
class MatMul:
    """The matrix product of two values that both depend on the input."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0] @ xs[1]


@spec
class Multiply:
    """The product of two values that both depend on the input: a gate."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0] * xs[1]


@spec
class Divide:
    """The quotient of two values that both depend on the input."""

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0] / xs[1]


@spec
class Attention:
    """`softmax(q k^T scale + mask) v` over the last two axes; scale None is 1 / sqrt(size of q)."""

    scale: float | None = None
    causal: bool = False

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        q, k, v = xs
        logits = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if self.scale is None else self.scale)
        if self.causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            logits = logits.masked_fill(later, -torch.inf)
        return (logits + weights["mask"] if "mask" in weights else logits).softmax(-1) @ v


NONLINEAR = (*MAXIMA, Function, LayerNorm, GroupNorm, Softmax, MatMul, Multiply, Divide, Attention)


@spec(kw_only=False)
class Difference:
    """The temporal difference of an operation f that is not linear: what leaves sums up to f of the mean input.

        S(t) = sum of x up to t,     y(t) = t f(S(t) / t) - (t - 1) f(S(t-1) / (t-1))

    so that the sum of y up to t is t f(S(t) / t). With several inputs each has its own S. The limit is f of the limit,
    so no error of its own is left for long T. A maximum needs no division, f(S(t)) = t f(S(t) / t), and so sends
    nothing but differences of what came in: exact.
    Source: spiking softmax and layer norm of [you2024spikezip].
    """

    op: Any

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return self.op(weights, *xs)

    @property
    def exact(self) -> bool:
        """Whether f(a x) = a f(x) for a >= 0."""
        return isinstance(self.op, MAXIMA)

    def scan(
        self, weights: Weights, xs: list[Tensor], memory: tuple[int, list[Tensor], Tensor] | None
    ) -> tuple[Tensor, tuple[int, list[Tensor], Tensor] | None]:
        """`[T, N, ...]` to `[T, N, ...]`; the memory is (t, the sums S, t f(S / t)), in float32 at least.

        What is constant in time is computed once and needs no memory.
        """
        if all(x.stride(0) == 0 for x in xs):
            y = self.op(weights, *(x[0] for x in xs))
            return y.unsqueeze(0).expand(len(xs[0]), *y.shape), None
        (steps, samples), dtype = xs[0].shape[:2], torch.promote_types(xs[0].dtype, torch.float32)
        t, sums, last = memory or (0, [torch.zeros_like(x[0], dtype=dtype) for x in xs], None)
        running = [_running(x, before) for x, before in zip(xs, sums, strict=True)]
        times = torch.arange(t + 1, t + steps + 1, device=xs[0].device, dtype=dtype).repeat_interleave(samples)
        means = running if self.exact else [s / times.reshape(-1, *(1,) * (s.ndim - 1)) for s in running]
        total = self.op(weights, *means)
        if not self.exact:
            total = total * times.reshape(-1, *(1,) * (total.ndim - 1))
        last = torch.zeros_like(total[:samples]) if last is None else last
        ys = (total - torch.cat([last, total[:-samples]])).to(xs[0].dtype).unflatten(0, (steps, samples))
        return ys, (t + steps, [s[-samples:] for s in running], total[-samples:])


def _running(xs: Tensor, before: Tensor) -> Tensor:
    """The sums up to each step as `[T * N, ...]`, added one by one: the same bits in one piece or in chunks."""
    sums = []
    for x in xs.unbind(0):
        before = before + x
        sums.append(before)
    return torch.cat(sums)


def in_time(op: Any) -> Any:
    """The operation as it runs over time."""
    return Difference(op) if isinstance(op, NONLINEAR) else op
