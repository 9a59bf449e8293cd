"""How each PyTorch spelling reads: module, function and method forms of one meaning share one reader."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional as F

from . import ops
from .modules import QCFS, Clip

Lowered = tuple[Any, dict[str, Tensor], Sequence[str]] | None
Reader = Callable[["Call"], Lowered]
READERS: dict[Any, Reader] = {}


class Refusal(Exception):
    """Why a call site cannot be converted, and what to write instead."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


def read_as(module: nn.Module) -> type | None:
    """The class whose reader fits a module: its own, or a base of which it changes nothing but its making."""
    overridden: set[str] = set()
    for cls in type(module).__mro__:
        if cls in READERS and not any(callable(getattr(cls, name, None)) for name in overridden):
            return cls
        overridden |= set(vars(cls)) - _INERT
    return None


_INERT = {"__init__", "__module__", "__doc__", "__annotations__", "__repr__", "extra_repr", "reset_parameters"}
"""What a subclass may define without computing anything else than its base."""


def reads(*spellings: Any) -> Callable[[Reader], Reader]:
    """Register a reader for module types, functions and method names."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(spellings, reader))
        return reader

    return register


@dataclass
class Call:
    """One call site, as its reader sees it: graph names of its tensors, concrete values of everything else."""

    node: fx.Node
    module: nn.Module | None
    runs: list[dict[fx.Node, Any]]
    names: dict[fx.Node, str]

    @property
    def first(self) -> fx.Node:
        """The traced value the call is about."""
        node = self.node.args[0] if self.node.args else self.node.kwargs["input"]
        assert isinstance(node, fx.Node)
        return node

    @property
    def inputs(self) -> list[str]:
        return [self.name(self.first)]

    @property
    def rank(self) -> int:
        """Axes of the input, batch included."""
        return self.value(self.first).ndim

    @property
    def in_place(self) -> bool:
        target = self.node.target
        method = self.node.op == "call_method" and str(target).endswith("_") and not str(target).endswith("__")
        function = target is operator.iadd or str(getattr(target, "__name__", "")).endswith("_")
        return method or function or bool(self.option("inplace", _INPLACE.get(target), False))

    def name(self, node: Any) -> str:
        """The graph node of a traced tensor."""
        if isinstance(node, fx.Node) and node in self.names:
            return self.names[node]
        raise Refusal("it reads a constant tensor, not a value of the network", "keep constants in a bias")

    def value(self, arg: Any) -> Any:
        """A concrete value: a traced one is looked up and must not depend on the batch."""
        return map_arg(arg, lambda n: self.runs[0][n])

    def option(self, name: str, position: int | None, default: Any = None) -> Any:
        """An attribute of the module, or the argument of the function by name (torch's or numpy's) or position."""
        if self.module is not None:
            return getattr(self.module, name, default)
        for spelling in (name, _NUMPY.get(name)):
            if spelling in self.node.kwargs:
                return self.value(self.node.kwargs[spelling])
        if position is not None and len(self.node.args) > position:
            return self.value(self.node.args[position])
        return default

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a value without batch; refused if samples are not kept apart along axis 0."""
        small, large = (tuple(run[node].shape) for run in self.runs)
        if small[:1] != (2,) or large[:1] != (3,) or small[1:] != large[1:]:
            raise Refusal("its first axis is not the batch", "keep the batch as axis 0 everywhere")
        return small[1:]

    def axis(self, dim: int, rank: int | None = None) -> int:
        return dim % (rank or self.rank)


