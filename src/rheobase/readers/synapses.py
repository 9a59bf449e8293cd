"""Layers with weights: convolution, linear, batch norm, embedding, and products with constants."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.nn import functional as F

from .. import ops
from .call import Call, Lowered, Refusal, held, numbers, reads


@reads(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(call: Call) -> Lowered:
    conv: Any = call.module
    call.batched()
    inputs, padding = call.inputs, conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
    if conv.padding_mode != "zeros":
        shape, n = call.shape(call.first), len(conv.kernel_size)
        pad = ops.Pad(pad=tuple(conv._reversed_padding_repeated_twice), mode=conv.padding_mode)
        grown = (*shape[:-n], *(s + before + after for s, before, after in _paddings(shape[-n:], pad.pad)))
        inputs, padding = [call.builder.emit(call.node, pad, {}, inputs, "pad", grown)], (0,) * n
    op = ops.Conv(stride=tuple(conv.stride), padding=padding, dilation=tuple(conv.dilation), groups=conv.groups)
    return op, held(weight=conv.weight, bias=conv.bias), inputs


def _paddings(sizes: tuple[int, ...], pad: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(size, before, after) of each axis, of a padding that names the last axis first."""
    return [(size, pad[2 * k], pad[2 * k + 1]) for k, size in zip(reversed(range(len(sizes))), sizes, strict=True)]


@reads(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d)
def functional_convolution(call: Call) -> Lowered:
    call.batched()
    weight = _given(call, "weight", 1)
    n = weight.ndim - 2
    padding = call.option("padding", 4, 0)
    op = ops.Conv(
        stride=numbers(call.option("stride", 3, 1), n),
        padding=padding if isinstance(padding, str) else numbers(padding, n),
        dilation=numbers(call.option("dilation", 5, 1), n),
        groups=call.option("groups", 6, 1),
    )
    return op, held(weight=weight, bias=call.option("bias", 2)), call.inputs


