"""What travels between two nodes: letters, graded events, or real numbers that are constant or change in time."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import ops
from .graph import Node
from .link import Rate
from .network import SpikingNet
from .neuron import Neuron, worth
from .threshold import Radix


class Kind(Enum):
    """The four things a node can send."""

    CONSTANT = "a real number, the same at every step"
    ANALOGUE = "a real number that changes in time"
    LETTERS = "a multiple of a unit that is constant in time, or known from the clock"
    GRADED = "an event whose payload changes in time"


class Message(NamedTuple):
    """What travels on an edge. unit: what the smallest letter is worth, scalar or broadcasting; only of LETTERS.

    clock: what multiplies the unit in each step, where letters are digits.
    """

    kind: Kind
    unit: Tensor | float = 1.0
    clock: Radix | None = None


def messages(net: SpikingNet) -> dict[str, Message]:
    """What each node sends, for constant coding of the input."""
    found = {name: Message(Kind.CONSTANT) for name in net.inputs}
    sizes = {name: math.prod(shape) for name, shape in net.graph.shapes.items()}
    for node in net.graph_nodes:
        window = sizes[node.inputs[0]] / max(1, sizes[node.name])
        found[node.name] = _sent(net, node, [found[name] for name in node.inputs], window)
    return found


def _sent(net: SpikingNet, node: Node, read: list[Message], window: float) -> Message:
    kinds = {message.kind for message in read}
    if isinstance(node.op, ops.Spike):
        return _emitted(net, node)
    if kinds == {Kind.CONSTANT}:
        return Message(Kind.CONSTANT)
    if _mixes(node.op) or not kinds <= {Kind.LETTERS, Kind.GRADED}:
        return Message(Kind.ANALOGUE)
    if isinstance(node.op, ops.Scale):
        return read[0]._replace(unit=net.weights(node.name)["scale"].detach() * read[0].unit)
    if isinstance(node.op, ops.AvgPool):
        return read[0]._replace(unit=read[0].unit / math.prod(node.op.kernel))
    if isinstance(node.op, ops.Mean) and not node.op.total:
        return read[0]._replace(unit=read[0].unit / window)
    if isinstance(node.op, ops.AdaptiveAvgPool) or (isinstance(node.op, ops.Resize) and node.op.mode != "nearest"):
        return Message(Kind.GRADED)
    if len(read) == 1 or (kinds == {Kind.LETTERS} and all(_same(read[0], other) for other in read)):
        return read[0]
    return Message(Kind.GRADED)  # letters of several worths side by side


def _emitted(net: SpikingNet, node: Node) -> Message:
    """What a neuron sends: letters, also where their worth is constant but not folded yet, or a moving payload."""
    neuron: Neuron = node.op.neuron
    if node.op.letters:
        clock = neuron.threshold if isinstance(neuron.threshold, Radix) else None
        return Message(Kind.LETTERS, neuron.alphabet.unit, clock)
    if neuron.threshold.graded or not isinstance(neuron.link, Rate):
        return Message(Kind.GRADED)
    theta0 = net.tensors(node.name).theta0.detach()
    return Message(Kind.LETTERS, worth(neuron, theta0) * neuron.alphabet.unit)


def _mixes(op: Any) -> bool:
    """Whether an operation makes real numbers of letters."""
    if isinstance(op, ops.Difference):
        return not op.exact
    functions = isinstance(op, (*ops.NONLINEAR, ops.Rectify)) and not isinstance(op, ops.MAXIMA)
    return functions or isinstance(op, (*ops.SYNAPSES, ops.Shift, ops.BatchNorm))


def _same(a: Message, b: Message) -> bool:
    """Whether the letters of both are worth one and the same number in each step."""
    single = torch.as_tensor(a.unit).numel() == torch.as_tensor(b.unit).numel() == 1
    return single and float(a.unit) == float(b.unit) and a.clock == b.clock
