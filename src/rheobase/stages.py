"""A network as a row of stages: all that leads into one spiking layer and its neurons, T steps in one pass.

What no stage takes runs as the network's own operations, so any network is such a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import ops
from .graph import Node
from .kernels import stage
from .kernels.engine import Engine
from .kernels.room import Room
from .kernels.stage import Letters, maps
from .kernels.term import Term
from .membrane import Tensors
from .network import STATEFUL, SpikingNet
from .neuron import Emission, worth
from .spelling import Spelling, of_map
from .state import Visit


class Values:
    """What the nodes of a run sent so far: floats `[T, N, ...]` or letters, each made of the other when first asked."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], spelled: Mapping[str, Spelling]) -> None:
        self.shapes, self.spelled = shapes, spelled
        self._real: dict[str, Tensor] = {}
        self._letters: dict[str, Letters] = {}

    def put(self, name: str, value: Tensor | Letters) -> None:
        """The value of a node."""
        if isinstance(value, Letters):
            self._letters[name] = value
        else:
            self._real[name] = value

    def real(self, name: str) -> Tensor:
        """As floats."""
        if name not in self._real:
            self._real[name] = self._letters[name].real(self.shapes[name])
        return self._real[name]

    def letters(self, name: str) -> Letters:
        """As letters."""
        if name not in self._letters:
            self._letters[name] = Letters.of(self._real[name], self.spelled[name].unit)
        return self._letters[name]

    def drop(self, name: str) -> None:
        """Nothing needs this value any more."""
        self._real.pop(name, None)
        self._letters.pop(name, None)


class Run(NamedTuple):
    """A run of a network over T steps: what was sent, memory before it, taken out, and so far, who looks on, room."""

    net: SpikingNet
    values: Values
    start: int
    steps: int
    samples: int
    before: dict[str, Any]
    memory: dict[str, Any]
    visit: Callable[[Visit], None] | None
    room: Room


@dataclass(frozen=True)
class Reference:
    """A node that runs as the network's own operation."""

    node: Node
    why: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return self.node.inputs

    def run(self, on: Run) -> None:
        """The node over all steps."""
        inputs = [on.values.real(name) for name in self.node.inputs]
        ys, memory, emission = on.net.node(self.node, inputs, on.before.pop(self.node.name, None))
        on.values.put(self.node.name, ys)
        if isinstance(self.node.op, STATEFUL):
            on.memory[self.node.name] = memory
        if on.visit:
            on.visit(Visit(on.start, self.node, inputs, ys, emission, memory))


@dataclass(frozen=True)
class Narrow:
    """A synapse of letters in bfloat16: its weights and its drive are rounded to 8 binary digits."""

    node: Node
    why: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return self.node.inputs

    def run(self, on: Run) -> None:
        """The node over all steps."""
        xs = on.values.real(self.node.inputs[0])
        weights = {key: tensor.to(torch.bfloat16) for key, tensor in on.net.weights(self.node.name).items()}
        ys = self.node.op(weights, xs.flatten(0, 1).to(torch.bfloat16)).to(xs.dtype).unflatten(0, xs.shape[:2])
        on.values.put(self.node.name, ys)
        if on.visit:
            on.visit(Visit(on.start, self.node, [xs], ys, None, None))


@dataclass(frozen=True)
class Pool:
    """Pooling of letters step by step: the largest of each window, or their sum in a unit as much smaller."""

    node: Node
    engine: Engine
    why: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return self.node.inputs

    def run(self, on: Run) -> None:
        """The node over all steps."""
        (data, unit), op = on.values.letters(self.node.inputs[0]), self.node.op
        largest, kernel = isinstance(op, ops.MaxPool), of_map(op.kernel, 1)
        padding, dilation = of_map(op.padding, 0), of_map(op.dilation if largest else (1,), 1)
        pooled = on.room.empty((*data.shape[:2], *maps(self.node.shape)), torch.int8, data.device)
        self.engine.pool(data, pooled, largest, [*kernel, *of_map(op.stride, 1), *padding, *dilation])
        on.values.put(self.node.name, Letters(pooled, unit if largest else unit / math.prod(kernel)))
        if on.visit:
            xs, ys = on.values.real(self.node.inputs[0]), on.values.real(self.node.name)
            on.visit(Visit(on.start, self.node, [xs], ys, None, None))


@dataclass(frozen=True)
class Drive:
    """One of the things that drive a stage.

    name: its node. read: whose value it reads. kernels: the term of each kernel that takes it, by name, of which
    `chosen` runs. declined: why others do not. weights: what they are rounded to, with which relative error; exact:
    whether no sum of theirs rounds. took: seconds of the stage on the example with each kernel.
    """

    name: str
    read: str
    kernels: dict[str, Term]
    chosen: str
    declined: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    error: float = 0.0
    exact: bool = True
    took: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A spiking layer with its drives, in the order in which they add up.

    tensors: of its neurons. inside: the nodes that it stands for. engine: what runs it.
    """

    node: Node
    drives: tuple[Drive, ...]
    tensors: Tensors
    inside: tuple[Node, ...]
    engine: Engine

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(drive.read for drive in self.drives)

    def run(self, on: Run) -> None:
        """The letters of all steps."""
        reads = [
            _last(on.values.real(drive.read)) if drive.chosen == "given" else on.values.letters(drive.read).data
            for drive in self.drives
        ]
        before = on.before.pop(self.node.name, None)
        letters, on.memory[self.node.name] = self._prepared.run(reads, before, on.steps, on.room.empty)
        on.values.put(self.node.name, letters)
        if on.visit:
            self.show(on)

    @cached_property
    def _prepared(self) -> stage.Prepared:
        terms = [drive.kernels[drive.chosen] for drive in self.drives]
        return stage.Prepared(self.engine.stage, terms, self.node.op.neuron, self.tensors, self.node.shape)

    def show(self, on: Run) -> None:
        """Show the visitor the nodes inside: letters as they are, drives by their shape only: they never exist."""
        assert on.visit
        seen: dict[str, Tensor] = {}

        def value(name: str) -> Tensor:
            return seen[name] if name in seen else on.values.real(name)

        for node in self.inside:
            inputs = [value(name) for name in node.inputs]
            if isinstance(node.op, (*ops.SYNAPSES, ops.Add)):
                seen[node.name] = torch.empty((on.steps, on.samples, *node.shape), device="meta")
            else:
                seen[node.name], _, _ = on.net.node(node, inputs, None)
            on.visit(Visit(on.start, node, inputs, seen[node.name], None, None))
        ys, memory = on.values.real(self.node.name), on.memory[self.node.name]
        inputs = [value(name) for name in self.node.inputs]
        amplitude = worth(self.node.op.neuron, self.tensors.theta0)
        on.visit(Visit(on.start, self.node, inputs, ys, Emission(ys, amplitude), memory))


Step = Stage | Pool | Reference | Narrow


def _last(xs: Tensor) -> Tensor:
    """`stage.last`, dense in memory; what is constant in time once."""
    if xs.stride(0):
        return stage.last(xs).contiguous()
    return stage.last(xs[:1]).contiguous().expand(len(xs), -1, -1, -1, -1)
