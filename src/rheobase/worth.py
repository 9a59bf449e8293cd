"""What the readers of a layer take its letters for, where thresholds are folded into weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from . import ops
from .graph import Graph, Node
from .limit import activations, exact, given
from .network import SpikingNet
from .neuron import worth

CLOSE = 1e-4
"""Drives through weights that were folded in float32 differ by less, relative to the largest."""


@torch.no_grad()
def worths(net: SpikingNet, source: Graph) -> dict[str, Tensor]:
    """For each layer: what a letter is to its readers, in units of what it is to its neuron; shaped as theta0.

    1 in a network that a conversion made; 2 where a threshold was halved and the weights behind it were not. One
    letter of each threshold goes alone through the network, and its charge through the source: where the drives they
    make are parallel, their ratio is the answer; where not, other weights are to blame, and the answer is 1.
    """
    sites = [node for node in net.graph_nodes if isinstance(node.op, ops.Spike)]
    graph, found = exact(net.graph), {}
    every = {node.name: torch.ones(1, *node.shape, dtype=torch.float64) for node in sites if node.op.letters}
    in_net, in_source = _responses(graph, source, net, sites, every)
    gaps = (in_net - in_source).abs().amax(1) > CLOSE * in_source.abs().amax(1)
    strange = {name for name, gap in zip(every, gaps.tolist(), strict=True) if gap}
    for node in sites:
        theta0 = net.tensors(node.name).theta0
        found[node.name] = torch.ones_like(theta0, dtype=torch.float64)
        if node.name in strange:
            single = torch.eye(theta0.numel(), dtype=torch.float64).reshape(-1, *theta0.shape)
            probes = {node.name: single.expand(len(single), *node.shape)}
            found[node.name] = _ratios(*_responses(graph, source, net, sites, probes)).reshape(theta0.shape)
    return found


def _responses(
    graph: Graph, source: Graph, net: SpikingNet, sites: list[Node], probes: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The drives `[probes, all neurons and answers]` that each probe makes alone, in the network and in the source.

    probes: letters `[n, ...]` of a layer; all that is not probed is silent.
    """
    rows, first = 1 + sum(map(len, probes.values())), 1
    letters = {node.name: torch.zeros(rows, *node.shape, dtype=torch.float64) for node in sites}
    charges = {name: zeros.clone() for name, zeros in letters.items()}
    neurons = dict(net.sites())
    for name, probe in probes.items():
        theta0 = net.tensors(name).theta0.double()
        letters[name][first : first + len(probe)] = probe
        charges[name][first : first + len(probe)] = probe * worth(neurons[name], theta0)
        first += len(probe)
    nothing = {
        name: torch.zeros(rows, *shape, dtype=torch.int64 if net.embeds(name) else torch.float64)
        for name, shape in net.inputs.items()
    }
    return _drives(given(graph, letters), nothing, letters), _drives(given(source, charges), nothing, letters)


def _drives(graph: Graph, x: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> Tensor:
    """What reaches the layers and the answer in each row, less the first."""
    passed, answer = activations(graph, x, names)
    drives = torch.cat([one.flatten(1) for one in (*(passed[name].z for name in names), answer)], 1)
    return drives[1:] - drives[:1]


def _ratios(in_net: Tensor, in_source: Tensor) -> Tensor:
    """How many times the row of the source each row of the network is, 1 where it is no multiple of it."""
    size = in_source.square().sum(1)
    ratio = (in_net * in_source).sum(1) / size.clamp(min=1e-300)
    off = (in_net - ratio[:, None] * in_source).abs().amax(1) > CLOSE * in_net.abs().amax(1)
    return torch.where(off | (size == 0), 1.0, ratio)
