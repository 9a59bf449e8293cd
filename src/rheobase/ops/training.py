"""Operations that act differently in training: batch norm and dropout. They see all T steps of a batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import require, spec
from .op import Weights


@spec
class BatchNorm:
    """`(x - mean) / sqrt(var + eps) * weight + bias` per channel (axis 1).

    In training mean and var are those of the batch over all its steps, T * N samples, and the running ones follow by
    `momentum` (None: the average of all batches); otherwise the running ones. A drive that is constant in time counts
    once. Source: [ioffe2015batchnorm].
    """

    eps: float = 1e-5
    momentum: float | None = 0.1

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        mean, variance = weights["running_mean"], weights["running_var"]
        return F.batch_norm(xs[0], mean, variance, weights.get("weight"), weights.get("bias"), False, 0.0, self.eps)

    def trained(self, weights: Weights, xs: Tensor) -> Tensor:
        """`[T, N, ...]` in training; the running statistics move."""
        still = xs.stride(0) == 0
        x = xs[0] if still else xs.flatten(0, 1)
        share = self.momentum
        if (batches := weights.get("num_batches_tracked")) is not None:
            batches.add_(1)
            share = 1 / float(batches) if share is None else share
        statistics = weights["running_mean"], weights["running_var"]
        y = F.batch_norm(x, *statistics, weights.get("weight"), weights.get("bias"), True, share or 0.0, self.eps)
        return y.unsqueeze(0).expand(len(xs), *y.shape) if still else y.unflatten(0, xs.shape[:2])

    def affine(self, weights: Weights) -> dict[str, Tensor]:
        """The weights of the `Affine` that it is outside of training, in float64."""
        mean, variance = weights["running_mean"].double(), weights["running_var"].double()
        scale = (variance + self.eps).rsqrt()
        scale = scale * weights["weight"].double() if "weight" in weights else scale
        shift = -mean * scale
        return {"weight": scale, "bias": shift + weights["bias"].double() if "bias" in weights else shift}


@spec
class Dropout:
    """In training each number is 0 with probability p and otherwise divided by 1 - p; nothing outside of training.

    The same numbers drop at every step of a run, so that the network that trains is one network for all T steps.
    channels: whole channels (axis 1) drop together.
    """

    p: float = 0.5
    channels: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, f"Dropout(p={self.p}) is no probability")

    def __call__(self, weights: Weights, *xs: Tensor) -> Tensor:
        return xs[0]

    def trained(self, weights: Weights, xs: Tensor) -> Tensor:
        """`[T, N, ...]` in training."""
        some = xs.shape[1:3] if self.channels else xs.shape[1:]
        kept = (torch.rand(some, device=xs.device) >= self.p).to(xs.dtype) / max(1 - self.p, 1e-9)
        kept = kept.reshape(*some, *(1,) * (xs.ndim - 1 - len(some)))
        return (xs[0] * kept).expand(xs.shape) if xs.stride(0) == 0 else xs * kept


TRAINED = (BatchNorm, Dropout)
"""What has a method `trained(weights, xs)` for training, `[T, N, ...]` to the same."""
