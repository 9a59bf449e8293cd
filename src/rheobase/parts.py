"""The error of one layer as a sum of parts, each with a cause of its own."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .balance import Balance
from .diagnosis import FAULTS, INHERITED, PARTS, LayerDiagnosis, Part
from .gate import Wait
from .graph import Node
from .kernels import choose
from .limit import Passed, clip, top
from .membrane import Tensors
from .network import SpikingNet
from .neuron import Neuron, received
from .state import constant

SATURATED = 0.01
"""A channel is saturated if more than this share of its values is clipped."""
ROUNDING = 0.01
"""A fault smaller than this share of the layer's RMS activation may be rounding, in bfloat16."""


class Seen(NamedTuple):
    """One layer in both networks: its books, what its readers took it to send in a step on average, `[N, ...]`;
    the drive that the mean emissions of the layers before it make, what the ANN's activation received and gave."""

    book: Balance
    sent: Tensor
    arrived: Tensor
    ann: Passed


def split(net: SpikingNet, node: Node, seen: Seen) -> dict[str, Tensor]:
    """`sent - a` as the sum of the parts that `LayerDiagnosis` names; node: the activation in the source network."""
    neuron, tensors, book = dict(net.sites())[node.name], net.tensors(node.name), seen.book
    drive = book.drive.to(next(net.parameters()).dtype)
    half = tensors._replace(v0=neuron.threshold.rest(tensors.theta0) / 2)

    def f(z: Tensor) -> Tensor:
        return node.op({}, z)

    stages = [
        seen.ann.y,
        f(seen.arrived),
        f(book.received / book.steps),
        f(book.drive),
        clip(node, top(net, node.name))(f(book.drive)),
        even(neuron, half, drive, book.steps),
        even(neuron, tensors, drive, book.steps),
        book.rate,
        seen.sent,
    ]
    differences = [after - before for before, after in pairwise(stages)]
    return dict(zip((INHERITED, *PARTS), differences, strict=True))


def even(neuron: Neuron, tensors: Tensors, drive: Tensor, steps: int) -> Tensor:
    """The mean emission of `steps` steps at constant `drive` `[N, ...]` without bias correction, float64."""
    tensors, drive = tensors._replace(bias=None), drive.contiguous()
    total, memory = torch.zeros_like(drive, dtype=torch.float64), None
    chunk = steps if isinstance(neuron.gate, Wait) else max(1, 2_000_000 // drive.numel())
    for at in range(0, steps, chunk):
        xs = constant(drive, min(chunk, steps - at))
        emission, after = choose(neuron, tensors, xs).run(neuron, tensors, xs, memory)
        total += received(neuron, emission, memory).sum(0, dtype=torch.float64)
        memory = after
    return total / steps


class Ledger:
    """What the samples so far say of one layer. axis: of its channels, without the batch."""

    def __init__(self, node: Node, axis: int) -> None:
        self.node, self.axis = node, axis
        self.values, self.squares = 0, 0.0  # of the ANN's activation
        self.total = 0.0
        self.sums = {name: torch.zeros(3, dtype=torch.float64) for name in (INHERITED, *PARTS)}  # of e^2, e, g e
        channels = node.shape[axis]
        self.costs, self.clipped = torch.zeros(2, channels, dtype=torch.float64)
        self.fired, self.due = torch.zeros(2, channels, dtype=torch.bool)

    def enter(self, net: SpikingNet, seen: Seen, gradient: Tensor) -> None:
        """More samples; gradient: that of `diagnose`, which gives the cost of an error to the answer."""
        parts, a = split(net, self.node, seen), seen.ann.y
        self.values += a.numel()
        self.squares += float(a.square().sum())
        self.total += float((seen.sent - a).square().sum())
        for name, part in parts.items():
            self.sums[name] += torch.stack([part.square().sum(), part.sum(), (gradient * part).sum()]).cpu()
        own = seen.sent - a - parts[INHERITED]
        self.costs += self._channels(gradient * own).sum(1).cpu()
        self.clipped += self._channels((parts["clipping"] != 0).double()).sum(1).cpu()
        neuron, theta0 = dict(net.sites())[self.node.name], net.tensors(self.node.name).theta0
        least = neuron.threshold.rest(theta0) * neuron.alphabet.levels[0] / seen.book.steps
        self.fired |= self._channels(seen.book.sent != 0).any(1).cpu()
        self.due |= self._channels(a >= least).any(1).cpu()

    def closed(self, neuron: str, squared: float, started: bool) -> LayerDiagnosis:
        """The layer's page of the diagnosis; squared: the squared error of all answers; started: as its method says."""
        scale, squared = (self.squares / max(1, self.values)) ** 0.5 or 1.0, squared or 1.0
        parts = {}
        for name, (squares, total, cost) in ((name, sums.tolist()) for name, sums in self.sums.items()):
            rms, mean = (squares / self.values) ** 0.5 / scale, total / self.values / scale
            parts[name] = Part(rms, mean, cost / squared)
        worst = int(self.costs.argmax())
        fault = max(FAULTS, key=lambda name: parts[name].rms)
        per_channel = self.values / len(self.costs)
        return LayerDiagnosis(
            name=self.node.name,
            source=self.node.source,
            neuron=neuron,
            parts=parts,
            error=(self.total / self.values) ** 0.5 / scale,
            share=sum(parts[name].share for name in PARTS),
            channels=len(self.costs),
            dead=tuple((self.due & ~self.fired).nonzero()[:, 0].tolist()),
            saturated=tuple((self.clipped > SATURATED * per_channel).nonzero()[:, 0].tolist()),
            channel=worst,
            channel_share=float(self.costs[worst]) / squared,
            fault=fault if parts[fault].rms > ROUNDING else "" if started else "start",
        )

    def _channels(self, values: Tensor) -> Tensor:
        """`[channels, samples and positions]`."""
        return values.movedim(self.axis + 1, 0).flatten(1)