@reads(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(call: Call) -> Lowered:
    conv: Any = call.module
    call.batched()
    op = ops.ConvTranspose(
        stride=tuple(conv.stride),
        padding=tuple(conv.padding),
        output_padding=tuple(conv.output_padding),
        dilation=tuple(conv.dilation),
        groups=conv.groups,
    )
    return op, held(weight=conv.weight, bias=conv.bias), call.inputs


@reads(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
@reads(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
def functional_transposed_convolution(call: Call) -> Lowered:
    call.batched()
    weight = _given(call, "weight", 1)
    n = weight.ndim - 2
    op = ops.ConvTranspose(
        stride=numbers(call.option("stride", 3, 1), n),
        padding=numbers(call.option("padding", 4, 0), n),
        output_padding=numbers(call.option("output_padding", 5, 0), n),
        dilation=numbers(call.option("dilation", 7, 1), n),
        groups=call.option("groups", 6, 1),
    )
    return op, held(weight=weight, bias=call.option("bias", 2)), call.inputs


def _given(call: Call, name: str, position: int) -> Tensor:
    """A weight, which must not depend on the input."""
    arg = call.node.kwargs.get(name, call.node.args[position] if len(call.node.args) > position else None)
    if not call.is_constant(arg):
        raise Refusal("its weight is computed from the input", "a weight that stays the same for all inputs")
    return call.value(arg)


@reads(nn.Linear, F.linear)
def linear(call: Call) -> Lowered:
    call.axis(-1)
    weight = call.option("weight", None) if call.module is not None else _given(call, "weight", 1)
    return ops.Linear(), held(weight=weight, bias=call.option("bias", 2)), call.inputs


@reads(nn.Embedding)
def embedding(call: Call) -> Lowered:
    table: Any = call.module
    if table.max_norm is not None:
        raise Refusal("max_norm changes its weights when it is called", "nn.Embedding without max_norm")
    return _looked_up(call, table.weight, call.first)


@reads(F.embedding)
def functional_embedding(call: Call) -> Lowered:
    weight, numbers = call.node.args[1], call.node.args[0]
    if isinstance(call.node.target, OpOverload):  # in the other order
        weight, numbers = numbers, weight
    if not call.is_constant(weight) or not isinstance(numbers, fx.Node):
        raise Refusal("its weight is computed from the input", "a weight that stays the same for all inputs")
    return _looked_up(call, call.value(weight), numbers)


def _looked_up(call: Call, weight: Tensor, numbers: fx.Node) -> Lowered:
    if numbers.op != "placeholder":
        raise Refusal("its whole numbers are computed, not given", "give the numbers as an input of the model")
    return ops.Embedding(), {"weight": weight}, [call.name(numbers)]


@reads(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batchnorm(call: Call) -> Lowered:
    bn: Any = call.module
    call.batched()
    if bn.running_mean is None:
        raise Refusal("it normalises by the batch even in eval mode", "track_running_stats=True")
    statistics = bn.running_mean, bn.running_var, bn.num_batches_tracked
    return _normalised(call, statistics, bn.weight, bn.bias, ops.BatchNorm(eps=bn.eps, momentum=bn.momentum))


@reads(F.batch_norm)
def functional_batchnorm(call: Call) -> Lowered:
    call.batched()
    mean, variance = call.option("running_mean", 1), call.option("running_var", 2)
    if mean is None or call.option("training", 5, False):
        raise Refusal("it normalises by the batch", "F.batch_norm(..., training=self.training)")
    op = ops.BatchNorm(eps=call.option("eps", 7, 1e-5), momentum=call.option("momentum", 6, 0.1))
    return _normalised(call, (mean, variance, None), call.option("weight", 3), call.option("bias", 4), op)


def _normalised(
    call: Call, statistics: tuple[Tensor, Tensor, Tensor | None], weight: Any, bias: Any, op: ops.BatchNorm
) -> Lowered:
    mean, variance, batches = statistics
    if mean.ndim != 1 or call.rank < 2:
        raise Refusal("its statistics are not per channel", "a batch norm over axis 1")
    known = held(running_mean=mean, running_var=variance, num_batches_tracked=batches)
    return op, held(weight=weight, bias=bias) | known, call.inputs


@reads(operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply")
def multiply(call: Call) -> Lowered:
    a, b = call.node.args[0], _second(call)
    if call.is_constant(a) or call.is_constant(b):
        stream, factor = (b, a) if call.is_constant(a) else (a, b)
        return ops.Scale(), {"scale": _broadcast(call, stream, factor)}, [call.name(stream)]
    return ops.Multiply(), {}, _alike(call, a, b)


@reads(operator.truediv, operator.itruediv, torch.div, torch.divide, "div", "div_", "divide")
def divide(call: Call) -> Lowered:
    a, b = call.node.args[0], _second(call)
    if call.option("rounding_mode", None) is not None:
        raise Refusal("it rounds", "x / y")
    if call.is_constant(b):
        return ops.Scale(), {"scale": 1.0 / _broadcast(call, a, b)}, [call.name(a)]
    if call.is_constant(a):
        filled, stream = _broadcast(call, b, a).expand(call.shape(b)), call.name(b)
        constant = {"bias": filled}
        name = call.builder.emit(call.node, ops.Constant(), constant, [stream], "constant", tuple(filled.shape))
        return ops.Divide(), {}, [name, stream]
    return ops.Divide(), {}, _alike(call, a, b)


@reads(operator.neg, torch.neg, torch.negative, "neg", "negative", "neg_")
def negative(call: Call) -> Lowered:
    return ops.Scale(), {"scale": -torch.ones((), dtype=call.value(call.first).dtype)}, call.inputs


@reads(operator.add, operator.iadd, torch.add, "add", "add_")
def add(call: Call) -> Lowered:
    return _sum(call, 1.0)


@reads(operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract")
def subtract(call: Call) -> Lowered:
    return _sum(call, -1.0)


@reads(torch.rsub)
def from_other(call: Call) -> Lowered:
    return _sum(call, -1.0, swapped=True)


def _sum(call: Call, sign: float, swapped: bool = False) -> Lowered:
    """`a + sign * b`, either of which may be constant."""
    a, b = call.node.args[0] if call.node.args else call.first, _second(call)
    a, b = (b, a) if swapped else (a, b)
    if call.option("alpha", 2, 1) != 1:
        raise Refusal("alpha scales one summand", "x + y")
    if call.is_constant(b):
        return ops.Shift(), {"bias": sign * _broadcast(call, a, b)}, [call.name(a)]
    if call.is_constant(a):
        return ops.Shift(), {"bias": _broadcast(call, b, a)}, [_signed(call, b, sign)]
    return ops.Add(), {}, [_alike(call, a, b)[0], _signed(call, b, sign)]


def _signed(call: Call, stream: Any, sign: float) -> str:
    """A value, or its negative."""
    if sign > 0:
        return call.name(stream)
    minus = {"scale": -torch.ones((), dtype=call.value(stream).dtype)}
    return call.builder.emit(call.node, ops.Scale(), minus, [call.name(stream)], "minus", call.shape(stream))


@reads(torch.matmul, operator.matmul, torch.bmm, torch.mm, "matmul", "bmm", "__matmul__")
def matmul(call: Call) -> Lowered:
    a, b = call.node.args[0], _second(call)
    if call.is_constant(b) and call.value(b).ndim == 2:
        call.axis(-1, a)
        return ops.Linear(), {"weight": call.value(b).T}, [call.name(a)]
    if call.is_constant(a) or call.is_constant(b):
        raise Refusal("its constant matrix is not the last factor, or has more than two axes", "x @ W, or nn.Linear")
    inputs = _alike(call, a, b)
    for factor in (a, b):
        for dim in (-1, -2):
            call.axis(dim, factor)  # refuses the batch
    return ops.MatMul(), {}, inputs


def _second(call: Call) -> Any:
    return call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs.get("other", call.node.kwargs.get("mat2"))


def _alike(call: Call, a: Any, b: Any) -> list[str]:
    """Two values that meet element by element: their samples must lie along the same axis."""
    if call.layout(a) != call.layout(b) or call.value(a).ndim != call.value(b).ndim:
        raise Refusal("its operands have their samples along different axes", "operands of one shape")
    return [call.name(a), call.name(b)]


def _broadcast(call: Call, stream: Any, constant: Any) -> Tensor:
    """A constant as it meets one sample of a stream."""
    like = call.value(stream)
    value = call.value(constant)
    value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype)
    if not value.is_floating_point():
        value = value.to(like.dtype)
    layout = call.layout(stream)
    if value.ndim == 0 or math.prod(value.shape) == 1:
        return value.reshape(())
    if value.ndim > like.ndim:
        raise Refusal("its constant has more axes than the value it meets", "constants of one sample")
    value = value.reshape(*(1,) * (like.ndim - value.ndim), *value.shape)
    if value.shape[layout.axis] != 1:
        raise Refusal("its constant differs from sample to sample", "one constant for all samples")
    value = value.unsqueeze(layout.axis) if layout.parts > 1 else value
    return value.movedim(layout.axis, 0)[0]
