"""A network of many letters as one of single spikes, without loss: a step becomes a block of sub-steps."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from . import ops
from .errors import ConversionError, context
from .fold import settled
from .graph import Graph, Node
from .inputs import each
from .link import Rate
from .network import SpikingNet
from .preflight import constants


def lower(net: SpikingNet) -> SpikingNet:
    """The same network on binary spikes, ternary ones for letters of both signs, with K sub-steps for each step.

        s units = sum over j = 1..K of sign(s) H(|s| - j)

    K is the number of units of the largest letter of the network: `burst(4)` takes 4 sub-steps, `digits(3)` 7. A letter
    of s units leaves as one spike in each of the first s sub-steps; a neuron adds up what a block brings and decides at
    its end, so that each layer follows the one before by a block. What is constant, inputs and biases, acts in the
    first sub-step of a block. `lowered(xs)[0][K-1::K]` equals `net(xs)[0]` for drives that are held for K sub-steps;
    constant coding of K * T steps is such. Bit for bit where sums do not round, else to their rounding.

    Raises ConversionError, by name, for what has no spikes to be lowered to.

    >>> import rheobase as rb, torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), rb.MultiThresholdLIF(levels=3), torch.nn.Linear(8, 2))
    >>> net, x = rb.spiking(module.eval(), torch.rand(1, 4)), torch.rand(5, 4)
    >>> ys, _ = rb.lower(net)(rb.constant(x, steps=6))
    >>> torch.allclose(ys[2::3], net(rb.constant(x, steps=2))[0], atol=1e-6)
    True
    """
    with context("lower"):
        graph = settled(net.graph)
        for node in graph.nodes:
            _check(node)
        block = max((_units(node) for node in graph.of(ops.Spike)), default=1)
        provenance = net.provenance | {"block": block}
        return SpikingNet(_blocks(graph, block) if block > 1 else graph, provenance).eval()


def _units(node: Node) -> int:
    """How many units the largest letter of a neuron has."""
    alphabet = node.op.neuron.alphabet
    return ceil(alphabet.ceiling / alphabet.unit - 1e-6)


def _check(node: Node) -> None:
    """Refuse what does not add up over sub-steps."""
    op, why = node.op, ""
    if isinstance(op, ops.Spike):
        if not isinstance(op.neuron.link, Rate) or op.neuron.rehearsal.steps:
            why = "its messages are no letters of one step alone"
        elif op.block > 1:
            why = "it is lowered already"
    elif isinstance(op, (ops.Rectify, *ops.NONLINEAR)) and not isinstance(op, ops.MAXIMA):
        why = "it is not linear, so its values over sub-steps do not add up"
    elif isinstance(op, ops.Difference) and not op.exact:
        why = "it depends on how many steps are done"
    if why:
        raise ConversionError(f"{node.name!r} ({type(op).__name__}) cannot be lowered", why=why)


def _blocks(graph: Graph, block: int) -> Graph:
    """The graph over sub-steps: neurons in blocks, constants in pulses, answers K times as large."""
    build = _Builder(graph, block)
    for node in graph.nodes:
        build.take(node)
    output = each(build.whole, graph.output)
    return replace(
        graph, nodes=tuple(build.nodes), output=output, tensors={n: w for n, w in build.tensors.items() if w}
    )


class _Builder:
    """The nodes so far, and which node stands for a value of the graph over steps."""

    def __init__(self, graph: Graph, block: int) -> None:
        self.shapes, self.block, self.still, self.any_input = (
            graph.shapes,
            block,
            constants(graph),
            next(iter(graph.inputs)),
        )
        self.nodes: list[Node] = []
        self.tensors = {name: dict(weights) for name, weights in graph.tensors.items()}
        self.dtype = next((t.dtype for w in self.tensors.values() for t in w.values() if t.is_floating_point()), None)
        self.stands: dict[str, str] = {}

    def take(self, node: Node) -> None:
        """One node as it runs over sub-steps."""
        if isinstance(node.op, ops.Constant):
            self.nodes.append(replace(node, inputs=(self.any_input,)))
            self.still.add(node.name)
        elif node.name in self.still:
            self.nodes.append(node)
        else:
            op = replace(node.op, block=self.block) if isinstance(node.op, ops.Spike) else node.op
            self.nodes.append(replace(node, op=op, inputs=tuple(map(self.pulsed, node.inputs))))
            if "bias" in self.tensors.get(node.name, {}) and not isinstance(op, ops.Spike):
                self.split(node)

    def split(self, node: Node) -> None:
        """The bias of a node as a constant of its own, added behind it."""
        bias = self.tensors[node.name].pop("bias")
        channels = isinstance(node.op, (ops.Conv, ops.ConvTranspose, ops.Affine))
        bias = bias.reshape(-1, *(1,) * (len(node.shape) - 1)) if channels else bias
        constant = self.add(f"{node.name}.bias", ops.Constant(), (self.any_input,), tuple(bias.shape), bias=bias)
        self.still.add(constant)
        inputs = (self.stands.get(node.name, node.name), self.pulsed(constant))
        self.stands[node.name] = self.add(f"{node.name}.biased", ops.Add(), inputs, node.shape)

    def pulsed(self, name: str) -> str:
        """A value as sub-steps read it: what is constant, in the first of a block only."""
        if name in self.still and name not in self.stands:
            self.stands[name] = self.add(f"{name}.pulse", ops.Pulse(block=self.block), (name,), self.shapes[name])
        return self.stands.get(name, name)

    def whole(self, name: str) -> str:
        """An answer K times as large, so that its mean over sub-steps is that over steps."""
        size = torch.tensor(float(self.block), dtype=self.dtype)
        return self.add(f"{name}.whole", ops.Scale(), (self.pulsed(name),), self.shapes[name], scale=size)

    def add(self, name: str, op: Any, inputs: tuple[str, ...], shape: tuple[int, ...], **weights: Tensor) -> str:
        """A new node."""
        self.nodes.append(Node(name=name, op=op, inputs=inputs, shape=shape))
        self.shapes[name] = shape
        if weights:
            self.tensors[name] = weights
        return name
