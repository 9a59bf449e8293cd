"""Counting what a run costs: letters, synaptic operations, multiplications, and what was not counted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from . import ops
from .graph import Node
from .link import Differential
from .message import Kind, messages
from .network import SpikingNet
from .state import Visit

NOT_COUNTED = (
    "neuron updates (charge, compare, reset)",
    "bias additions",
    "pooling",
    "memory traffic",
    "sums of analogue branches",
    "normalisation, softmax and other functions of real numbers",
)


COUNTED = ("letters", "events", "acs", "graded", "analogue")
KEEPING = (ops.Scale, ops.Reshape, ops.Permute)
"""Carriers that pass on every message they read, and no other."""


class Ledger:
    """Counts of a run, per step and summed over samples, as float64 `[steps]`.

        letters     sum over all neurons of the letters sent, in units of the least difference of two letters (a burst
                    of 3 counts 3, and so does one of -3; of powers of two 2^-i the smallest counts 1)
        events      messages that are not 0
        acs         sum over synapses of the letters that enter, times their fan-out: one AC for each unit of level
        graded      the same for events with a moving payload: a multiplication each
        analogue    MACs of operations on real numbers that change in time
    and once for all samples and steps: `constant`, the MACs of one step on the constant analogue input.
    """

    letters: Tensor
    events: Tensor
    acs: Tensor
    graded: Tensor
    analogue: Tensor

    def __init__(self, net: SpikingNet, steps: int) -> None:
        self.messages, self.steps = messages(net), steps
        self.shapes = net.graph.shapes
        self.layers = {name: torch.zeros(0) for name, _ in net.sites()}
        self.begin()
        self.neurons = {name: math.prod(self.shapes[name]) for name in self.layers}
        self.macs = {node.name: n for node in net.graph_nodes if (n := macs(net, node, self.shapes)) is not None}
        constant = sum(n for name, n in self.macs.items() if self.messages[name].kind is Kind.CONSTANT)
        self.constant = constant / net.block  # once in a step, whatever its sub-steps
        self._units: dict[str, Tensor] = {}  # what each message of the present steps amounts to
        self.changes = all(isinstance(neuron.link, Differential) for _, neuron in net.sites())
        self._changing: set[str] = set()  # the nodes whose messages say what changed
        self._sums: dict[str, Tensor] = {}  # of what their readers received so far
        for node in net.graph_nodes:
            own = isinstance(node.op, ops.Spike) and isinstance(node.op.neuron.link, Differential)
            if own or (not isinstance(node.op, ops.Spike) and self._changing.intersection(node.inputs)):
                self._changing.add(node.name)

    def __call__(self, seen: Visit) -> None:
        """Count one node of one chunk; give this to `SpikingNet.run` as `visit`."""
        node = seen.node
        self._units.pop(node.name, None)
        at = slice(seen.start, seen.start + len(seen.ys))
        if seen.emission is not None:
            alphabet = node.op.neuron.alphabet
            letters = _per_step(seen.emission.letters.abs() if alphabet.signed else seen.emission.letters)
            letters = letters / alphabet.unit
            self.layers[node.name][at] += letters
            self.letters[at] += letters
            events = letters
            if len(alphabet.levels) > 1:
                events = _per_step(seen.emission.letters != 0)
            self.events[at] += events
            self._units[node.name] = letters if self.messages[node.name].kind is Kind.LETTERS else events
        elif isinstance(node.op, KEEPING) and node.inputs[0] in self._units:
            self._units[node.name] = self._units[node.inputs[0]]
        elif isinstance(node.op, ops.Difference) and self.messages[node.name].kind is Kind.ANALOGUE:
            self.analogue[at] += self.macs.get(node.name, 0.0) * seen.ys.shape[1]
        elif isinstance(node.op, (*ops.SYNAPSES, ops.Add, ops.BatchNorm)):
            for name, xs in zip(node.inputs, seen.xs, strict=True):
                self.synapse(node.name, name, xs, at)

    @property
    def counts(self) -> Tensor:
        """All that was counted, `[5 + layers, steps]`."""
        return torch.stack([*(getattr(self, name) for name in COUNTED), *self.layers.values()])

    def begin(self, counts: Tensor | None = None) -> None:
        """Go on from such counts, or from nothing."""
        rows = torch.zeros(len(COUNTED) + len(self.layers), self.steps).double() if counts is None else counts
        for name, row in zip((*COUNTED, *self.layers), rows.clone(), strict=True):
            if name in self.layers:
                self.layers[name] = row
            else:
                setattr(self, name, row)

    def charge(self, before: Ledger) -> None:
        """Add to the first step what was counted before it, in rehearsals."""
        for counted in COUNTED:
            getattr(self, counted)[0] += getattr(before, counted).sum()
        for name, letters in self.layers.items():
            letters[0] += before.layers[name].sum()

    def synapse(self, name: str, reads: str, xs: Tensor, at: slice) -> None:
        """What the message from `reads` costs at the node `name`; at a sum, one operation for each letter."""
        message = self.messages[reads]
        if message.kind in (Kind.LETTERS, Kind.GRADED):
            counted = message.kind is Kind.LETTERS
            if reads not in self._units:
                xs = self._news(reads, xs, at.start) if reads in self._changing else xs
                xs = xs if message.clock is None else xs / message.clock.slots(xs)
                self._units[reads] = _per_step(_letters(xs, message.unit) if counted else xs != 0)
            fan_out = self.macs[name] / math.prod(self.shapes[reads]) if name in self.macs else 1.0
            (self.acs if counted else self.graded)[at] += self._units[reads] * fan_out
        elif message.kind is Kind.ANALOGUE and name in self.macs:
            self.analogue[at] += self.macs[name] * xs.shape[1]

    def _news(self, name: str, xs: Tensor, t: int) -> Tensor:
        """The changes that travel, `[T, N, ...]`, where the readers receive `xs` from step t on."""
        total = self._sums[name] if t else torch.zeros_like(xs[0])
        news = []
        for done, x in enumerate(xs, t):
            news.append(x - total / max(1, done))
            total = total + x
        self._sums[name] = total
        return torch.stack(news)


def _letters(xs: Tensor, unit: Tensor | float) -> Tensor:
    """How many letters a value is made of; where one is worth 0, as in padded channels, there is none."""
    unit = torch.as_tensor(unit, dtype=xs.dtype, device=xs.device)
    return (xs / torch.where(unit == 0, 1.0, unit)).abs()


def _per_step(letters: Tensor) -> Tensor:
    """The sum over samples and neurons at each step; exact, since one sample's letters fit a float32."""
    exact = torch.promote_types(letters.dtype, torch.float32)
    return letters.sum(tuple(range(2, letters.ndim)), dtype=exact).sum(1, dtype=torch.float64).cpu()


def macs(net: SpikingNet, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> float | None:
    """Multiply-accumulates of one dense pass on one sample; None of what has none, or is not counted."""
    outputs, op = math.prod(node.shape), node.op.op if isinstance(node.op, ops.Difference) else node.op
    if isinstance(op, (ops.Affine, ops.BatchNorm, ops.Multiply, ops.Divide)):
        return float(outputs)
    if isinstance(op, (ops.Conv, ops.Linear)):
        return float(outputs * net.weights(node.name)["weight"][0].numel())
    if isinstance(op, ops.ConvTranspose):
        return float(math.prod(shapes[node.inputs[0]]) * net.weights(node.name)["weight"][0].numel())
    if isinstance(op, ops.MatMul):
        return float(outputs * shapes[node.inputs[0]][-1])
    if isinstance(op, ops.Attention):  # q k^T, then its product with v
        queries, keys = shapes[node.inputs[0]], shapes[node.inputs[1]]
        return float(math.prod(queries) * keys[-2] + outputs * keys[-2])
    return None
