"""The calls that a model makes, in order, and what every one of them answered on real samples."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_unflatten

from .errors import ConversionError, InputError
from .graph import INPUT
from .inputs import count, each, named, tensors
from .readers import read_as
from .relatives import SPIKING

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
"""Where PyTorch's own lines are. (torchvision lies beside it.)"""


class _Tracer(fx.Tracer):
    """Notes of each node the line that made it. PyTorch's own notes are the same, but load its compiler first."""

    def create_node(self, *call: Any, **options: Any) -> fx.Node:
        node = super().create_node(*call, **options)
        node.stack_trace = _line_of(sys._getframe(1))
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return read_as(m) is not None or super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True)
class Captured:
    """The calls of a model in order, and the module that holds what they read."""

    root: nn.Module
    graph: fx.Graph


def capture(ann: nn.Module, example: Any) -> Captured:
    """By symbolic tracing, which keeps whole modules; by `torch.export` where shapes or branches stop that.

    Raises ConversionError if neither can follow the model.
    """
    symbolic, why = None, ""
    try:
        symbolic = Captured(ann, _Tracer().trace(ann))
    except Exception as error:
        why = str(error).splitlines()[0]
    if symbolic is not None and not any(_opaque(node) for node in symbolic.graph.nodes):
        return symbolic
    try:
        return _exported(ann, example)
    except Exception as error:
        if symbolic is not None:
            return symbolic  # whose readers name what they cannot read
        raise ConversionError(
            f"{type(ann).__name__}.forward cannot be traced: {why}",
            why=f"its control flow depends on the values of tensors; torch.export: {str(error).splitlines()[0]}",
            instead="take the branch by a setting of the model, in __init__",
        ) from error


def _line_of(frame: FrameType | None) -> str | None:
    """The innermost line of a model that is being traced, if it is one of the model's."""
    while frame is not None and frame.f_code.co_filename != __file__:
        if not frame.f_code.co_filename.startswith(TORCH):
            return f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}'
        frame = frame.f_back
    return None


def _opaque(node: fx.Node) -> bool:
    """Whether a node calls a function of the model's own, which `torch.fx.wrap` hides from tracing."""
    own = isinstance(node.target, FunctionType) and node.target.__module__.split(".")[0] not in ("torch", "_operator")
    return node.op == "call_function" and own


def _exported(ann: nn.Module, example: Any) -> Captured:
    """The ATen operators of a run on a batch of any size."""
    x = batch(example, 3)
    arguments, keywords = ((), dict(x)) if isinstance(x, Mapping) else (tuple(tensors(x)), {})
    free = {0: torch.export.Dim.AUTO}
    dynamic = dict.fromkeys(keywords, free) if keywords else (free,) * len(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(ann, arguments, keywords, dynamic_shapes=dynamic, strict=False)
        root = program.module()
    graph, structure = root.graph, program.call_spec.out_spec
    assert structure is not None
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:  # checks of shapes
            graph.erase_node(node)
        if node.op == "output":
            (flat,) = node.args
            node.args = (tree_unflatten(list(flat), structure),)
    return Captured(root, graph)


def check_model(ann: nn.Module) -> None:
    """Refuse what would convert to nonsense: train mode, NaN or infinity in weights or buffers."""
    training = [name for name, module in ann.named_modules() if module.training]
    if training:
        raise ConversionError(
            f"the model is in train mode ({', '.join(repr(n or 'model') for n in training[:3])})",
            why="batch norm and dropout act differently there, and a conversion would freeze the wrong function",
            instead="model.eval() before convert(...)",
        )
    for name, tensor in [*ann.named_parameters(), *ann.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConversionError(
                f"{name!r} has NaN or infinite values", why="no threshold can mend it", instead="load sound weights"
            )


def batch(example: Any, size: int) -> Any:
    """`size` samples that differ: those of the example, and where it has too few, the same in another order."""
    n = count(example)

    def taken(x: Tensor) -> Tensor:
        rows = [x[k % n].flatten().roll(3 * (k // n)).reshape(x.shape[1:]) for k in range(size)]
        return torch.stack(rows)

    return each(taken, example)


@dataclass(frozen=True)
class Run:
    """One run of a traced model: its values as they are in memory at the end, and as each was when it was made."""

    values: dict[fx.Node, Any]
    then: dict[fx.Node, Tensor]
    inputs: dict[str, Tensor]


def record(ann: nn.Module, traced: Captured, x: Any) -> Run:
    values: dict[fx.Node, Any] = {}
    then: dict[fx.Node, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            if isinstance(values[n], Tensor):
                then[n] = values[n].clone()
            return values[n]

        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            module = self.fetch_attr(target)
            return module.first(*args, **kwargs) if isinstance(module, SPIKING) else module(*args, **kwargs)

    places = [node for node in traced.graph.nodes if node.op == "placeholder"]
    needed = [node for node in places if not node.args]  # the others have defaults
    try:
        inputs = named(x, _titles(places[: max(len(needed), _many(x))]))
        with torch.no_grad():
            Recorder(fx.GraphModule(traced.root, traced.graph), garbage_collect_values=False).run(
                *(t.clone() for t in inputs.values())
            )
    except (RuntimeError, IndexError, TypeError) as error:
        reason = str(error).split("While executing")[0].strip().splitlines()
        shapes = ", ".join(f"{tuple(t.shape)} of {t.dtype}" for t in tensors(x))
        raise InputError(
            f"the model does not run on inputs {shapes}: {reason[0] if reason else error}",
            why="batches must be what the model was trained on, in shape, dtype and device",
            instead=_fitting(ann, next(tensors(x))),
        ) from error
    return Run(values, then, inputs)


def _many(x: Any) -> int:
    """How many tensors there are."""
    return len(list(tensors(x)))


def _titles(places: Sequence[fx.Node]) -> list[str]:
    return [INPUT] if len(places) == 1 else [str(node.target) for node in places]


def _fitting(ann: nn.Module, x: Tensor) -> str:
    first = next(ann.parameters(), None)
    if first is not None and x.is_floating_point() and first.dtype != x.dtype:
        return f"x.to({first.dtype})"
    if first is not None and first.device != x.device:
        return f"x.to({str(first.device)!r})"
    return "check the shape of one batch against the first layer of the model"