_INPLACE: dict[Any, int] = {F.relu: 1, F.relu6: 1, F.hardtanh: 3}
"""Where functions take `inplace` by position."""
_NUMPY: dict[str, str] = {"dim": "axis", "keepdim": "keepdims", "dim0": "axis0", "dim1": "axis1"}
"""The second name under which torch takes an argument."""


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    """One number for each of n axes; a number, or a list of one, stands for all of them."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return tuple(int(v) for v in (values * n if len(values) == 1 else values))


@reads(
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, "contiguous", "clone", "detach"
)
def identity(call: Call) -> Lowered:
    return None


@reads(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def dropout(call: Call) -> Lowered:
    if call.option("training", 2, True):
        raise Refusal("dropout stays active in eval mode", "F.dropout(x, training=self.training), or nn.Dropout")
    return None


@reads(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(call: Call) -> Lowered:
    conv: Any = call.module
    if conv.padding_mode != "zeros":
        raise Refusal(f"padding_mode={conv.padding_mode!r} is not read yet", "padding_mode='zeros'")
    padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
    op = ops.Conv(stride=tuple(conv.stride), padding=padding, dilation=tuple(conv.dilation), groups=conv.groups)
    return op, _weights(conv.weight, conv.bias), call.inputs


@reads(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d)
def functional_convolution(call: Call) -> Lowered:
    weight = call.option("weight", 1)
    n = weight.ndim - 2
    padding = call.option("padding", 4, 0)
    op = ops.Conv(
        stride=_tuple(call.option("stride", 3, 1), n),
        padding=padding if isinstance(padding, str) else _tuple(padding, n),
        dilation=_tuple(call.option("dilation", 5, 1), n),
        groups=call.option("groups", 6, 1),
    )
    return op, _weights(weight, call.option("bias", 2)), call.inputs


@reads(nn.Linear, F.linear)
def linear(call: Call) -> Lowered:
    return ops.Linear(), _weights(call.option("weight", 1), call.option("bias", 2)), call.inputs


def _weights(weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


@reads(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batchnorm(call: Call) -> Lowered:
    bn: Any = call.module
    if bn.running_mean is None:
        raise Refusal("it normalises by the batch even in eval mode", "track_running_stats=True")
    if bn.running_mean.ndim != 1 or call.rank < 2:
        raise Refusal("its statistics are not per channel", "a batch norm over axis 1")
    scale = (bn.running_var.double() + bn.eps).rsqrt() * (1.0 if bn.weight is None else bn.weight.double())
    shift = -bn.running_mean.double() * scale + (0.0 if bn.bias is None else bn.bias.double())
    dtype = bn.running_mean.dtype
    return ops.Affine(), {"weight": scale.to(dtype), "bias": shift.to(dtype)}, call.inputs


@reads(nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
def relu(call: Call) -> Lowered:
    return ops.Rectify(), {}, call.inputs


@reads(nn.ReLU6, F.relu6)
def relu6(call: Call) -> Lowered:
    return ops.Rectify(bound=6.0), {}, call.inputs


@reads(nn.Hardtanh, F.hardtanh, F.hardtanh_)
def hardtanh(call: Call) -> Lowered:
    return _clip(call, call.option("min_val", 1, -1.0), call.option("max_val", 2, 1.0))


@reads(torch.clamp, torch.clamp_, torch.clip, torch.clip_, "clamp", "clamp_", "clip", "clip_")
def clamp(call: Call) -> Lowered:
    return _clip(call, call.option("min", 1), call.option("max", 2))


@reads("clamp_min", "clamp_min_", torch.clamp_min, torch.clamp_min_)
def clamp_min(call: Call) -> Lowered:
    return _clip(call, call.option("min", 1), None)


def _clip(call: Call, low: Any, high: Any) -> Lowered:
    if (
        isinstance(low, Tensor)
        or isinstance(high, Tensor)
        or low is None
        or low != 0
        or (high is not None and high <= 0)
    ):
        raise Refusal(f"clip to [{low}, {high}] is not a rectifier", "clip to [0, bound], as ReLU6 or rheobase.Clip do")
    return ops.Rectify(bound=None if high is None else float(high)), {}, call.inputs


@reads(Clip)
def learned_clip(call: Call) -> Lowered:
    clip: Any = call.module
    return ops.Rectify(bound=clip.bound.item()), {}, call.inputs


@reads(QCFS)
def qcfs(call: Call) -> Lowered:
    quantiser: Any = call.module
    return ops.Rectify(bound=quantiser.bound.item(), levels=quantiser.levels), {}, call.inputs


@reads(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def avgpool(call: Call) -> Lowered:
    n = call.rank - 2
    kernel = _tuple(call.option("kernel_size", 1), n)
    if call.option("divisor_override", 6) is not None:
        raise Refusal("divisor_override is not read", "AvgPool without it")
    op = ops.AvgPool(
        kernel=kernel,
        stride=_tuple(call.option("stride", 2) or kernel, n),
        padding=_tuple(call.option("padding", 3, 0), n),
        ceil_mode=bool(call.option("ceil_mode", 4, False)),
        count_include_pad=bool(call.option("count_include_pad", 5, True)),
    )
    return op, {}, call.inputs


@reads(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d)
@reads(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
def maxpool(call: Call) -> Lowered:
    n = call.rank - 2
    kernel = _tuple(call.option("kernel_size", 1), n)
    op = ops.MaxPool(
        kernel=kernel,
        stride=_tuple(call.option("stride", 2) or kernel, n),
        padding=_tuple(call.option("padding", 3, 0), n),
        dilation=_tuple(call.option("dilation", 4, 1), n),
        ceil_mode=bool(call.option("ceil_mode", 5, False)),
    )
    return op, {}, call.inputs


@reads(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
@reads(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def adaptive_avgpool(call: Call) -> Lowered:
    return ops.AdaptiveAvgPool(size=call.shape(call.node)[-(call.rank - 2) :]), {}, call.inputs


@reads(torch.mean, "mean")
def mean(call: Call) -> Lowered:
    dims = call.option("dim", 1)
    if dims is None:
        raise Refusal("a mean over everything mixes the samples", "x.mean((2, 3)) names the axes")
    dims = tuple(call.axis(d) for d in _tuple(dims, 1))
    return ops.Mean(dims=dims, keepdim=bool(call.option("keepdim", 2, False))), {}, call.inputs


@reads(nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze)
@reads("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
def reshape(call: Call) -> Lowered:
    return ops.Reshape(shape=call.shape(call.node)), {}, call.inputs


@reads(torch.permute, "permute")
def permute(call: Call) -> Lowered:
    dims = call.option("dims", 1)
    dims = call.value(call.node.args[1:]) if isinstance(dims, int) else dims
    return _permuted(call, tuple(call.axis(d) for d in dims))


@reads(torch.transpose, torch.swapaxes, "transpose", "swapaxes")
def transpose(call: Call) -> Lowered:
    a, b = call.axis(call.option("dim0", 1)), call.axis(call.option("dim1", 2))
    order = list(range(call.rank))
    order[a], order[b] = b, a
    return _permuted(call, tuple(order))


def _permuted(call: Call, dims: tuple[int, ...]) -> Lowered:
    if dims[0] != 0:
        raise Refusal("it moves the batch axis", "keep the batch as axis 0 everywhere")
    return ops.Permute(dims=dims), {}, call.inputs


@reads(operator.getitem)
def getitem(call: Call) -> Lowered:
    index = call.node.args[1]
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *(slice(None),) * (call.rank - len(index) + 1), *index[at + 1 :])
    parts = call.value(index)
    if not all(isinstance(part, slice) for part in parts):
        raise Refusal("indexing by numbers or tensors is not read yet", "slices, x[:, :, ::2, ::2]")
    if parts[0] != slice(None):
        raise Refusal("it takes samples out of the batch", "slice the other axes only")
    return ops.Slice(parts=tuple((part.start, part.stop, part.step) for part in parts)), {}, call.inputs


@reads(F.pad, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
def pad(call: Call) -> Lowered:
    mode, value = call.option("mode", 2, "constant"), call.option("value", 3, 0)
    if mode != "constant" or value not in (0, None):
        raise Refusal(f"padding with mode {mode!r} and value {value} is not read yet", "pad with zeros")
    amounts = tuple(int(n) for n in (call.option("pad", 1) if call.module is None else call.option("padding", None)))
    if len(amounts) >= 2 * call.rank:
        raise Refusal("it pads the batch", "pad the other axes only")
    return ops.Pad(pad=amounts), {}, call.inputs


@reads(torch.cat, torch.concat, torch.concatenate)
def concat(call: Call) -> Lowered:
    parts = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    assert isinstance(parts, (list, tuple))
    dim = call.axis(call.option("dim", 1, 0), call.value(parts[0]).ndim)
    if dim == 0:
        raise Refusal("it joins along the batch", "join along another axis")
    return ops.Concat(dim=dim), {}, [call.name(part) for part in parts]


@reads(operator.add, operator.iadd, torch.add, "add", "add_")
def add(call: Call) -> Lowered:
    a, b = (call.node.args + tuple(call.node.kwargs.values()))[:2]
    if call.option("alpha", 2, 1) != 1:
        raise Refusal("alpha scales one summand", "x + y")
    if not isinstance(a, fx.Node) or not isinstance(b, fx.Node):
        raise Refusal("it adds a constant", "keep constants in a bias")
    if call.value(a).shape != call.value(b).shape:
        raise Refusal("its summands differ in shape", "summands of one shape")
    return ops.Add(), {}, [call.name(a), call.name(b)]
