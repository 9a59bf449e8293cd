"""Before any work: what will become of every node, and the line to write instead where it cannot become anything."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import nn

from . import ops
from .errors import ConversionError, context
from .fold import fold_batchnorm
from .graph import Graph, Node
from .spec import nearest
from .trace import Refused, read, refusal

Policy = Literal["error", "keep", "approximate"]
POLICIES = ("error", "keep", "approximate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of one node.

    fate: "spiking" (a neuron, or an exact operation on its spikes), "fused" (gone into another node, or nothing in eval
    mode), "analogue" (computed on real numbers, exactly in the limit of long T), "approximate" (a function evaluated
    inside the neuron, its value sent in a few signed letters), "refused". instead: the line to write, if refused.
    """

    name: str
    operation: str
    fate: str
    source: str
    why: str
    instead: str = ""

    @property
    def line(self) -> str:
        """One line of a list."""
        more = f"; write {self.instead}" if self.instead else ""
        return f"{self.fate:11} {self.name} ({self.operation}) {self.source}: {self.why}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """The fate of every node of a model, in order, refused ones among them."""

    fates: tuple[Fate, ...]

    def of(self, fate: str) -> list[Fate]:
        """The nodes of one fate."""
        return [f for f in self.fates if f.fate == fate]

    @property
    def ok(self) -> bool:
        """Whether `convert` will take the model under the same policies."""
        return not self.of("refused")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"ok": self.ok, "fates": [asdict(fate) for fate in self.fates]}

    def __str__(self) -> str:
        counts = Counter(fate.fate for fate in self.fates)
        total = ", ".join(f"{n} {name}" for name, n in counts.items())
        return "\n".join([*(fate.line for fate in self.fates), f"in all {total}"])


def preflight(
    ann: nn.Module, example: Any, *, on_unsupported: Policy = "error", leave: Iterable[str] = ()
) -> Preflight:
    """What `convert` would do with every node of `ann`, all problems at once, before any data is touched.

    example: an input `[N, ...]` (tensor, tuple or dict; N = 1 is enough), only its shape matters. on_unsupported: what
    to do with what has no exact spiking counterpart, "error": refuse; "keep": compute it on real numbers;
    "approximate": put a neuron with negative letters behind each function, keep the rest. leave: patterns (fnmatch) of
    nodes that stay analogue. Raises ConversionError if the model cannot be traced at all, InputError if it does not run
    on the example.

    >>> import torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2)).eval()
    >>> [fate.fate for fate in preflight(ann, torch.rand(1, 4)).fates]
    ['analogue', 'refused', 'spiking']
    """
    with context("preflight"):
        return _settled(ann, example, on_unsupported, leave)[1]


def source_graph(ann: nn.Module, example: Any, on_unsupported: Policy = "error", leave: Iterable[str] = ()) -> Graph:
    """The graph that is converted: batch norms folded, approximated functions split into function and neuron.

    Raises ConversionError with everything that is refused.
    """
    graph, found = _settled(ann, example, on_unsupported, leave)
    if graph is None:
        raise refusal([Refused(f.name, f.operation, f.source, f.why, f.instead) for f in found.of("refused")])
    return graph


def _settled(ann: nn.Module, example: Any, on_unsupported: str, leave: Iterable[str]) -> tuple[Graph | None, Preflight]:
    policy, leave = nearest(on_unsupported, POLICIES, "policy on_unsupported"), tuple(leave)
    reading = read(ann, example)
    fates = [
        Fate(name=name, operation=what, fate="fused", source=source, why="does nothing in eval mode")
        for name, what, source in reading.dropped
    ]
    fates += [_refused(refused) for refused in reading.refused]
    folded = fold_batchnorm(reading.graph)
    kept = {node.name for node in folded.nodes}
    fates += [
        Fate(name=n.name, operation=_title(n.op), fate="fused", source=n.source, why="into the weights before it")
        for n in reading.graph.nodes
        if n.name not in kept and not isinstance(n.op, ops.Dropout)
    ]
    if not reading.refused:
        _check_patterns(folded, leave)
    still = constants(folded)
    reals = _reals(folded, policy, leave)
    decided = [_fate(node, policy, still, reals, _left(node.name, leave)) for node in folded.nodes]
    fates += decided
    if any(fate.fate == "refused" for fate in fates):
        return None, Preflight(fates=tuple(fates))
    return _rewritten(folded, {fate.name: fate.fate for fate in decided}), Preflight(fates=tuple(fates))


def _refused(refused: Refused) -> Fate:
    return Fate(
        name=refused.name,
        operation=refused.operation,
        fate="refused",
        source=refused.source,
        why=refused.why,
        instead=refused.instead,
    )


def _title(op: Any) -> str:
    return f"function {op.name}" if isinstance(op, ops.Function) else type(op).__name__


def _left(name: str, leave: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in leave)


def _check_patterns(graph: Graph, leave: tuple[str, ...]) -> None:
    names = [node.name for node in graph.nodes]
    for pattern in leave:
        if not fnmatch.filter(names, pattern):
            raise ConversionError(
                f"leave: the pattern {pattern!r} matches no node", why=f"the nodes are {', '.join(names)}"
            )


def constants(graph: Graph) -> set[str]:
    """The values that no neuron stands before: under constant coding they are the same at every step."""
    still = set(graph.inputs)
    for node in graph.nodes:
        if still.issuperset(node.inputs) and not isinstance(node.op, (ops.Rectify, ops.Function, ops.Spike)):
            still.add(node.name)
    return still


def _reals(graph: Graph, policy: str, leave: tuple[str, ...]) -> set[str]:
    """The values that change in time and are real numbers: no neuron has sent them."""
    spiking = ops.Rectify if policy == "keep" else (ops.Rectify, ops.Function)
    makes = (*ops.SYNAPSES, ops.Shift, *(op for op in ops.NONLINEAR if op not in ops.MAXIMA))
    found: set[str] = set()
    for node in graph.nodes:
        fires = isinstance(node.op, spiking) and not _left(node.name, leave)
        if not fires and (isinstance(node.op, (ops.Rectify, *makes)) or found & set(node.inputs)):
            found.add(node.name)
    return found


def _fate(node: Node, policy: str, still: set[str], reals: set[str], left: bool) -> Fate:
    def fate(name: str, why: str, instead: str = "") -> Fate:
        return Fate(name=node.name, operation=_title(node.op), fate=name, source=node.source, why=why, instead=instead)

    op, keep = node.op, left or policy == "keep"
    if isinstance(op, ops.Spike):
        return fate("spiking", "is a neuron already")
    if isinstance(op, ops.Rectify):
        return fate("analogue", "left as it is") if left else fate("spiking", "becomes a neuron")
    if isinstance(op, ops.Function):
        if keep:
            return fate("analogue", "its value on the mean input so far")
        if policy == "approximate":
            return fate("approximate", "a neuron sends the function of its mean input in letters of both signs")
        return fate("refused", "it is no rectifier", 'on_unsupported="approximate", or nn.ReLU and train again')
    if isinstance(op, ops.NONLINEAR) and not isinstance(op, ops.MAXIMA) and node.name not in still:
        if keep or policy == "approximate":
            return fate("analogue", "its value on the mean input so far")
        return fate(
            "refused", "it is not linear and has no neuron", 'on_unsupported="keep", which computes it as it is'
        )
    if node.name in still:
        return fate("analogue", "reads the analogue input, the same at every step")
    if isinstance(op, ops.MAXIMA):
        return fate("spiking", "exact: the maximum of the sums so far")
    if isinstance(op, ops.SYNAPSES) and reals & set(node.inputs):
        return fate("analogue", "reads real numbers: no neuron stands between it and the weights before it")
    return fate("spiking", "linear: adds up what the neurons before it send")


def _rewritten(graph: Graph, fates: dict[str, str]) -> Graph:
    """Rectifiers that stay analogue become functions; behind an approximated function stands a neuron's place."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        op, fate = node.op, fates[node.name]
        if isinstance(op, ops.Rectify) and fate == "analogue":
            nodes.append(replace(node, op=_as_function(op)))
        elif isinstance(op, ops.Function) and fate == "approximate":
            inner = f"{node.name}.function"
            low, high = op.range
            signed = low is None or low < 0
            bound = None if low is None or high is None else max(-low, high)
            if node.name in tensors:
                tensors[inner] = tensors.pop(node.name)
            nodes.append(replace(node, name=inner))
            nodes.append(replace(node, op=ops.Rectify(bound=bound, signed=signed), inputs=(inner,)))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), tensors=tensors)


def _as_function(op: ops.Rectify) -> Any:
    if op.levels is not None:
        raise ConversionError("a QCFS activation cannot stay analogue", instead="convert it, or train with rb.Clip")
    return ops.Function("relu") if op.bound is None else ops.Function("clip", (0.0, op.bound))
