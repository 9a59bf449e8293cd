"""What changes no output: batch norm into the weights before it, theta into the weights after it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from . import neuron, ops
from .graph import Graph, Node
from .inputs import each
from .threshold import Radix


def differences(graph: Graph) -> Graph:
    """Every operation that is not linear as its temporal difference, as a converted network runs it."""
    return replace(graph, nodes=tuple(replace(node, op=ops.in_time(node.op)) for node in graph.nodes))


def settled(graph: Graph) -> Graph:
    """The network outside of training: a batch norm is the Affine of its running statistics, a dropout is gone."""
    nodes, tensors, stands = [], dict(graph.tensors), {}
    for node in graph.nodes:
        inputs = tuple(stands.get(name, name) for name in node.inputs)
        if isinstance(node.op, ops.Dropout):
            stands[node.name] = inputs[0]
            continue
        op = node.op
        if isinstance(op, ops.BatchNorm):
            held = tensors[node.name]
            tensors[node.name] = {k: t.to(held["running_mean"].dtype) for k, t in op.affine(held).items()}
            op = ops.Affine()
        nodes.append(replace(node, op=op, inputs=inputs))
    output = each(lambda name: stands.get(name, name), graph.output)
    return replace(graph, nodes=tuple(nodes), output=output, tensors=tensors)


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold each batch norm into the convolution or linear layer before it, if that has this one reader.

    `W' = scale * W`, `b' = scale * b + shift`, in float64.
    """
    graph = settled(graph)
    tensors = dict(graph.tensors)
    nodes: dict[str, Node] = {}
    folded: dict[str, str] = {}
    for node in graph.nodes:
        source = node.inputs[0]
        into = nodes.get(folded.get(source, source))
        if isinstance(node.op, ops.Affine) and into and _takes_affine(into) and len(graph.readers(source)) == 1:
            tensors[into.name] = _rescaled(into.op, tensors[into.name], tensors.pop(node.name))
            folded[node.name] = into.name
        else:
            nodes[node.name] = replace(node, inputs=tuple(folded.get(name, name) for name in node.inputs))
    output = each(lambda name: folded.get(name, name), graph.output)
    return replace(graph, nodes=tuple(nodes.values()), output=output, tensors=tensors)


def _takes_affine(node: Node) -> bool:
    return isinstance(node.op, (ops.Conv, ops.ConvTranspose)) or (
        isinstance(node.op, ops.Linear) and len(node.shape) == 1
    )


