"""A network as a row of stages: all that leads into one spiking layer and its neurons, T steps in one pass.

What no stage takes runs as the network's own operations, so any network is such a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import ops
from .gate import Open, SentCharge
from .graph import Graph, Node
from .kernels import cpu, stage
from .kernels.stage import Convolution, Letters, Packed
from .link import Rate
from .membrane import Membrane, Tensors
from .network import SpikingNet
from .neuron import Emission, init, rest
from .state import Visit

class Spelling(NamedTuple):
    """A value made of letters: whole multiples of `unit` from low to high."""

    unit: float
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Of one letter."""
        return math.ceil(math.log2(self.high - self.low + 1))


def spellings(net: SpikingNet) -> dict[str, Spelling]:
    """The nodes whose values are letters of one byte, and which."""
    found: dict[str, Spelling] = {}
    for node in net.graph_nodes:
        op, read = node.op, [found.get(name) for name in node.inputs]
        if isinstance(op, ops.Spike):
            made = _alphabet(op)
        elif isinstance(op, ops.AvgPool) and read[0] and not (any(op.padding) or op.ceil_mode):
            count = math.prod(op.kernel)
            made = Spelling(read[0].unit / count, read[0].low * count, read[0].high * count)
        elif isinstance(op, (ops.Reshape, ops.Permute, ops.Slice, ops.Roll, ops.Flip, ops.Expand)) or (
            (isinstance(op, ops.Pad) and op.mode == "constant")
            or (isinstance(op, ops.Difference) and isinstance(op.op, ops.MaxPool))
        ):
            made = read[0]
            if made and isinstance(op, ops.Difference):  # the maximum falls where it was before
                made = made._replace(low=-max(made.high, -made.low), high=max(made.high, -made.low))
        else:
            made = None
        if made and -127 <= made.low and made.high <= 127:
            found[node.name] = made
    return found


def _alphabet(op: ops.Spike) -> Spelling | None:
    """The letters of a neuron whose worth is folded into what reads them."""
    alphabet, unit = op.neuron.alphabet, op.neuron.alphabet.unit
    if not op.letters or op.block > 1 or op.neuron.threshold.graded or not isinstance(op.neuron.link, Rate):
        return None
    whole = all(height / unit == round(height / unit) for height in alphabet.heights)
    if not whole or math.frexp(unit)[0] != 0.5:
        return None
    high = round(alphabet.ceiling / unit)
    return Spelling(unit, -high if alphabet.signed else 0, high)


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
    """A run of a network over T steps: what was sent, the memory before it and so far, who looks on."""

    net: SpikingNet
    values: Values
    start: int
    steps: int
    samples: int
    before: Mapping[str, Any]
    memory: dict[str, Any]
    visit: Callable[[Visit], None] | None


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
        ys, memory, emission = on.net.node(self.node, inputs, on.before.get(self.node.name))
        on.values.put(self.node.name, ys)
        if memory is not None or isinstance(self.node.op, ops.Difference):
            on.memory[self.node.name] = memory
        if on.visit:
            on.visit(Visit(on.start, self.node, inputs, ys, emission, memory))


@dataclass(frozen=True)
class Narrow:
    """A convolution or linear layer of letters in bfloat16: its weights and its drive are rounded to 8 binary digits."""

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
    """Average pooling of letters: their sums, in a unit as much smaller."""

    node: Node
    why: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return self.node.inputs

    def run(self, on: Run) -> None:
        """The node over all steps."""
        (data, unit), op = on.values.letters(self.node.inputs[0]), self.node.op
        (height, width), (down, right) = op.kernel, op.stride
        rows, columns = self.node.shape[1:]
        total: Any = 0
        for h in range(height):
            for w in range(width):
                total = total + data[:, :, h : h + rows * down : down, w : w + columns * right : right]
        on.values.put(self.node.name, Letters(total, unit / (height * width)))
        if on.visit:
            xs, ys = on.values.real(self.node.inputs[0]), on.values.real(self.node.name)
            on.visit(Visit(on.start, self.node, [xs], ys, None, None))


