"""From a PyTorch module to a graph of our vocabulary: every call site is read by its meaning, or refused by name."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from . import ops
from .capture import TORCH, Captured, Run, batch, capture, check_model, record
from .errors import ConversionError
from .graph import INPUT, Graph, Node
from .inputs import tensors
from .readers import READERS, Call, Refusal, spelling


@dataclass(frozen=True)
class Refused:
    """A call site that cannot be converted: its name, module class or function, line, why, what to write instead."""

    name: str
    operation: str
    source: str
    why: str
    instead: str

    @property
    def what(self) -> str:
        """Name, operation and line."""
        operation = f" ({self.operation})" if self.operation != self.name else ""
        return f"{self.name!r}{operation} at {self.source or 'unknown line'}"


@dataclass(frozen=True)
class Reading:
    """What was read of a model, with holes in the graph where something is refused. dropped: nothing in eval mode."""

    graph: Graph
    refused: tuple[Refused, ...]
    dropped: tuple[tuple[str, str, str], ...]


def trace(ann: nn.Module, example: Any) -> Graph:
    """The graph of `ann` in eval mode for inputs like `example` `[N, ...]`, a tensor, tuple or dict.

    The model is run twice on samples like those of the example to learn every shape, and the graph is run against it;
    nothing of it is modified. Raises ConversionError with every node that cannot be read, its module path and its line.
    """
    reading = read(ann, example)
    if reading.refused:
        raise refusal(reading.refused)
    return reading.graph


def read(ann: nn.Module, example: Any) -> Reading:
    """`trace` that answers its refusals instead of raising them."""
    check_model(ann)
    traced = capture(ann, example)
    runs = [record(ann, traced, batch(example, size)) for size in (2, 3)]
    return _Lowering(ann, traced, runs).reading()


@dataclass
class _Lowering:
    """From traced calls to nodes, one after the other. What is refused is kept, and what reads it is passed over."""

    ann: nn.Module
    traced: Captured
    recorded: list[Run]
    nodes: dict[str, Node] = field(default_factory=dict)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    names: dict[fx.Node, str] = field(default_factory=dict)  # the graph node that stands for each traced value
    origin: dict[str, fx.Node] = field(default_factory=dict)
    constants: set[fx.Node] = field(default_factory=set)
    lost: set[fx.Node] = field(default_factory=set)  # parts of answers that were refused as a whole
    refused: list[tuple[fx.Node, Refusal]] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    copies: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    output: Any = ""

    @property
    def runs(self) -> list[dict[fx.Node, Any]]:
        return [run.values for run in self.recorded]

    def reading(self) -> Reading:
        for node in self.traced.graph.nodes:
            try:
                self.visit(node)
            except Refusal as refusal:
                self.refused.append((node, refusal))
                self.names[node] = f"{self.title(node)} (refused)"
                if not isinstance(self.runs[0].get(node), Tensor):
                    self.lost.add(node)
        graph = self.graph(pruned=not self.refused)
        if not self.refused:
            self.compare(graph)
        refused = tuple(self.described(node, refusal) for node, refusal in self.refused)
        return Reading(graph, refused, tuple(self.dropped))

    def visit(self, node: fx.Node) -> None:
        if any(source in self.lost for source in node.all_input_nodes):
            self.lost.add(node)
        elif node.op == "output":
            self.output = self.answer(node.args[0])
        elif node.op == "placeholder":
            self.placeholder(node)
        elif node.target is operator.setitem and node.args[0] not in self.constants:
            raise Refusal("it writes into a part of a tensor", "torch.cat or F.pad, which make a new one")
        elif isinstance(self.runs[0][node], Tensor):
            if not self.fixed(node):
                self.lower(node)
        elif _holds(self.runs[0][node]) and spelling(node, self.module(node)) in READERS:
            self.lower(node)  # read as a whole, or refused
        elif _holds(self.runs[0][node]) and self.constants.issuperset(self.sources(node)):
            self.constants.add(node)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """What a node reads of tensors."""
        return [n for n in node.all_input_nodes if _holds(self.runs[0].get(n))]

    def fixed(self, node: fx.Node) -> bool:
        """A value that does not depend on the input, such as a position: computed once, for its readers."""
        made = node.op in ("call_function", "call_method") and _function(node) in FACTORIES
        if not made and not self.constants.issuperset(self.sources(node)):
            return False
        small, large = (run.values[node] for run in self.recorded)
        if small.ndim and small.shape[1:] == large.shape[1:] and (len(small), len(large)) == (2, 3):
            large = large[:2]  # one for each sample, all alike
        if small.shape != large.shape or not torch.equal(small, large):
            raise Refusal("it differs from call to call", "randomness in training mode only")
        self.constants.add(node)
        return True

    def placeholder(self, node: fx.Node) -> None:
        given = next((name for name in self.recorded[0].inputs if name in (INPUT, str(node.target))), None)
        if given is None or given in self.names.values() or not isinstance(self.runs[0].get(node), Tensor):
            return  # an argument with a default
        self.names[node] = given

    def answer(self, value: Any) -> Any:
        """The structure of what the model answers, with the names of graph nodes in the place of tensors."""
        if isinstance(value, dict):
            return {str(name): self.answer(part) for name, part in value.items()}
        if isinstance(value, (tuple, list)):
            return tuple(self.answer(part) for part in value)
        if not isinstance(value, fx.Node) or value not in self.names:
            raise Refusal("its answer is no tensor that depends on the input", "an answer of tensors, tuples and dicts")
        if self.call(value).layout(value) != (0, 1):
            raise Refusal("the first axis of its answer is not the batch", "answers [N, ...]")
        return self.names[value]

    def call(self, node: fx.Node) -> Call:
        return Call(node, self.module(node), self.runs, self.names, self.constants, self)

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.traced.root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def lower(self, node: fx.Node) -> None:
        """One traced call becomes a graph node, or stands for the node it reads (identity, dropout)."""
        call = self.call(node)
        reader = READERS.get(spelling(node, call.module))
        if reader is None:
            raise Refusal("it has no spiking counterpart in this library", "see the operations in rheobase.ops")
        lowered = reader(call)
        if isinstance(lowered, str):
            self.names[node] = lowered
            if node.op == "call_module":
                self.dropped.append((self.title(node), type(call.module).__name__, _line(node)))
            return
        op, weights, inputs = lowered
        if isinstance(op, ops.Dropout):
            self.dropped.append((self.title(node), type(call.module).__name__, _line(node)))
        name = self.emit(node, op, weights, inputs, "", call.shape(node))
        self.names[node], self.origin[name] = name, node
        if call.in_place:
            self.overwrite(node, call.first, name)

    def emit(
        self,
        node: fx.Node,
        op: Any,
        weights: dict[str, Tensor],
        inputs: Sequence[str],
        part: str,
        shape: tuple[int, ...],
    ) -> str:
        title = self.title(node)
        function = bool(part) or (node.op != "call_module" and not isinstance(node.target, OpOverload))
        name = self.unique(".".join(filter(None, (title, part))), function)
        self.nodes[name] = Node(name=name, op=op, inputs=tuple(inputs), shape=shape, source=_line(node))
        if weights:
            self.tensors[name] = {key: self.own(value) for key, value in weights.items()}
        return name

    def own(self, value: Tensor) -> Tensor:
        """A copy of a weight, the same one wherever a module is called again."""
        if id(value) not in self.copies:
            self.copies[id(value)] = value, value.detach().clone()
        return self.copies[id(value)][1]

    def constant(self, node: fx.Node) -> str:
        """A constant for each sample: it must have the batch axis in front, with all samples alike."""
        value = self.runs[0][node]
        if len(value) not in (1, 2) or not torch.equal(value[:1].expand_as(value), value):
            raise Refusal("it reads a constant tensor without a batch axis", "constant.expand(len(x), -1, -1)")
        like = next(iter(self.recorded[0].inputs))
        return self.emit(node, ops.Constant(), {"bias": value[0]}, [like], "constant", tuple(value.shape[1:]))

    def overwrite(self, node: fx.Node, written: fx.Node, name: str) -> None:
        """After an in-place call every later reader of the same memory sees the result."""
        before, after = list(self.names), {n for n in self.traced.graph.nodes if n > node}
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

    def compare(self, graph: Graph) -> None:
        """Run the graph on the recorded inputs: every node must have the value that the model had there."""
        run = self.recorded[0]
        wrong: list[tuple[fx.Node, Refusal]] = []

        def see(node: Node, xs: list[Tensor], y: Tensor) -> None:
            traced = self.origin.get(node.name)
            if traced is None or wrong:
                return
            expected = self.call(traced).layout(traced).samples_first(run.then[traced])
            near = max(1e-3, 8 * torch.finfo(y.dtype).eps) if y.is_floating_point() else 0.0
            if y.shape != expected.shape or not torch.allclose(y, expected, rtol=near, atol=near * _size(expected)):
                wrong.append((traced, Refusal("read as this library reads it, it computes something else", REPORT)))

        with torch.no_grad():
            graph(run.inputs, see)
        self.refused += wrong

    def title(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return str(node.target)
        stack = [pair for pair in (node.meta.get("nn_module_stack") or {}).values() if not pair[0].startswith("_empty")]
        owner, kind = stack[-1] if stack else ("", "")
        if isinstance(node.target, OpOverload) and str(kind).startswith("torch.nn.modules"):
            return owner
        return ".".join(filter(None, (owner, _function(node).strip("_"))))

    def unique(self, title: str, function: bool) -> str:
        """The title of a node, numbered from its second call on; a function never takes the name of a module."""
        modules, taken = dict(self.ann.named_modules()), {*self.nodes, *self.recorded[0].inputs}
        if title not in taken and not (function and title in modules):
            return title
        numbered = (f"{title}_{count}" for count in itertools.count(1))
        return next(name for name in numbered if name not in taken and name not in modules)

    def graph(self, pruned: bool) -> Graph:
        """What was lowered; pruned: without the nodes that do not reach the answer."""
        needed = set(tensors(self.output)) if pruned else set(self.nodes)
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in self.nodes.values() if node.name in needed)
        weights = {name: held for name, held in self.tensors.items() if name in needed}
        inputs = {name: tuple(x.shape[1:]) for name, x in self.recorded[0].inputs.items()}
        return Graph(nodes=nodes, output=self.output, inputs=inputs, tensors=weights)

    def described(self, node: fx.Node, refusal: Refusal) -> Refused:
        operation = type(self.module(node)).__name__ if node.op == "call_module" else _function(node)
        return Refused(self.title(node), operation, _line(node), refusal.why, refusal.instead)


FACTORIES = {
    *("zeros", "ones", "full", "empty", "arange", "eye", "linspace", "tensor", "zeros_like", "ones_like", "full_like"),
    *("empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}
"""What makes a tensor that depends on the shape of its arguments only."""
REPORT = "please report this as a bug of rheobase, with the lines of the model"


def _holds(value: Any) -> bool:
    """Whether a value is a tensor, or has one in it."""
    return any(isinstance(part, Tensor) for part in tensors(value))


def _function(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    target = node.target.overloadpacket if isinstance(node.target, OpOverload) else node.target
    return target if isinstance(target, str) else getattr(target, "__name__", node.name)


def _size(x: Tensor) -> float:
    """The size of the values of x, to measure errors by."""
    return float(x.abs().mean()) if x.numel() else 0.0


def _line(node: fx.Node) -> str:
    """The innermost line of the user's own code that made this node."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File")]
    own = [line for line in lines if TORCH not in line]
    if not own:
        return ""
    file, line, *_ = own[-1].removeprefix("File ").split(", ")
    return f"{Path(file.strip(chr(34))).name}:{line.removeprefix('line ')}"


def refusal(refused: Sequence[Refused]) -> ConversionError:
    """One error for all refusals, so that they are mended in one go."""
    first = refused[0]
    if len(refused) == 1:
        return ConversionError(f"cannot convert {first.what}", why=first.why, instead=first.instead)
    what = f"cannot convert {len(refused)} nodes:\n" + "\n".join(f"    {r.what}: {r.why}" for r in refused)
    return ConversionError(what, why="each of these has no exact spiking counterpart", instead=first.instead)
