"""Counting what a run costs: letters, synaptic operations, multiplications, and what was not counted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import ops
from .graph import INPUT, Node
from .message import Kind, messages
from .network import SpikingNet, Visit

NOT_COUNTED = (
    "neuron updates (charge, compare, reset)",
    "bias additions",
    "pooling",
    "memory traffic",
    "sums of analogue branches",
)


KEEPING = (ops.Scale, ops.Reshape, ops.Permute)
"""Carriers that pass on every message they read, and no other."""


class Ledger:
    """Counts of a run, per step and summed over samples, as float64 `[steps]`.

        letters     sum over all neurons of the letters sent (a burst of 3 counts 3, and so does one of -3)
        events      messages that are not 0
        acs         sum over synapses of the letters that enter, times their fan-out: one AC for each unit of level
        graded      the same for events with a moving payload: a multiplication each
        analogue    MACs of operations on real numbers that change in time
    and once for all samples and steps: `constant`, the MACs of one step on the constant analogue input.
    """

    def __init__(self, net: SpikingNet, steps: int) -> None:
        self.messages, self.steps = messages(net), steps
        self.shapes = {INPUT: net.input_shape} | {node.name: node.shape for node in net.graph_nodes}
        self.letters, self.events, self.acs, self.graded, self.analogue = torch.zeros(5, steps, dtype=torch.float64)
        self.layers = {name: torch.zeros(steps, dtype=torch.float64) for name, _ in net.sites()}
        self.neurons = {name: math.prod(self.shapes[name]) for name in self.layers}
        self.macs = {node.name: macs(net, node) for node in net.graph_nodes if isinstance(node.op, ops.SYNAPSES)}
        self.constant = sum(n for name, n in self.macs.items() if self.messages[name].kind is Kind.CONSTANT)
        self._units: dict[str, Tensor] = {}  # what each message of the present steps amounts to

    def __call__(self, seen: Visit) -> None:
        """Count one node of one chunk; give this to `SpikingNet.run` as `visit`."""
        node = seen.node
        self._units.pop(node.name, None)
        at = slice(seen.start, seen.start + len(seen.ys))
        if seen.emission is not None:
            signed = node.op.neuron.alphabet.signed
            letters = _per_step(seen.emission.letters.abs() if signed else seen.emission.letters)
            self.layers[node.name][at] += letters
            self.letters[at] += letters
            events = letters
            if node.op.neuron.alphabet.ceiling > 1:
                events = _per_step(seen.emission.letters != 0)
            self.events[at] += events
            self._units[node.name] = letters if node.op.letters else events
        elif isinstance(node.op, KEEPING) and node.inputs[0] in self._units:
            self._units[node.name] = self._units[node.inputs[0]]
        elif isinstance(node.op, (*ops.SYNAPSES, ops.Add)):
            for name, xs in zip(node.inputs, seen.xs, strict=True):
                self.synapse(node.name, name, xs, at)

    def synapse(self, name: str, reads: str, xs: Tensor, at: slice) -> None:
        """What the message from `reads` costs at the node `name`; at a sum, one operation for each letter."""
        message = self.messages[reads]
        if message.kind in (Kind.LETTERS, Kind.GRADED):
            counted = message.kind is Kind.LETTERS
            if reads not in self._units:
                self._units[reads] = _per_step((xs / message.unit).abs() if counted else xs != 0)
            fan_out = self.macs[name] / math.prod(self.shapes[reads]) if name in self.macs else 1.0
            (self.acs if counted else self.graded)[at] += self._units[reads] * fan_out
        elif message.kind is Kind.ANALOGUE and name in self.macs:
            self.analogue[at] += self.macs[name] * xs.shape[1]


def _per_step(letters: Tensor) -> Tensor:
    """The sum over samples and neurons at each step; exact, since one sample's letters fit a float32."""
    return letters.sum(tuple(range(2, letters.ndim))).sum(1, dtype=torch.float64).cpu()


def macs(net: SpikingNet, node: Node) -> float:
    """Multiply-accumulates of one dense pass of a synapse on one sample."""
    outputs = math.prod(node.shape)
    return float(outputs if isinstance(node.op, ops.Affine) else outputs * net.weights(node.name)["weight"][0].numel())
