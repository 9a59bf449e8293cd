"""Which nodes of a network become stages, with which kernels, and the weights as they round them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from . import ops
from .graph import Node
from .inputs import tensors
from .kernels import term
from .kernels.engine import Engine
from .network import SpikingNet
from .rounding import Rounded, rounded
from .spelling import Conv, Spelling, declines, drives, shortcut, spellings, synapse
from .stages import Drive, Narrow, Pool, Reference, Stage, Step


class Plan:
    """Which nodes become stages, with which kernels, and the weights as they round them."""

    def __init__(self, net: SpikingNet, precision: str, rates: Mapping[str, float], engine: Engine) -> None:
        self.net, self.graph, self.precision, self.rates, self.engine = net, net.graph, precision, rates, engine
        self.spelled = spellings(net)
        self.tensors = {name: dict(weights) for name, weights in self.graph.tensors.items()}
        self.narrow: set[str] = set()

    def steps(self) -> tuple[Step, ...]:
        """The row of steps: only what the stages and the answer need."""
        needed, row = set(tensors(self.graph.output)), []
        stages = {node.name: self.stage(node) for node in self.graph.of(ops.Spike)}
        for node in reversed(self.graph.nodes):
            step = stages.get(node.name) or (self.other(node) if node.name in needed else None)
            if step:
                needed |= set(step.reads)
                row.append(step)
        return tuple(reversed(row))

    def stage(self, node: Node) -> Step:
        """A spiking layer."""
        if why := declines(self.engine, self.net, node, self.spelled):
            return Reference(node, why)
        names, sums = drives(self.graph, node.inputs[0])
        found, inside = [], []
        for name in names:
            drive, nodes = self.drive(name)
            found.append(drive)
            inside += nodes
        position = {n.name: k for k, n in enumerate(self.graph.nodes)}
        inside = sorted({n.name: n for n in (*inside, *sums)}.values(), key=lambda n: position[n.name])
        return Stage(node, tuple(found), self.net.tensors(node.name), tuple(inside), self.engine)

    def drive(self, name: str) -> tuple[Drive, tuple[Node, ...]]:
        """One drive, and the nodes that it stands for."""
        if name in self.graph.inputs:
            return _given(name), ()
        node = self.graph[name]
        through = shortcut(self.graph, node, self.spelled)
        if not isinstance(through, str):
            spelled = self.spelled[through.read]
            kernels = {"identity": term.identity(through.scale * spelled.unit, through.shift, through.stride)}
            return Drive(name, through.read, kernels, "identity", exact=spelled.dyadic), through.nodes
        conv = synapse(self.graph, node, self.spelled)
        if isinstance(conv, str):
            return _given(name, {", ".join(self.engine.whole): conv}), ()
        drive = self.whole(conv) if self.precision == "int8" else self.real(conv)
        if drive.chosen == "given":
            return drive, ()
        flat = self.graph[node.inputs[0]]
        return drive, (flat, node) if flat.name != conv.read else (node,)

    def whole(self, conv: Conv) -> Drive:
        """A drive with weights of 8 bits."""
        name, spelled = conv.node.name, self.spelled[conv.read]
        made = rounded(conv.weight * spelled.unit, conv.bias, spelled.low, spelled.high)
        packed = conv.packed(made.whole, made.scale, made.bias, spelled)
        kernels, declined = _taken({kernel: made_of(packed) for kernel, made_of in self.engine.whole.items()})
        if not kernels:
            return _given(name, declined)
        self.keep(conv, made, spelled)
        exact = made.exact and spelled.dyadic
        chosen = next(iter(kernels))
        return Drive(name, conv.read, kernels, chosen, declined, "int8", made.error, exact)

    def keep(self, conv: Conv, made: Rounded, spelled: Spelling) -> None:
        """The network has the weights as they were rounded."""
        held = self.tensors[conv.node.name]
        held["weight"] = (made.weight / spelled.unit).reshape(held["weight"].shape)
        if "bias" in held:
            held["bias"] = made.bias

    def real(self, conv: Conv) -> Drive:
        """A drive with weights of 16 or 32 bits."""
        name, spelled, rate = conv.node.name, self.spelled[conv.read], self.rates[conv.read]
        if self.precision == "bf16":
            self.narrow.add(name)
            why = {", ".join(self.engine.whole): "their weights are not of 16 bits"}
            return replace(_given(name, why), weights="bf16", exact=False)
        weight = conv.weight.detach().float() * spelled.unit
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().float()
        packed = conv.packed(weight, torch.ones(len(weight)), bias, spelled)
        kernels, declined = _taken({kernel: made_of(packed, rate) for kernel, made_of in self.engine.real.items()})
        if not kernels:
            return replace(_given(name, declined), weights="fp32")
        return Drive(name, conv.read, kernels, next(iter(kernels)), declined, "fp32", exact=False)

    def other(self, node: Node) -> Step:
        """A node outside of stages."""
        if node.name in self.narrow:
            return Narrow(node)
        if isinstance(node.op, ops.Difference) and node.op.exact:
            return Reference(node, "a maximum of sums over time, with a memory")
        if not isinstance(node.op, (ops.AvgPool, ops.MaxPool)):
            return Reference(node)
        if self.engine.missing or node.name not in self.spelled:
            return Reference(node, self.engine.missing or "what leaves it are no letters of one byte")
        return Reference(node, "windows of a volume") if len(node.op.kernel) > 2 else Pool(node, self.engine)


def _given(name: str, declined: dict[str, str] | None = None) -> Drive:
    """A drive that the network's own operation computes."""
    return Drive(name, name, {"given": term.current()}, "given", declined or {})


def _taken(found: Mapping[str, term.Term | str]) -> tuple[dict[str, term.Term], dict[str, str]]:
    """The kernels that take a drive, and why the others do not."""
    taken = {name: made for name, made in found.items() if not isinstance(made, str)}
    return taken, {name: why for name, why in found.items() if isinstance(why, str)}
