"""Convolution of events in C++: only what is not 0 in the input costs time, and so does the gradient of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .named import asked
from .operators import MISSING
from .room import ROOM

Sizes = tuple[int, ...]

FEW = 0.35
"""The share of the input up to which the answer is faster by events than by `F.conv2d`; measured, with AVX2."""
SOME = 0.7
"""The share of the input up to which the gradient of the weights is faster by events, but for listing them."""
LISTED = 16
"""To list an event takes as long as to add up its gradients for so many outputs."""
KERNEL = 7
"""How wide a kernel may be whose weights have their gradient by events."""
LOOKED_AT = 8
"""How many samples at least say which share of an input is events, if there are as many."""


def convolves(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, dilation: Sizes, groups: int) -> bool:
    """Whether `convolve` takes such a convolution: 1-D or 2-D, one group, rows undilated, float32.

    Where a gradient is wanted also: stride 1, kernels up to `KERNEL` wide, and no autocast, which asks for fewer bits.
    """
    if MISSING or asked() not in ("", "cpu") or x.device.type != "cpu":
        return False
    plain = weight.ndim in (3, 4) and groups == 1 and dilation[-1] == 1 and x.dtype == weight.dtype == torch.float32
    if not (plain and differentiated(x, weight, bias)):
        return plain
    traced = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    return set(stride) == {1} and weight.shape[-1] <= KERNEL and not traced


def differentiated(*parts: Tensor | None) -> bool:
    """Whether a gradient by one of them may be asked for."""
    return torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in parts)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    """`conv2d` of events: only what is not 0 in `x` `[N, C, H, W]` costs time. Channels last.

    The order of the sum is that of the input, whatever else is in the batch; it is not that of `F.conv2d`. Where a
    gradient is wanted, a few samples of the input are looked at: with more events than `FEW`, or where channels are
    not last in memory, the answer is that of `F.conv2d`; with more than `SOME` so is the gradient of the weights.
    """
    if not differentiated(x, weight, bias):
        return _answer(x, weight, bias, stride, padding, dilation)
    some = x.detach()[:: max(1, len(x) // LOOKED_AT)]
    share = int(some.count_nonzero()) / max(1, some.numel())
    if share * (1 + LISTED / len(weight)) > SOME:
        return F.conv2d(x, weight, bias, stride, padding, dilation)
    few = share <= FEW and _lies_channels_last(x)
    return _Learned.apply(x, weight, bias, padding, dilation, few)


def _answer(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    )
    lent = torch.empty if torch.compiler.is_compiling() else ROOM.empty
    y = lent((len(x), height, width, len(weight)))
    torch.ops.rheobase.event_conv(
        _channels_last(x),
        weight.detach(),
        None if bias is None else bias.detach().contiguous(),
        list(stride),
        list(padding),
        dilation[0],
        y,
    )
    return y.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    """`[N, H, W, C]`, dense."""
    return x.detach().permute(0, 2, 3, 1).contiguous()


def _lies_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _laid(x: Tensor) -> tuple[Tensor, bool]:
    """The same in memory without gaps, and whether its channels are last there."""
    last = _lies_channels_last(x)
    return x if last else x.contiguous(), last


class _Learned(torch.autograd.Function):
    """`conv2d` with stride 1 whose weights have their gradient by events; few: the answer is by events too.

        d loss / d weight[o, c, k] = sum over samples and places i of g[o, i] x[c, i + k]

    The gradient of the input is dense and PyTorch's.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sizes, dilation: Sizes, few: bool) -> Tensor:
        return (_answer if few else F.conv2d)(x, weight, bias, (1, 1), padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.padding, ctx.dilation, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None and bias.requires_grad

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        sizes = [1, 1], list(ctx.padding), list(ctx.dilation)
        wanted = [ctx.needs_input_grad[0], False, ctx.biased]
        to_x, _, to_bias = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)] if ctx.biased else None, *sizes, False, [0, 0], 1, wanted
        )
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty_like(weight)
            torch.ops.rheobase.event_conv_weight(*_laid(x), *_laid(grad), sizes[1], ctx.dilation[0], to_weight)
        return to_x, to_weight, to_bias, None, None, None
