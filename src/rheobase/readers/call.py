"""One call site of a model as its reader sees it, and the table of readers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.fx.node import map_arg
from torch.nn import functional as F

Lowered = tuple[Any, dict[str, Tensor], Sequence[str]] | str
"""An operation, its weights and the graph nodes it reads; or the name of the graph node that already is the answer."""
Reader = Callable[["Call"], Lowered]
READERS: dict[Any, Reader] = {}
PARTS: dict[Any, Callable[[Call, fx.Node, Any], Lowered]] = {}
"""Readers of one of several answers of a call: (the call that takes it, the call that gave several, which)."""


class Refusal(Exception):
    """Why a call site cannot be converted, and what to write instead."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


def reads(*spellings: Any) -> Callable[[Reader], Reader]:
    """Register a reader for module types, functions and method names."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(spellings, reader))
        return reader

    return register


def parted(*spellings: Any) -> Callable[[Any], Any]:
    """Register a reader for calls with several answers."""

    def register(reader: Any) -> Any:
        PARTS.update(dict.fromkeys(spellings, reader))
        return reader

    return register


def read_as(module: nn.Module) -> type | None:
    """The class whose reader fits a module: its own, or a base of which it changes nothing but its making."""
    overridden: set[str] = set()
    for cls in type(module).__mro__:
        if cls in READERS and not any(callable(getattr(cls, name, None)) for name in overridden):
            return cls
        overridden |= set(vars(cls)) - _INERT
    return None


def spelling(node: fx.Node, module: nn.Module | None) -> Any:
    """The key of a call in the table of readers: a class, a function or the name of a method.

    An ATen operator, as `torch.export` writes them, is read as the function or method of its name.
    """
    if module is not None:
        return read_as(module) or type(module)
    if not isinstance(node.target, OpOverload):
        return node.target
    name = node.target.overloadpacket.__name__
    for title in (name, name.rstrip("_")):  # what writes in place is read as what does not
        for key in (getattr(F, title, None), getattr(torch, title, None), title, f"aten.{title}"):
            if key is not None and (key in READERS or key in PARTS):
                return key
    return f"aten.{name}"


_INERT = {"__init__", "__module__", "__doc__", "__annotations__", "__repr__", "extra_repr", "reset_parameters"}
"""What a subclass may define without computing anything else than its base."""


class Layout(NamedTuple):
    """Where the samples are in a traced value: along `axis`, each `parts` times, as windows of an image are.

    The graph has samples first: `[N, axes before, (parts), axes behind]`, with an axis of parts if there are several.
    """

    axis: int
    parts: int

    def place(self, dim: int) -> int:
        """The axis of the graph for an axis of the traced value that is not that of the samples."""
        return dim + 1 if dim < self.axis or self.parts > 1 else dim

    def samples_first(self, value: Tensor) -> Tensor:
        """The traced value as the graph has it."""
        if self.parts > 1:
            value = value.unflatten(self.axis, (-1, self.parts))
        return value.movedim(self.axis, 0)


class Builder(Protocol):
    """What makes nodes for a call."""

    def emit(
        self,
        node: fx.Node,
        op: Any,
        weights: dict[str, Tensor],
        inputs: Sequence[str],
        part: str,
        shape: tuple[int, ...],
    ) -> str:
        """Add a node to the graph and answer its name; `part` tells apart what one call becomes."""
        ...

    def constant(self, node: fx.Node) -> str:
        """The name of the graph node of a tensor that does not depend on the input."""
        ...

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a traced node calls."""
        ...


