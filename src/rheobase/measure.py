"""Counting what a run costs: letters, synaptic operations, multiplications, and what was not counted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import ops
from .graph import INPUT
from .network import SpikingNet, Visit

NOT_COUNTED = (
    "neuron updates (charge, compare, reset)",
    "bias additions",
    "pooling",
    "memory traffic",
    "sums of analogue branches",
)


class Message(NamedTuple):
    """What travels on an edge.

    kind: "constant" (analogue, the same at every step), "letters" (multiples of `unit`), "graded" (events whose
    payload moves in time) or "analogue".
    """

    kind: str
    unit: Tensor | float = 1.0


def messages(net: SpikingNet) -> dict[str, Message]:
    """The kind of message on the output of every node, for constant coding of the input."""
    found = {INPUT: Message("constant")}
    shapes = {INPUT: net.input_shape} | {node.name: node.shape for node in net.graph_nodes}
    for node in net.graph_nodes:
        inputs = [found[name] for name in node.inputs]
        kinds = {message.kind for message in inputs}
        if isinstance(node.op, ops.Spike):
            found[node.name] = Message("letters" if node.op.letters else "graded")
        elif kinds == {"constant"}:
            found[node.name] = Message("constant")
        elif isinstance(node.op, ops.SYNAPSES) or not kinds <= {"letters", "graded"}:
            found[node.name] = Message("analogue")
        elif isinstance(node.op, ops.Scale):
            found[node.name] = Message(inputs[0].kind, net.weights(node.name)["scale"].detach() * inputs[0].unit)
        elif isinstance(node.op, (ops.AvgPool, ops.AdaptiveAvgPool, ops.Mean)):
            window = torch.Size(shapes[node.inputs[0]]).numel() / max(1, torch.Size(node.shape).numel())
            if isinstance(node.op, ops.AvgPool):
                window = torch.Size(node.op.kernel).numel()
            found[node.name] = Message(inputs[0].kind, inputs[0].unit / window)
        else:
            units = {float(m.unit) for m in inputs if not isinstance(m.unit, Tensor) or m.unit.numel() == 1}
            same = len(units) == 1 and all(not isinstance(m.unit, Tensor) or m.unit.numel() == 1 for m in inputs)
            found[node.name] = inputs[0] if len(inputs) == 1 or (same and len(kinds) == 1) else Message("graded")
    return found


class Ledger:
    """Counts of a run, per step and summed over samples, as float64 `[steps]`.

        letters     sum over all neurons of the letters sent (a burst of 3 counts 3)
        events      messages that are not 0
        acs         sum over synapses of the letters that enter, times their fan-out: one AC for each unit of level
        graded      the same for events with a moving payload: a multiplication each
        analogue    MACs of operations on real numbers that change in time
    and once for all samples and steps: `constant`, the MACs of one step on the constant analogue input.
    """

    def __init__(self, net: SpikingNet, steps: int) -> None:
        self.messages, self.steps, self.samples = messages(net), steps, 0
        self.shapes = {INPUT: net.input_shape} | {node.name: node.shape for node in net.graph_nodes}
        self.letters, self.events, self.acs, self.graded, self.analogue = torch.zeros(5, steps, dtype=torch.float64)
        self.constant = 0.0
        self.layers = {name: torch.zeros(steps, dtype=torch.float64) for name, _ in net.sites()}
        self.neurons = {name: torch.Size(self.shapes[name]).numel() for name in self.layers}
        self.macs = {node.name: macs(net, node.name) for node in net.graph_nodes if isinstance(node.op, ops.SYNAPSES)}
        self.constant = float(sum(count for name, count in self.macs.items() if self.messages[name].kind == "constant"))
        self._units: dict[str, Tensor] = {}  # what each message of the present steps amounts to

    def __call__(self, seen: Visit) -> None:
        """Count one node of one chunk; give this to `SpikingNet.run` as `visit`."""
        node = seen.node
        self._units.pop(node.name, None)
        at = slice(seen.start, seen.start + len(seen.ys))
        if seen.emission is not None:
            letters = _per_step(seen.emission.letters)
            self.layers[node.name][at] += letters
            self.letters[at] += letters
            events = letters
            if node.op.neuron.alphabet.ceiling > 1:
                events = _per_step(seen.emission.letters != 0)
            self.events[at] += events
            self._units[node.name] = letters if node.op.letters else events
        elif isinstance(node.op, (*ops.SYNAPSES, ops.Add)):
            for name, xs in zip(node.inputs, seen.xs, strict=True):
                self.synapse(node.name, name, xs, at)

    def synapse(self, name: str, reads: str, xs: Tensor, at: slice) -> None:
        """What the message from `reads` costs at the node `name`; at a sum, one operation for each letter."""
        message = self.messages[reads]
        if message.kind in ("letters", "graded"):
            if reads not in self._units:
                self._units[reads] = _per_step(xs / message.unit) if message.kind == "letters" else _per_step(xs != 0)
            fan_out = self.macs[name] / torch.Size(self.shapes[reads]).numel() if name in self.macs else 1.0
            where = self.acs if message.kind == "letters" else self.graded
            where[at] += self._units[reads] * fan_out
        elif message.kind == "analogue" and name in self.macs:
            self.analogue[at] += self.macs[name] * xs.shape[1]


def _per_step(letters: Tensor) -> Tensor:
    """The sum over samples and neurons at each step; exact, since one sample's letters fit a float32."""
    return letters.flatten(2).sum(2).sum(1, dtype=torch.float64).cpu()


def macs(net: SpikingNet, name: str) -> float:
    """Multiply-accumulates of one dense pass of a synapse on one sample."""
    node = next(node for node in net.graph_nodes if node.name == name)
    outputs = torch.Size(node.shape).numel()
    weight = net.weights(name)["weight"]
    return float(outputs if isinstance(node.op, ops.Affine) else outputs * weight[0].numel())
