"""Pooling, resizing, means and maxima."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .. import ops
from .call import Call, Lowered, Refusal, numbers, reads


@reads(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def avgpool(call: Call) -> Lowered:
    call.batched()
    n = call.rank - 2
    kernel = numbers(call.option("kernel_size", 1), n)
    if call.option("divisor_override", 6) is not None:
        raise Refusal("divisor_override is not read", "AvgPool without it")
    op = ops.AvgPool(
        kernel=kernel,
        stride=numbers(call.option("stride", 2) or kernel, n),
        padding=numbers(call.option("padding", 3, 0), n),
        ceil_mode=bool(call.option("ceil_mode", 4, False)),
        count_include_pad=bool(call.option("count_include_pad", 5, True)),
    )
    return op, {}, call.inputs


@reads(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d)
@reads(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
def maxpool(call: Call) -> Lowered:
    call.batched()
    n = call.rank - 2
    kernel = numbers(call.option("kernel_size", 1), n)
    op = ops.MaxPool(
        kernel=kernel,
        stride=numbers(call.option("stride", 2) or kernel, n),
        padding=numbers(call.option("padding", 3, 0), n),
        dilation=numbers(call.option("dilation", 4, 1), n),
        ceil_mode=bool(call.option("ceil_mode", 5, False)),
    )
    return op, {}, call.inputs


@reads(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
@reads(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def adaptive_avgpool(call: Call) -> Lowered:
    """Where windows are all alike it is an AvgPool, and of one place each it is nothing."""
    call.batched()
    read, size = (call.shape(of)[-(call.rank - 2) :] for of in (call.first, call.node))
    if read == size:
        return call.inputs[0]
    if any(n % m for n, m in zip(read, size, strict=True)):
        return ops.AdaptiveAvgPool(size=size), {}, call.inputs
    kernel = tuple(n // m for n, m in zip(read, size, strict=True))
    return ops.AvgPool(kernel=kernel, stride=kernel, padding=(0,) * len(kernel)), {}, call.inputs


@reads(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
@reads(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def adaptive_maxpool(call: Call) -> Lowered:
    call.batched()
    return ops.AdaptiveMaxPool(size=call.shape(call.node)[-(call.rank - 2) :]), {}, call.inputs


@reads(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, F.interpolate)
def resize(call: Call) -> Lowered:
    call.batched()
    mode, factor = call.option("mode", 3, "nearest"), call.option("scale_factor", 2)
    if call.option("antialias", 6, False):
        raise Refusal("antialias is not read", "F.interpolate(..., antialias=False)")
    size = call.shape(call.node)[-(call.rank - 2) :]
    exact = tuple(s * f for s, f in zip(call.shape(call.first)[-len(size) :], _factors(factor, len(size)), strict=True))
    if factor is not None and exact != size and mode != "nearest":
        raise Refusal(f"scale_factor={factor} gives no whole size", "size=(rows, columns)")
    align = call.option("align_corners", 4)
    return (
        ops.Resize(size=size, mode=mode, align_corners=align if mode not in ("nearest", "area") else None),
        {},
        (call.inputs),
    )


def _factors(factor: Any, n: int) -> tuple[float, ...]:
    return tuple(factor) if isinstance(factor, (tuple, list)) else (factor or 1,) * n


@reads("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_bilinear2d", "aten.upsample_linear1d")
def aten_resize(call: Call) -> Lowered:
    call.batched()
    name = str(call.node.target)
    mode = next(mode for mode in ("nearest", "bilinear", "linear") if f"_{mode}" in name)
    align = call.option("align_corners", None)
    return ops.Resize(size=call.shape(call.node)[1:], mode=mode, align_corners=align), {}, call.inputs


@reads(torch.mean, "mean")
def mean(call: Call) -> Lowered:
    return ops.Mean(dims=_dims(call), keepdim=bool(call.option("keepdim", 2, False))), {}, call.inputs


@reads(torch.sum, "sum")
def total(call: Call) -> Lowered:
    return ops.Mean(dims=_dims(call), keepdim=bool(call.option("keepdim", 2, False)), total=True), {}, call.inputs


@reads(torch.amax, "amax")
def amax(call: Call) -> Lowered:
    return ops.Maximum(dims=_dims(call), keepdim=bool(call.option("keepdim", 2, False))), {}, call.inputs


def _dims(call: Call) -> tuple[int, ...]:
    dims = call.option("dim", 1)
    if dims is None:
        raise Refusal("a reduction over everything mixes the samples", "x.mean((2, 3)) names the axes")
    return tuple(call.axis(d) for d in ((dims,) if isinstance(dims, int) else dims))