@dataclass
class Call:
    """One call site: graph names of its tensors, concrete values of everything else."""

    node: fx.Node
    module: nn.Module | None
    runs: list[dict[fx.Node, Any]]
    names: dict[fx.Node, str]
    constants: set[fx.Node]
    builder: Builder

    @property
    def first(self) -> fx.Node:
        """The traced value the call is about."""
        node = self.node.args[0] if self.node.args else next(iter(self.node.kwargs.values()))
        if not isinstance(node, fx.Node):
            raise Refusal("its first argument is no tensor of the network", "f(x, constant)")
        return node

    @property
    def inputs(self) -> list[str]:
        return [self.name(self.first)]

    @property
    def rank(self) -> int:
        """Axes of the traced input, batch included."""
        return self.value(self.first).ndim

    @property
    def in_place(self) -> bool:
        target = self.node.target
        method = self.node.op == "call_method" and str(target).endswith("_") and not str(target).endswith("__")
        title = target.overloadpacket.__name__ if isinstance(target, OpOverload) else getattr(target, "__name__", "")
        function = target in _WRITING or (title.endswith("_") and not title.endswith("__"))
        return method or function or bool(self.option("inplace", _INPLACE.get(target), False))

    def name(self, node: Any) -> str:
        """The graph node of a traced tensor."""
        if isinstance(node, fx.Node) and node in self.names:
            return self.names[node]
        if isinstance(node, fx.Node) and node in self.constants:
            return self.builder.constant(node)
        raise Refusal("it reads a value that is no tensor of the network", "tensors that come from the input")

    def of(self, source: fx.Node) -> Call:
        """Another call, that this one reads."""
        return replace(self, node=source, module=self.builder.module(source))

    def option_of(self, source: fx.Node, name: str, position: int) -> Any:
        """An argument of the call of a module, by name or position."""
        given = source.kwargs.get(name, source.args[position] if len(source.args) > position else None)
        return self.value(given)

    def is_constant(self, arg: Any) -> bool:
        """Whether an argument does not depend on the input: a number, a parameter, what is computed from them."""
        return not isinstance(arg, fx.Node) or arg in self.constants or not isinstance(self.runs[0][arg], Tensor)

    def value(self, arg: Any) -> Any:
        """A concrete value: a traced one is looked up and must not depend on the batch."""
        return map_arg(arg, lambda n: self.runs[0][n])

    def option(self, name: str, position: int | None, default: Any = None) -> Any:
        """An attribute of the module, or the argument of the function by name (torch's or numpy's) or position."""
        if self.module is not None:
            return getattr(self.module, name, default)
        for spelled in (name, _NUMPY.get(name)):
            if spelled in self.node.kwargs:
                return self.value(self.node.kwargs[spelled])
        if isinstance(self.node.target, OpOverload):
            names = [argument.name for argument in self.node.target._schema.arguments]
            position = next((names.index(spelled) for spelled in (name, _ATEN.get(name)) if spelled in names), None)
        if position is not None and len(self.node.args) > position:
            return self.value(self.node.args[position])
        return default

    def layout(self, node: Any) -> Layout:
        """Where the samples of a traced value are; refused if they are mixed."""
        small, large = (tuple(run[node].shape) for run in self.runs)
        differ = [axis for axis, (a, b) in enumerate(zip(small, large, strict=False)) if a != b]
        if len(small) != len(large) or len(differ) != 1:
            raise Refusal("it mixes the samples of a batch", "keep the samples apart, along axis 0")
        (axis,) = differ
        if small[axis] % 2 or small[axis] // 2 * 3 != large[axis]:
            raise Refusal("it joins or cuts along the batch", "keep the samples apart, along axis 0")
        return Layout(axis, small[axis] // 2)

    def shape(self, node: Any) -> tuple[int, ...]:
        """The shape of one sample of a traced value, as the graph has it."""
        return tuple(self.layout(node).samples_first(self.runs[0][node]).shape[1:])

    def axis(self, dim: int, node: Any = None) -> int:
        """The axis of the graph for the axis `dim` of a traced value, by default of the first."""
        node = self.first if node is None else node
        layout, dim = self.layout(node), dim % self.value(node).ndim
        if dim == layout.axis:
            raise Refusal("it works along the batch", "an axis of its own for what is not a sample")
        return layout.place(dim)

    def batched(self) -> None:
        """Refuse a first input whose samples are not simply along axis 0."""
        if self.layout(self.first) != (0, 1):
            raise Refusal("the batch is not its first axis", "x of shape [N, ...], N the samples")


_INPLACE: dict[Any, int] = {F.relu: 1, F.relu6: 1, F.hardtanh: 3, F.silu: 1, F.hardswish: 1, F.leaky_relu: 2, F.elu: 2}
"""Where functions take `inplace` by position."""
_WRITING = {operator.iadd, operator.isub, operator.imul, operator.itruediv}
_NUMPY: dict[str, str] = {"dim": "axis", "keepdim": "keepdims", "dim0": "axis0", "dim1": "axis1"}
"""The second name under which torch takes an argument."""
_ATEN: dict[str, str] = {"training": "train", "scale_factor": "scale_factors"}
"""The name of an argument in the schema of its operator, where that is another."""


def numbers(value: Any, n: int) -> tuple[int, ...]:
    """One number for each of n axes; a number, or a list of one, stands for all of them."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return tuple(int(v) for v in (values * n if len(values) == 1 else values))


def held(**tensors: Tensor | None) -> dict[str, Tensor]:
    """The tensors that there are."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
