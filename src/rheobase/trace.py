"""From a PyTorch module to a graph of our vocabulary: every call site is read by its meaning, or refused by name."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from .errors import ConversionError, InputError
from .graph import INPUT, Graph, Node
from .readers import READERS, Call, Refusal, read_as


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return read_as(m) is not None or super().is_leaf_module(m, module_qualified_name)


def trace(ann: nn.Module, example: Tensor) -> Graph:
    """The graph of `ann` in eval mode for inputs like `example` `[N, ...]`.

    The model is run twice on slices of the example to learn every shape; nothing of it is modified. Raises
    ConversionError with every node that has no spiking counterpart, its module path and its line.
    """
    check_model(ann)
    try:
        traced = _Tracer().trace(ann)
    except Exception as error:
        raise ConversionError(
            f"{type(ann).__name__}.forward cannot be traced: {error}",
            why="its control flow depends on the values or shapes of tensors",
            instead="take the branch by a setting of the model, in __init__",
        ) from error
    runs = [_record(ann, traced, _batch(example, size)) for size in (2, 3)]
    return _Lowering(ann, traced, runs).graph()


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


def _batch(example: Tensor, size: int) -> Tensor:
    return example[:1].expand(size, *example.shape[1:]).contiguous()


def _record(ann: nn.Module, traced: fx.Graph, x: Tensor) -> dict[fx.Node, Any]:
    """Every value of one run."""
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    module = fx.GraphModule(ann, traced)
    try:
        with torch.no_grad():
            Recorder(module, garbage_collect_values=False).run(x)
    except RuntimeError as error:
        reason = str(error).split("While executing")[0].strip().splitlines()
        raise InputError(
            f"the model does not run on inputs {tuple(x.shape)} of {x.dtype}: {reason[0] if reason else error}",
            why="batches must be what the model was trained on, in shape, dtype and device",
            instead=_fitting(ann, x),
        ) from error
    return values


def _fitting(ann: nn.Module, x: Tensor) -> str:
    first = next(ann.parameters(), None)
    if first is not None and first.dtype != x.dtype:
        return f"x.to({first.dtype})"
    if first is not None and first.device != x.device:
        return f"x.to({str(first.device)!r})"
    return "check the shape of one batch against the first layer of the model"


@dataclass
class _Lowering:
    ann: nn.Module
    traced: fx.Graph
    runs: list[dict[fx.Node, Any]]

    def graph(self) -> Graph:
        self.nodes: dict[str, Node] = {}
        self.tensors: dict[str, dict[str, Tensor]] = {}
        self.names: dict[fx.Node, str] = {}  # the graph node that stands for each traced value
        self.constants: set[fx.Node] = set()
        refused: list[tuple[fx.Node, Refusal]] = []
        output = ""
        for node in self.traced.nodes:
            try:
                if node.op == "output":
                    output = self.answer(node)
                elif node.op == "placeholder":
                    self.placeholder(node)
                elif isinstance(self.runs[0][node], Tensor) and not self.fixed(node):
                    self.lower(node)
            except Refusal as refusal:
                refused.append((node, refusal))
                self.names[node] = INPUT  # so that one refusal does not cause the next
        if refused:
            raise _refused(self.ann, refused)
        return self.pruned(output)

    def fixed(self, node: fx.Node) -> bool:
        """A value that does not depend on the input, such as a standardised weight: computed once, for its readers."""
        if node.op != "get_attr" and not all(source in self.constants for source in node.all_input_nodes):
            return False
        if not torch.equal(*(run[node] for run in self.runs)):
            raise Refusal("it differs from call to call", "randomness in training mode only")
        self.constants.add(node)
        return True

    def placeholder(self, node: fx.Node) -> None:
        if not isinstance(self.runs[0].get(node), Tensor):
            return  # an argument with a default
        if INPUT in self.names.values():
            raise Refusal(
                "a second input has no place in a conversion yet", "wrap the model in one that takes one tensor"
            )
        self.names[node] = INPUT

    def answer(self, node: fx.Node) -> str:
        (value,) = node.args
        if not isinstance(value, fx.Node) or not isinstance(self.runs[0].get(value), Tensor):
            raise Refusal("the answer must be one tensor", "wrap the model in one that returns its logits")
        return self.names[value]

    def lower(self, node: fx.Node) -> None:
        """One traced call becomes a graph node, or stands for the node it reads (identity, dropout)."""
        module = self.ann.get_submodule(str(node.target)) if node.op == "call_module" else None
        call = Call(node, module, self.runs, self.names)
        key = read_as(module) if module is not None else node.target
        reader = READERS.get(key)
        if reader is None:
            raise Refusal("it has no spiking counterpart in this library", "see the operations in rheobase.ops")
        lowered = reader(call)
        if lowered is None:
            self.names[node] = call.inputs[0]
            return
        op, weights, inputs = lowered
        shape = call.shape(node)
        name = self.unique(node)
        source = _line(node)
        self.nodes[name] = Node(name=name, op=op, inputs=tuple(inputs), shape=shape, source=source)
        if weights:
            self.tensors[name] = {key: value.detach().clone() for key, value in weights.items()}
        self.names[node] = name
        if call.in_place:
            self.overwrite(node, call.first, name)

    def overwrite(self, node: fx.Node, written: fx.Node, name: str) -> None:
        """After an in-place call every later reader of the same memory sees the result."""
        before, after = list(self.names), {n for n in self.traced.nodes if n > node}
        storage = self.runs[0][written].untyped_storage().data_ptr()
        for other in before:
            value = self.runs[0][other]
            if other is node or not isinstance(value, Tensor) or value.untyped_storage().data_ptr() != storage:
                continue
            if not any(user in after for user in other.users):
                continue
            if value.shape != self.runs[0][node].shape or value.stride() != self.runs[0][node].stride():
                raise Refusal("it writes in place into memory that is read later through a view", "write out of place")
            self.names[other] = name

    def title(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return str(node.target)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        owner = stack[-1][0] if stack else ""
        function = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
        return ".".join(filter(None, (owner, function.strip("_"))))

    def unique(self, node: fx.Node) -> str:
        """The title of a node, numbered from its second call on; a function never takes the name of a module."""
        title, modules = self.title(node), dict(self.ann.named_modules())
        if title not in self.nodes and title != INPUT and (node.op == "call_module" or title not in modules):
            return title
        numbered = (f"{title}_{count}" for count in itertools.count(1))
        return next(name for name in numbered if name not in self.nodes and name not in modules)

    def pruned(self, output: str) -> Graph:
        """Without the nodes that do not reach the answer."""
        needed = {output}
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in self.nodes.values() if node.name in needed)
        tensors = {name: weights for name, weights in self.tensors.items() if name in needed}
        (x,) = [n for n in self.traced.nodes if self.names.get(n) == INPUT and n.op == "placeholder"]
        return Graph(nodes=nodes, output=output, input_shape=tuple(self.runs[0][x].shape[1:]), tensors=tensors)


def _line(node: fx.Node) -> str:
    """The innermost line of the user's own code that made this node."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File")]
    own = [line for line in lines if f"{Path(torch.__file__).parent}" not in line]
    if not own:
        return ""
    file, line, *_ = own[-1].removeprefix("File ").split(", ")
    return f"{Path(file.strip(chr(34))).name}:{line.removeprefix('line ')}"


def _refused(ann: nn.Module, refused: list[tuple[fx.Node, Refusal]]) -> ConversionError:
    """One error for all refusals, so that they are mended in one go."""
    blocks = []
    for node, refusal in refused:
        if node.op == "call_module":
            what = f"{node.target!r} ({type(ann.get_submodule(str(node.target))).__name__})"
        else:
            target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            what = f"{target!r}" + (f" in {stack[-1][0]!r}" if stack and stack[-1][0] else "")
        blocks.append((f"{what} at {_line(node) or 'unknown line'}", refusal))
    first = blocks[0][1]
    if len(blocks) == 1:
        return ConversionError(f"cannot convert {blocks[0][0]}", why=first.why, instead=first.instead)
    what = f"cannot convert {len(blocks)} nodes:\n" + "\n".join(f"    {b}: {r.why}" for b, r in blocks)
    return ConversionError(what, why="each of these has no exact spiking counterpart", instead=first.instead)
