"""The clipped ANN: what a spiking network computes in the limit of many steps, activation by activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import ops
from .errors import InputError
from .graph import Graph, Node
from .inputs import each, tensors
from .network import SpikingNet
from .neuron import Neuron
from .preflight import source_graph
from .rehearsal import Residual
from .reset import Subtract


def source_of(net: SpikingNet, ann: nn.Module, x: Any) -> Graph:
    """The source network of `net`, batch norm folded, for inputs like `x`.

    Raises InputError where `ann` has not the activations that the neurons of `net` stand for, and for a compiled `net`.
    """
    if not isinstance(net, SpikingNet):
        raise InputError(
            f"a {type(net).__name__} cannot be looked into",
            why="its drives never reach memory",
            instead="fast.net, the network that it computes",
        )
    source = source_graph(ann, x, net.provenance.get("on_unsupported", "error"), net.provenance.get("leave", ()))
    known = {node.name: node.shape for node in source.of(ops.Rectify)}
    own = {node.name: node.shape for node in net.graph_nodes if isinstance(node.op, ops.Spike)}
    if known != own:
        odd = next(name for name in (*own, *known) if known.get(name) != own.get(name))
        raise InputError(
            f"the spiking network was not converted from this {type(ann).__name__}: they differ at activation {odd!r}",
            why=f"shape {own.get(odd, 'none')} in the spiking network, {known.get(odd, 'none')} in the ANN",
            instead="the ANN that was given to convert",
        )
    return source


def exact(graph: Graph) -> Graph:
    """The graph with its tensors in float64."""
    return replace(
        graph, tensors={name: {k: doubled(v) for k, v in held.items()} for name, held in graph.tensors.items()}
    )


def doubled(x: Any) -> Any:
    """Real numbers in float64, whole numbers as they are."""
    return each(lambda part: part.double() if part.is_floating_point() else part, x)


def is_classifier(net: SpikingNet) -> bool:
    """Whether an answer is one vector of several classes."""
    return isinstance(net.output, str) and len(net.output_shape) == 1 and net.output_shape[0] > 1


def flat(answer: Any, axes: int = 1) -> Tensor:
    """One tensor in float64: the answer of a network, or all of its answers side by side behind the first `axes`."""
    if isinstance(answer, Tensor):
        return answer.double()
    return torch.cat([part.double().flatten(axes) for part in tensors(answer)], axes)


class Passed(NamedTuple):
    """What one activation received and gave, `[N, ...]`."""

    z: Tensor
    y: Tensor


def activations(graph: Graph, x: Any, names: Iterable[str]) -> tuple[dict[str, Passed], Tensor]:
    """What the nodes `names` of a graph in float64 received and gave in one pass on `x`, and the answer, `flat`."""
    passed: dict[str, Passed] = {}
    wanted = set(names)

    def note(node: Node, xs: list[Tensor], y: Tensor) -> None:
        if node.name in wanted:
            passed[node.name] = Passed(xs[0], y)

    answer = flat(graph(doubled(x), note))
    return passed, answer


def replaced(graph: Graph, by: Mapping[str, Callable[[Tensor], Tensor]]) -> Graph:
    """The graph with a function `z -> y` in the place of each activation that `by` names."""

    def op(name: str) -> Callable[..., Tensor]:
        return lambda weights, z: by[name](z)

    nodes = tuple(replace(node, op=op(node.name)) if node.name in by else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def given(graph: Graph, values: Mapping[str, Tensor]) -> Graph:
    """The graph whose activations give `values`, whatever they receive."""
    return replaced(graph, {name: lambda z, y=y: y for name, y in values.items()})


def clipped(source: Graph, net: SpikingNet) -> Graph:
    """The source network whose spiking activations give no more than their neurons can send."""
    return replaced(source, {name: clip(source[name], top(net, name)) for name, _ in net.sites()})


def clip(node: Node, top: Tensor) -> Callable[[Tensor], Tensor]:
    """`z -> clip(z, 0, top)`; from -top on where values of both signs pass."""
    low = -top if node.op.signed else torch.zeros_like(top)
    return lambda z: z.maximum(low).minimum(top)


def top(net: SpikingNet, name: str) -> Tensor:
    """The largest mean emission of a step under constant drive, float64: theta0 times what saturation leaves of it."""
    neuron = dict(net.sites())[name]
    return net.tensors(name).theta0.detach().double() * neuron.threshold.saturation(neuron.alphabet.ceiling)


def loses(neuron: Neuron) -> str:
    """Why the mean emission of a neuron does not tend to its rectified mean drive, or an empty string if it does.

    The same neurons conserve charge: `sum y = sum x + v0 - v(T)`, and v(T) / T vanishes.
    """
    one = torch.ones(())
    if not isinstance(neuron.reset, Subtract):
        return "a hard reset loses what is left over"
    if not neuron.leak.lossless:
        return "a leak loses charge"
    if not neuron.gate.keeps:
        return "its gate loses the charge of the spikes it stops"
    if isinstance(neuron.rehearsal, Residual):
        return "its rehearsal may silence it"
    if float(neuron.threshold.amplitude(one, 2 * one)) != 2:
        return "a letter is not worth the charge that it takes"
    return ""