def _rescaled(op: ops.Op, synapse: dict[str, Tensor], affine: dict[str, Tensor]) -> dict[str, Tensor]:
    weight, scale, shift = synapse["weight"], affine["weight"].double(), affine["bias"].double()
    bias = synapse["bias"].double() * scale + shift if "bias" in synapse else shift
    if isinstance(op, ops.ConvTranspose):  # [in, out / groups, ...]
        each = scale.reshape(op.groups, 1, -1).expand(-1, len(weight) // op.groups, -1).flatten(0, 1)
        scaled = weight.double() * each.reshape(*each.shape, *(1,) * (weight.ndim - 2))
    else:
        scaled = weight.double() * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return {"weight": scaled.to(weight.dtype), "bias": bias.to(weight.dtype)}


def _folds(op: ops.Spike) -> bool:
    """Whether what a letter is worth is constant in time, or known from the clock, and not folded yet."""
    return not op.letters and (isinstance(op.neuron.threshold, Radix) or not op.neuron.threshold.graded)


def fold_theta(graph: Graph) -> Graph:
    """Let letters travel: where theta is constant in time it moves into the weights that read the letters.

    A value `worth * letters` passes as letters through pooling, slicing, padding, reshaping and concatenation; the
    next synapse multiplies its weights by the worth; what cannot (a residual sum, the output) reads it through one
    explicit Scale. The outputs are those of the unfolded network up to the rounding of the products.
    """
    graph, scales = _amplified(graph)
    tensors = dict(graph.tensors)
    nodes: dict[str, Node] = {}
    worth: dict[str, Tensor] = {}  # what one letter of a value is worth; broadcasts against its shape

    def plain(name: str) -> str:
        """The value in activation units."""
        if name not in worth:
            return name
        scaled = f"{name}.scale"
        if scaled not in nodes:
            nodes[scaled] = Node(name=scaled, op=ops.Scale(), inputs=(name,), shape=graph[name].shape)
            tensors[scaled] = {"scale": worth[name]}
        return scaled

    for node in graph.nodes:
        carried = [worth.get(name) for name in node.inputs]
        op, inputs = node.op, node.inputs
        if isinstance(op, ops.Spike) and (node.name in scales or _folds(op)):
            own = neuron.worth(op.neuron, tensors[node.name]["theta0"])
            worth[node.name] = scales.get(node.name, own)
            op, inputs = replace(op, letters=True), tuple(map(plain, inputs))
        elif any(w is not None for w in carried):
            shapes = [graph[name].shape if name in worth else () for name in inputs]
            if (
                isinstance(op, ops.SYNAPSES)
                and (w := _absorbed(op, tensors[node.name], carried[0], shapes[0])) is not None
            ):
                tensors[node.name] = tensors[node.name] | {"weight": w}
            elif (
                isinstance(op, ops.Concat)
                and (w := _joined(op, carried, [graph.shapes[n] for n in inputs])) is not None
            ) or (len(inputs) == 1 and (w := _passed(op, carried[0], shapes[0])) is not None):
                worth[node.name] = w
            else:
                inputs = tuple(map(plain, inputs))
        nodes[node.name] = replace(node, op=op, inputs=inputs)
    output = each(plain, graph.output)
    return replace(graph, nodes=tuple(nodes.values()), output=output, tensors=tensors)


def _amplified(graph: Graph) -> tuple[Graph, dict[str, Tensor]]:
    """Without the scales that are all that reads the letters of a neuron; what they make each letter worth."""
    scales, stands = {}, {}
    for node in graph.of(ops.Scale):
        source = next((n for n in graph.of(ops.Spike) if n.name == node.inputs[0]), None)
        if source and source.op.letters and source.name not in scales and graph.readers(source.name) == [node]:
            scales[source.name], stands[node.name] = graph.tensors[node.name]["scale"], source.name
    nodes = tuple(
        replace(node, inputs=tuple(stands.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.name not in stands
    )
    tensors = {name: held for name, held in graph.tensors.items() if name not in stands}
    output = each(lambda name: stands.get(name, name), graph.output)
    return replace(graph, nodes=nodes, output=output, tensors=tensors), scales


def _along(worth: Tensor, shape: tuple[int, ...], axis: int) -> Tensor | None:
    """`worth` as a vector along one axis of `shape`, or None if it varies along another."""
    full = worth.expand(shape).movedim(axis, 0).flatten(1) if len(shape) > 1 else worth.expand(shape)[:, None]
    return full[:, 0] if bool((full == full[:, :1]).all()) else None


def _absorbed(op: ops.Op, weights: dict[str, Tensor], worth: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """The weights of a synapse that reads letters of this worth, or None if no weights can say it."""
    assert worth is not None
    along = _along(worth, shape, -1 if isinstance(op, ops.Linear) else 0)
    if along is None:
        return None
    weight, along = weights["weight"], along.double()
    if isinstance(op, ops.ConvTranspose):
        along = along.reshape(-1, *(1,) * (weight.ndim - 1))
    if isinstance(op, ops.Conv):
        inputs = along.reshape(op.groups, -1).repeat_interleave(len(weight) // op.groups, 0)
        along = inputs.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))
    return (weight.double() * along).to(weight.dtype)


def _passed(op: ops.Op, worth: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """The worth of a letter behind a carrier, or None if letters cannot pass."""
    assert worth is not None
    around = isinstance(op, ops.Pad) and not any(op.pad[2 * len(shape) - 2 :])  # zeros there are letters of any worth
    if around and worth.numel() > 1 and (channels := _along(worth, shape, 0)) is not None:
        return channels.reshape(-1, *(1,) * (len(shape) - 1))
    if isinstance(op, ops.Pad) and op.mode != "constant":
        return worth if worth.numel() == 1 else None
    if isinstance(op, (ops.Reshape, ops.Permute, ops.Slice, ops.Pad, ops.Roll, ops.Flip, ops.Expand)):
        return worth if worth.numel() == 1 else op({}, worth.expand(shape)[None])[0]
    if not isinstance(op, (ops.AvgPool, ops.AdaptiveAvgPool, ops.Resize, ops.Mean, *ops.MAXIMA)):
        return None
    if worth.numel() == 1:
        return worth.reshape(())
    along = _along(worth, shape, 0)
    reduces = isinstance(op, (ops.Mean, ops.Maximum))
    if along is None or (reduces and (1 in op.dims or 0 in op.dims)):
        return None
    rest_of_it = len(shape) - 1 - (len(op.dims) if reduces and not op.keepdim else 0)
    return along.reshape(-1, *(1,) * rest_of_it)


def _joined(op: ops.Concat, worths: list[Tensor | None], shapes: list[tuple[int, ...]]) -> Tensor | None:
    """The worth of letters side by side; what is no letter counts as worth 1."""
    known = [w for w in worths if w is not None]
    if len(known) == len(worths) and all(w.numel() == 1 and w == known[0] for w in known):
        return known[0].reshape(())
    full = [
        (torch.ones((), dtype=known[0].dtype) if w is None else w).expand(s)
        for w, s in zip(worths, shapes, strict=True)
    ]
    return torch.cat(full, op.dim - 1 if op.dim > 0 else op.dim)