@dataclass(frozen=True)
class Drive:
    """One of the things that drive a stage.

    name: its node. read: whose value it reads. kernels: the terms of each kernel that takes it, by name, of which
    `chosen` runs. declined: why others do not. weights: what they are rounded to, with which relative error; exact:
    whether no sum of theirs rounds. took: seconds of the stage on the example with each kernel.
    """

    name: str
    read: str
    kernels: dict[str, Packed]
    chosen: str
    declined: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    error: float = 0.0
    exact: bool = True
    took: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A spiking layer with its drives, in the order in which they are added up. inside: the nodes that it stands for."""

    node: Node
    drives: tuple[Drive, ...]
    inside: tuple[Node, ...]
    why: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(drive.read for drive in self.drives)

    def run(self, on: Run) -> None:
        """The letters of all steps."""
        neuron, tensors, before = self.node.op.neuron, on.net.tensors(self.node.name), on.before.get(self.node.name)
        if before is None:
            before = born(self.node, tensors, on.samples)
        letters, on.memory[self.node.name] = self.letters(on, tensors, before)
        on.values.put(self.node.name, letters)
        if on.visit:
            self.show(on, neuron.threshold.amplitude(tensors.theta0, rest(neuron, tensors.theta0)))

    def letters(self, on: Run, tensors: Tensors, before: Membrane) -> tuple[Letters, Membrane]:
        """The letters, and the memory after them."""
        terms, reads = [], []
        for drive in self.drives:
            packed = drive.kernels[drive.chosen]
            current = drive.chosen == "given"
            x = _last(on.values.real(drive.read)) if current else on.values.letters(drive.read).data
            terms += packed
            reads += [x] * len(packed)
        return stage.run(terms, reads, self.node.op.neuron, tensors, before, maps(self.node.shape), on.steps)

    def show(self, on: Run, amplitude: Tensor) -> None:
        """Show the visitor the nodes inside: letters as they are, drives by their shape only, since they never exist."""
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
        on.visit(Visit(on.start, self.node, inputs, ys, Emission(ys, amplitude), memory))


Step = Stage | Pool | Reference | Narrow


def maps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (H, W, C) of a layer `[C, H, W]` or `[C]` with its channels last."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else (1, 1, shape[0])


def born(node: Node, tensors: Tensors, samples: int) -> Membrane:
    """The memory at t = 0, channels last in memory."""
    like = torch.empty((samples, *node.shape))
    if len(node.shape) == 3:
        like = like.contiguous(memory_format=torch.channels_last)
    m = init(node.op.neuron, tensors, like[:0])
    v = like.copy_(tensors.v0.detach().expand(like.shape))
    neuron = node.op.neuron
    return Membrane(v, m.t, neuron.threshold.born(v), neuron.gate.born(v), neuron.link.born(v))


def _last(xs: Tensor) -> Tensor:
    """`[T, N, C, H, W]` or `[T, N, C]` as floats `[T, N, H, W, C]`; what is constant in time once."""
    steps, still = len(xs), xs.stride(0) == 0
    xs = xs[:1] if still else xs
    xs = xs.reshape(*xs.shape[:3], *(xs.shape[3:] or (1, 1))).permute(0, 1, 3, 4, 2).contiguous()
    return xs.expand(steps, *xs.shape[1:]) if still else xs


def declines(net: SpikingNet, node: Node, spelled: Mapping[str, Spelling]) -> str:
    """Why no stage runs a spiking layer, or an empty string if one does."""
    op, tensors, rank = node.op, net.tensors(node.name), len(node.shape)
    if why := cpu.declines(op.neuron):
        return why
    if node.name not in spelled:
        return "its messages are no letters of one byte"
    if not isinstance(op.neuron.gate, (Open, SentCharge)):
        return f"it knows no {type(op.neuron.gate).__name__} gate"
    if tensors.theta0.dtype != torch.float32 or tensors.theta0.device.type != "cpu":
        return f"it runs float32 on the CPU, not {tensors.theta0.dtype} on {tensors.theta0.device.type}"
    if rank not in (1, 3):
        return f"it knows vectors and maps [C, H, W], not samples of {rank} axes"
    if any(t.ndim > rank and t.shape[0] != 1 for t in (tensors.theta0, tensors.v0)):
        return "its thresholds or starts differ from sample to sample"
    bias = tensors.bias
    if bias is not None and bias[0].numel() not in (1, node.shape[0]):
        return "its correction differs from place to place"
    return ""


class Conv(NamedTuple):
    """A synapse that a stage may take: the node, whose letters it reads, and itself as a 2-D convolution."""

    node: Node
    read: str
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation_h: int

    def packed(self, weight: Tensor, scale: Tensor, bias: Tensor, spelled: Spelling) -> Convolution:
        """With these weights."""
        weight = weight.reshape(self.weight.shape)
        return Convolution(
            weight, scale, bias, self.stride, self.padding, self.dilation_h, spelled.low, spelled.high
        )


class Identity(NamedTuple):
    """A shortcut that a stage may take: letters times a scale per channel, sliced and padded."""

    nodes: tuple[Node, ...]
    read: str
    scale: Tensor
    shift: int
    stride: int


def synapse(graph: Graph, node: Node, spelled: Mapping[str, Spelling]) -> Conv | str:
    """The node as a convolution of letters, or why it is none."""
    op, read = node.op, graph[node.inputs[0]] if node.inputs[0] not in graph.inputs else None
    if not isinstance(op, (ops.Conv, ops.Linear)):
        return f"{type(op).__name__} is no convolution and no linear layer"
    if read is None or read.name not in spelled:
        return "it reads no letters of one byte"
    weights = graph.tensors[node.name]
    weight, bias = weights["weight"], weights.get("bias")
    if isinstance(op, ops.Linear):
        if len(node.shape) != 1:
            return "a linear layer over one axis of several"
        if isinstance(read.op, ops.Reshape) and len(graph.shapes[read.inputs[0]]) == 3:
            weight = weight.reshape(len(weight), *graph.shapes[read.inputs[0]])
            return Conv(node, read.inputs[0], weight, bias, (1, 1), (0, 0), 1)
        return Conv(node, read.name, weight[:, :, None, None], bias, (1, 1), (0, 0), 1)
    if weight.ndim != 4:
        return "no convolution of maps"
    if op.groups > 1:
        return f"a convolution of {op.groups} groups"
    if isinstance(op.padding, str) or op.dilation[1] != 1:
        return "a padding by name or dilated columns"
    return Conv(node, read.name, weight, bias, _two(op.stride), _two(op.padding), op.dilation[0])


def shortcut(graph: Graph, node: Node, spelled: Mapping[str, Spelling]) -> Identity | str:
    """The node as letters that pass on, or why they do not."""
    nodes, shift, stride, at = [node], 0, 1, node.inputs[0]
    if not isinstance(node.op, ops.Scale) or at in graph.inputs:
        return "no scale of letters"
    source = graph[at]
    if isinstance(source.op, ops.Pad) and len(source.op.pad) == 6 and not any(source.op.pad[:4]):
        shift, at = source.op.pad[4], source.inputs[0]
        nodes.append(source)
        source = graph[at] if at not in graph.inputs else source
    if isinstance(source.op, ops.Slice) and len(node.shape) == 3:
        steps = [part[2] or 1 for part in source.op.parts[-2:]]
        plain = all(part[:2] == (None, None) for part in source.op.parts) and steps[0] == steps[1]
        if not plain or any((part[2] or 1) != 1 for part in source.op.parts[:-2]):
            return "a slice that is more than every n-th place"
        stride, at = steps[0], source.inputs[0]
        nodes.append(source)
    if at not in spelled or len(graph.shapes[at]) not in (1, 3):
        return "it reads no letters of one byte"
    channels = node.shape[0]
    scale = graph.tensors[node.name]["scale"].detach().float().expand(node.shape).reshape(channels, -1)
    if not bool((scale == scale[:, :1]).all()):
        return "its scale differs from place to place"
    if shift < 0 or shift + graph.shapes[at][0] > channels:
        return "it cuts channels off"
    return Identity(tuple(reversed(nodes)), at, scale[:, 0], shift, stride)


def _two(numbers: tuple[int, ...]) -> tuple[int, int]:
    return numbers[0], numbers[1]


def drives(graph: Graph, name: str) -> tuple[list[str], list[Node]]:
    """What is added up to the drive `name`, in order, and the sums on the way."""
    node = graph[name] if name not in graph.inputs else None
    if node is None or not isinstance(node.op, ops.Add) or any(graph.shapes[n] != node.shape for n in node.inputs):
        return [name], []
    first, sums = drives(graph, node.inputs[0])
    return [*first, *node.inputs[1:]], [*sums, node]
