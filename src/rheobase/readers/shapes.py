"""What moves numbers without changing them: views, axes, slices, parts, padding, joining."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .. import ops
from .call import PARTS, Call, Lowered, Refusal, parted, reads, spelling

Cut = tuple[int | None, int | None, int | None]
WHOLE: Cut = (None, None, None)


@reads(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def dropout(call: Call) -> Lowered:
    drop: Any = call.module
    return ops.Dropout(p=drop.p, channels=not isinstance(drop, nn.Dropout)), {}, call.inputs


@reads(nn.Identity, nn.AlphaDropout, nn.FeatureAlphaDropout)
@reads("contiguous", "clone", "detach", torch.clone, "requires_grad_")
def identity(call: Call) -> Lowered:
    return call.inputs[0]


@reads(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
def functional_dropout(call: Call) -> Lowered:
    if call.option("training", 2, True):
        raise Refusal("dropout stays active in eval mode", "F.dropout(x, training=self.training), or nn.Dropout")
    return call.inputs[0]


@reads("to", "float", "type_as", "double", "half", "bfloat16", "type")
def cast(call: Call) -> Lowered:
    if call.value(call.first).dtype != call.value(call.node).dtype:
        raise Refusal("it changes the dtype", "one dtype throughout; snn.to(dtype) changes that of a converted network")
    return call.inputs[0]


@reads(nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten)
@reads("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def reshape(call: Call) -> Lowered:
    before, after = call.shape(call.first), call.shape(call.node)
    return call.inputs[0] if before == after else (ops.Reshape(shape=after), {}, call.inputs)


@reads(torch.permute, "permute")
def permute(call: Call) -> Lowered:
    dims = call.option("dims", 1)
    dims = call.value(call.node.args[1:]) if isinstance(dims, int) else dims
    return _permuted(call, tuple(d % call.rank for d in dims))


@reads(torch.transpose, torch.swapaxes, "transpose", "swapaxes")
def transpose(call: Call) -> Lowered:
    a, b = call.option("dim0", 1) % call.rank, call.option("dim1", 2) % call.rank
    order = list(range(call.rank))
    order[a], order[b] = b, a
    return _permuted(call, tuple(order))


@reads("t", torch.t)
def transposed(call: Call) -> Lowered:
    return _permuted(call, (1, 0))


def _permuted(call: Call, dims: tuple[int, ...]) -> Lowered:
    """The samples stay in front in the graph, wherever the model moves them."""
    before, after = call.layout(call.first), call.layout(call.node)
    if dims[after.axis] != before.axis:
        raise Refusal("it takes another axis for the batch", "keep the samples apart")
    order = [0] * (len(call.shape(call.first)) + 1)
    if before.parts > 1:
        order[after.axis + 1] = before.axis + 1
    for at, dim in enumerate(dims):
        if dim != before.axis:
            order[after.place(at)] = before.place(dim)
    return call.inputs[0] if order == sorted(order) else (ops.Permute(dims=tuple(order)), {}, call.inputs)


@reads(nn.PixelShuffle, F.pixel_shuffle)
def pixel_shuffle(call: Call) -> Lowered:
    """`[C r r, H, W]` to `[C, r H, r W]`."""
    call.batched()
    r = call.option("upscale_factor", 1)
    channels, height, width = call.shape(call.first)
    apart = (channels // (r * r), r, r, height, width)
    emit, node = call.builder.emit, call.node
    name = emit(node, ops.Reshape(shape=apart), {}, call.inputs, "apart", apart)
    order = (0, 1, 4, 2, 5, 3)
    name = emit(node, ops.Permute(dims=order), {}, [name], "order", tuple(apart[d - 1] for d in order[1:]))
    return ops.Reshape(shape=call.shape(node)), {}, [name]


@reads(nn.ChannelShuffle, F.channel_shuffle)
def channel_shuffle(call: Call) -> Lowered:
    call.batched()
    groups, (channels, *rest) = call.option("groups", 1), call.shape(call.first)
    emit, node, apart = call.builder.emit, call.node, (groups, channels // groups, *rest)
    name = emit(node, ops.Reshape(shape=apart), {}, call.inputs, "apart", apart)
    order = (0, 2, 1, *range(3, len(apart) + 1))
    name = emit(node, ops.Permute(dims=order), {}, [name], "order", (apart[1], apart[0], *rest))
    return ops.Reshape(shape=call.shape(node)), {}, [name]


@reads(torch.roll, "roll")
def roll(call: Call) -> Lowered:
    shifts, dims = call.option("shifts", 1), call.option("dims", 2)
    if dims is None:
        raise Refusal("it rolls over all axes as one", "torch.roll(x, shifts, dims)")
    dims = (dims,) if isinstance(dims, int) else dims
    shifts = (shifts,) if isinstance(shifts, int) else shifts
    return ops.Roll(shifts=tuple(shifts), dims=tuple(call.axis(d) for d in dims)), {}, call.inputs


@reads(torch.flip, "flip")
def flip(call: Call) -> Lowered:
    dims = call.option("dims", 1)
    dims = call.value(call.node.args[1:]) if isinstance(dims, int) else dims
    return ops.Flip(dims=tuple(call.axis(d) for d in dims)), {}, call.inputs


@reads("expand", "expand_as", torch.broadcast_to)
def expand(call: Call) -> Lowered:
    if call.value(call.node).ndim != call.rank:
        raise Refusal("it adds axes in front", "x.unsqueeze(1).expand(-1, n, -1)")
    return ops.Expand(shape=call.shape(call.node)), {}, call.inputs


@reads(F.pad, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
@reads(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad2d)
def pad(call: Call) -> Lowered:
    mode = _PADS.get(type(call.module)) or call.option("mode", 2, "constant")
    value = call.option("value", 3, 0)
    amounts = call.option("padding", None) if call.module is not None else call.option("pad", 1)
    amounts = (amounts,) * 2 * (call.rank - 2) if isinstance(amounts, int) else tuple(amounts)
    if mode == "constant" and value not in (None, 0):
        raise Refusal(f"it pads with {value}", "zeros")
    for k in range(len(amounts) // 2):
        if any(amounts[2 * k : 2 * k + 2]):
            call.axis(-1 - k)
    return ops.Pad(pad=amounts, mode=mode), {}, call.inputs


_PADS: dict[type, str] = {
    nn.ReflectionPad1d: "reflect",
    nn.ReflectionPad2d: "reflect",
    nn.ReplicationPad1d: "replicate",
    nn.ReplicationPad2d: "replicate",
    nn.CircularPad2d: "circular",
}


@reads(torch.cat, torch.concat, torch.concatenate)
def concat(call: Call) -> Lowered:
    parts = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    assert isinstance(parts, (list, tuple))
    first = next(part for part in parts if not call.is_constant(part))
    layouts = {call.layout(part) for part in parts}
    if len(layouts) > 1:
        raise Refusal("its parts have their samples along different axes", "parts of one layout")
    return ops.Concat(dim=call.axis(call.option("dim", 1, 0), first)), {}, [call.name(part) for part in parts]


@reads(torch.stack)
def stack(call: Call) -> Lowered:
    parts = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    assert isinstance(parts, (list, tuple))
    dim = call.axis(call.option("dim", 1, 0), call.node)
    shape = list(call.shape(call.node))
    shape[dim - 1] = 1
    apart = [
        call.builder.emit(call.node, ops.Reshape(shape=tuple(shape)), {}, [call.name(part)], f"part{k}", tuple(shape))
        for k, part in enumerate(parts)
    ]
    return ops.Concat(dim=dim), {}, apart


@reads(operator.getitem)
def getitem(call: Call) -> Lowered:
    source = call.first
    if not isinstance(call.value(source), torch.Tensor):
        return part(call, source, call.value(call.node.args[1]))
    index: Any = call.node.args[1]
    index = index if isinstance(index, tuple) else (index,)
    taken = sum(i is not None and i is not Ellipsis for i in index)
    at = index.index(Ellipsis) if Ellipsis in index else len(index)
    index = (*index[:at], *(slice(None),) * (call.rank - taken), *index[at + 1 :])
    index = tuple(i for i in call.value(index) if i is not None)
    if not all(isinstance(i, (slice, int)) for i in index):
        raise Refusal("indexing by tensors is not read", "slices and numbers, x[:, :, ::2, ::2]")
    layout = call.layout(source)
    parts: list[Cut] = [WHOLE] * (len(call.shape(source)) + 1)
    for dim, i in enumerate(index):
        if dim == layout.axis and i != slice(None):
            raise Refusal("it takes samples out of the batch", "slice the other axes only")
        if dim != layout.axis:
            parts[layout.place(dim)] = (i.start, i.stop, i.step) if isinstance(i, slice) else (i, i + 1 or None, None)
    return _sliced(call, source, parts)


def _sliced(call: Call, source: fx.Node, parts: list[Cut]) -> Lowered:
    """A slice, then the axes that the call drops or adds."""
    sizes = [len(range(size)[slice(*cut)]) for size, cut in zip(call.shape(source), parts[1:], strict=True)]
    after, op = call.shape(call.node), ops.Slice(parts=tuple(parts))
    if tuple(sizes) == after:
        return op, {}, [call.name(source)]
    name = call.builder.emit(call.node, op, {}, [call.name(source)], "slice", tuple(sizes))
    return ops.Reshape(shape=after), {}, [name]


def part(call: Call, source: fx.Node, which: Any) -> Lowered:
    """One of several answers."""
    reader = PARTS.get(spelling(source, call.builder.module(source)))
    if reader is None:
        raise Refusal("it takes one of several answers of an operation that is not read", "operations with one answer")
    return reader(call, source, which)


@reads(getattr)
def attribute(call: Call) -> Lowered:
    if call.node.args[1] == "T" and call.rank == 2:
        return _permuted(call, (1, 0))
    if call.node.args[1] in ("mT", "mH"):
        order = [*range(call.rank - 2), call.rank - 1, call.rank - 2]
        return _permuted(call, tuple(order))
    if not isinstance(call.value(call.first), torch.Tensor) and call.node.args[1] == "values":
        return part(call, call.first, 0)
    raise Refusal(f"its attribute {call.node.args[1]!r} is not read", "methods and functions of tensors")


@reads("aten.slice")
def aten_slice(call: Call) -> Lowered:
    """`x[..., start:stop:step, ...]` along one axis; all of it is nothing."""
    dim, size = call.option("dim", None, 0) % call.rank, call.value(call.first).shape
    cut = slice(*(call.option(name, None) for name in ("start", "end", "step")))
    if len(range(size[dim])[cut]) == size[dim] and cut.step in (None, 1):
        return call.inputs[0]
    parts: list[Cut] = [WHOLE] * (len(call.shape(call.first)) + 1)
    parts[call.axis(dim)] = (cut.start, cut.stop, cut.step)
    return _sliced(call, call.first, parts)


@reads(torch.select, "select")
def select(call: Call) -> Lowered:
    dim, index = call.option("dim", 1), call.option("index", 2)
    parts: list[Cut] = [WHOLE] * (len(call.shape(call.first)) + 1)
    parts[call.axis(dim)] = (index, index + 1 or None, None)
    return _sliced(call, call.first, parts)


@parted(torch.chunk, torch.split, torch.unbind, torch.tensor_split, "chunk", "split", "unbind", "tensor_split")
def piece(call: Call, source: fx.Node, which: int) -> Lowered:
    many = call.of(source)
    whole, pieces = many.first, call.value(source)
    one = pieces[0].ndim < many.rank  # unbind
    dim = many.option("dim", 1 if one else 2, 0) % many.rank
    start = sum(1 if one else p.shape[dim] for p in pieces[: which % len(pieces)])
    stop = start + (1 if one else pieces[which].shape[dim])
    parts: list[Cut] = [WHOLE] * (len(call.shape(whole)) + 1)
    parts[many.axis(dim)] = (start, stop, None)
    return _sliced(call, whole, parts)


@parted(torch.max, "max")
def maximum_along(call: Call, source: fx.Node, which: int) -> Lowered:
    many = call.of(source)
    if which not in (0, "values"):
        raise Refusal("which is the largest has no spiking counterpart", "the values only, x.amax(dim)")
    op = ops.Maximum(dims=(many.axis(many.option("dim", 1)),), keepdim=bool(many.option("keepdim", 2, False)))
    return op, {}, many.inputs
