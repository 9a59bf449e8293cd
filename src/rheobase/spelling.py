"""Where letters travel in a network, and what of it is made of them: the spelling of each value, and its readers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from . import ops
from .graph import Graph, Node
from .kernels.convolution import Convolution
from .kernels.engine import Engine
from .kernels.stage import maps, of_places
from .link import Rate
from .network import SpikingNet


class Spelling(NamedTuple):
    """A value made of letters: whole multiples of `unit` from low to high."""

    unit: float
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Of one letter."""
        return math.ceil(math.log2(self.high - self.low + 1))

    @property
    def dyadic(self) -> bool:
        """Whether the unit is a power of two, so that no product with it rounds."""
        return math.frexp(self.unit)[0] == 0.5


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
            or (isinstance(op, ops.MaxPool) and (not any(op.padding) or all(d == 1 for d in op.dilation)))
            or (isinstance(op, ops.Difference) and isinstance(op.op, ops.MaxPool))
        ):
            made = read[0]
            if made and isinstance(op, ops.Difference):  # the maximum falls where it was before
                made = made._replace(low=-max(made.high, -made.low), high=max(made.high, -made.low))
        elif isinstance(op, ops.Concat):
            made = _joined(read)
        else:
            made = None
        if made and made.low >= -127 and made.high <= 127:
            found[node.name] = made
    return found


def _joined(read: list[Spelling | None]) -> Spelling | None:
    """Letters of one unit side by side."""
    parts = [part for part in read if part]
    if len(parts) < len(read) or len({part.unit for part in parts}) > 1:
        return None
    return Spelling(parts[0].unit, min(part.low for part in parts), max(part.high for part in parts))


def _alphabet(op: ops.Spike) -> Spelling | None:
    """The letters of a neuron whose worth is folded into what reads them."""
    alphabet, unit = op.neuron.alphabet, op.neuron.alphabet.unit
    if not op.letters or op.block > 1 or op.neuron.threshold.graded or not isinstance(op.neuron.link, Rate):
        return None
    whole = all(height / unit == round(height / unit) for height in alphabet.heights)
    high = round(alphabet.ceiling / unit)
    made = Spelling(unit, -high if alphabet.signed else 0, high)
    return made if whole and made.dyadic else None


def declines(engine: Engine, net: SpikingNet, node: Node, spelled: Mapping[str, Spelling]) -> str:
    """Why no stage of an engine runs a spiking layer, or an empty string if one does."""
    op, tensors, rank = node.op, net.tensors(node.name), len(node.shape)
    if why := engine.declines(op.neuron, tensors):
        return why
    if node.name not in spelled:
        return "its messages are no letters of one byte"
    if rank > 3:
        return f"it knows vectors and maps [C, L] or [C, H, W], not samples of {rank} axes"
    if any(t.ndim > rank and t.shape[0] != 1 for t in (tensors.theta0, tensors.v0)):
        return "its thresholds or starts differ from sample to sample"
    if tensors.bias is not None and not _alike(of_places(tensors.bias, node.shape).flatten(0, 1)):
        return "its correction differs from place to place"
    return ""


def _alike(channels: Tensor) -> bool:
    """Whether every place of a channel `[channels, ...]` has the same number."""
    flat = channels.reshape(len(channels), -1)
    return bool((flat == flat[:, :1]).all())


class Conv(NamedTuple):
    """A synapse that a stage may take: the node, whose letters it reads, and itself as a 2-D convolution."""

    node: Node
    read: str
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def packed(self, weight: Tensor, scale: Tensor, bias: Tensor, spelled: Spelling) -> Convolution:
        """With these weights."""
        weight, geometry = weight.reshape(self.weight.shape), (self.stride, self.padding, self.dilation)
        return Convolution(weight, scale, bias, *geometry, spelled.low, spelled.high, self.groups)


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
        source = read.inputs[0] if isinstance(read.op, ops.Reshape) else read.name
        height, width, channels = maps(graph.shapes[source])
        return Conv(node, source, weight.reshape(-1, channels, height, width), bias)
    if weight.ndim > 4:
        return "a convolution of volumes"
    if isinstance(op.padding, str):
        return "a padding by name"
    source, (above, left) = _unpadded(read)
    if weight.ndim == 3:  # a map of one row
        weight = weight.unsqueeze(2)
    stride, padding, dilation = of_map(op.stride, 1), of_map(op.padding, 0), of_map(op.dilation, 1)
    return Conv(node, source, weight, bias, stride, (above + padding[0], left + padding[1]), dilation, op.groups)


def _unpadded(read: Node) -> tuple[str, tuple[int, int]]:
    """What lies inside zeros around a map, and how many are above it and to the left: the output says where it ends."""
    pad = read.op.pad if isinstance(read.op, ops.Pad) and read.op.mode == "constant" else ()
    around, rest = pad[: 2 * (len(read.shape) - 1)], pad[2 * (len(read.shape) - 1) :]
    if not pad or any(rest) or min(around) < 0:
        return read.name, (0, 0)
    left, _, above, _ = (*around, 0, 0, 0)[:4]
    return read.inputs[0], (above, left)


def shortcut(graph: Graph, node: Node, spelled: Mapping[str, Spelling]) -> Identity | str:
    """The node as letters that pass on, or why they do not."""
    nodes, shift, stride, at = [node], 0, 1, node.inputs[0]
    if not isinstance(node.op, ops.Scale) or at in graph.inputs:
        return "no scale of letters"
    source = graph[at]
    pads = isinstance(source.op, ops.Pad) and source.op.mode == "constant" and len(node.shape) == 3
    if pads and len(source.op.pad) == 6 and not any(source.op.pad[:4]):
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
    if at not in spelled or len(graph.shapes[at]) > 3:
        return "it reads no letters of one byte"
    channels = node.shape[0]
    scale = graph.tensors[node.name]["scale"].detach().float().expand(node.shape).reshape(channels, -1)
    if not _alike(scale):
        return "its scale differs from place to place"
    if shift < 0 or shift + graph.shapes[at][0] > channels:
        return "it cuts channels off"
    return Identity(tuple(reversed(nodes)), at, scale[:, 0], shift, stride)


def of_map(numbers: tuple[int, ...], one: int) -> tuple[int, int]:
    """The numbers of a map, `one` for the height of a row."""
    height, width = (one, *numbers)[-2:]
    return height, width


def drives(graph: Graph, name: str) -> tuple[list[str], list[Node]]:
    """What is added up to the drive `name`, in order, and the sums on the way."""
    node = graph[name] if name not in graph.inputs else None
    if node is None or not isinstance(node.op, ops.Add) or any(graph.shapes[n] != node.shape for n in node.inputs):
        return [name], []
    first, sums = drives(graph, node.inputs[0])
    return [*first, *node.inputs[1:]], [*sums, node]
