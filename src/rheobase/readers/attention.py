"""Normalisation, softmax and attention: what couples many numbers. And recurrent layers, which are refused."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .. import ops
from .call import Call, Lowered, Refusal, held, parted, reads


@reads(nn.LayerNorm, F.layer_norm)
def layer_norm(call: Call) -> Lowered:
    shape = call.option("normalized_shape", 1)
    axes = 1 if isinstance(shape, int) else len(tuple(shape))
    for k in range(axes):
        call.axis(-1 - k)
    weights = held(weight=call.option("weight", 2), bias=call.option("bias", 3))
    return ops.LayerNorm(axes=axes, eps=call.option("eps", 4, 1e-5)), weights, call.inputs


@reads(nn.GroupNorm, F.group_norm)
def group_norm(call: Call) -> Lowered:
    call.batched()
    groups = call.option("num_groups", 1)
    weights = held(weight=call.option("weight", 2), bias=call.option("bias", 3))
    return ops.GroupNorm(groups=groups, eps=call.option("eps", 4, 1e-5)), weights, call.inputs


@reads(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def instance_norm(call: Call) -> Lowered:
    call.batched()
    norm: Any = call.module
    if norm.track_running_stats:
        raise Refusal("its running statistics are not read", "nn.BatchNorm, or track_running_stats=False")
    op = ops.GroupNorm(groups=call.shape(call.first)[0], eps=norm.eps)
    return op, held(weight=norm.weight, bias=norm.bias), call.inputs


@reads(nn.Softmax, F.softmax, torch.softmax, "softmax")
def softmax(call: Call) -> Lowered:
    return ops.Softmax(dim=_dim(call)), {}, call.inputs


@reads(nn.LogSoftmax, F.log_softmax, torch.log_softmax, "log_softmax")
def log_softmax(call: Call) -> Lowered:
    return ops.Softmax(dim=_dim(call), log=True), {}, call.inputs


def _dim(call: Call) -> int:
    dim = call.option("dim", 1)
    if dim is None:
        raise Refusal("its axis is not given", "softmax(dim=-1)")
    return call.axis(dim)


@reads(F.scaled_dot_product_attention)
def attention(call: Call) -> Lowered:
    q, k, v = (call.node.kwargs.get(name, _at(call.node, i)) for i, name in enumerate(("query", "key", "value")))
    mask = call.node.kwargs.get("attn_mask", _at(call.node, 3))
    if call.option("dropout_p", 4, 0.0):
        raise Refusal("its dropout stays active in eval mode", "dropout_p=self.p if self.training else 0.0")
    if call.option("enable_gqa", 7, False):
        raise Refusal("grouped queries are not read", "keys and values for each head")
    if not call.is_constant(mask):
        raise Refusal("its mask depends on the input", "a constant mask")
    if len({call.layout(x) for x in (q, k, v)}) > 1:
        raise Refusal("its queries, keys and values have their samples along different axes", "one layout for all")
    for dim in (-1, -2):
        call.axis(dim, q)  # refuses the batch
    op = ops.Attention(scale=call.option("scale", 6), causal=bool(call.option("is_causal", 5, False)))
    weights = {} if mask is None else {"mask": _additive(call.value(mask), call.value(q).dtype)}
    return op, weights, [call.name(x) for x in (q, k, v)]


def _at(node: fx.Node, position: int) -> Any:
    return node.args[position] if len(node.args) > position else None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask


@parted(nn.MultiheadAttention)
def multihead(call: Call, source: fx.Node, which: int) -> Lowered:
    """In projection, attention of each head, out projection: three linear layers around one `Attention`."""
    many = call.of(source)
    layer: Any = many.module
    inputs = [source.kwargs.get(name, _at(source, i)) for i, name in enumerate(("query", "key", "value"))]
    if which != 0:
        raise Refusal("its attention weights are read", "its first answer only")
    if not layer.batch_first or any(call.layout(x) != (0, 1) for x in inputs):
        raise Refusal("the batch is not its first axis", "nn.MultiheadAttention(..., batch_first=True)")
    if layer.bias_k is not None or layer.add_zero_attn or many.option_of(source, "key_padding_mask", 3) is not None:
        raise Refusal("its extra keys or padding mask are not read", "nn.MultiheadAttention without them")
    mask = many.option_of(source, "attn_mask", 5)
    if layer.in_proj_weight is None:
        projections = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    else:
        projections = list(layer.in_proj_weight.chunk(3))
    biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
    emit, size = call.builder.emit, layer.embed_dim // layer.num_heads
    heads = []
    for part, x, weight, bias in zip("qkv", inputs, projections, biases, strict=True):
        tokens = call.shape(x)[0]
        name = emit(source, ops.Linear(), held(weight=weight, bias=bias), [call.name(x)], part, (tokens, len(weight)))
        apart = (tokens, layer.num_heads, size)
        name = emit(source, ops.Reshape(shape=apart), {}, [name], f"{part}.heads", apart)
        turned = (layer.num_heads, tokens, size)
        heads.append(emit(source, ops.Permute(dims=(0, 2, 1, 3)), {}, [name], f"{part}.turned", turned))
    queries = call.shape(inputs[0])[0]
    weights = (
        {} if mask is None else {"mask": _additive(~mask if mask.dtype == torch.bool else mask, projections[0].dtype)}
    )
    name = emit(source, ops.Attention(), weights, heads, "attention", (layer.num_heads, queries, size))
    name = emit(source, ops.Permute(dims=(0, 2, 1, 3)), {}, [name], "back", (queries, layer.num_heads, size))
    joined = (queries, layer.embed_dim)
    name = emit(source, ops.Reshape(shape=joined), {}, [name], "joined", joined)
    return ops.Linear(), held(weight=layer.out_proj.weight, bias=layer.out_proj.bias), [name]


@reads(nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
def recurrent(call: Call) -> Lowered:
    raise Refusal(
        "a recurrent layer has a time of its own, which a conversion by rates cannot follow",
        "convolutions or attention over time, or train a spiking network directly",
    )
