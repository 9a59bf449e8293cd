"""The quantised ANN: the strong baseline of every conversion, and the limit of one with even input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from . import ops
from .graph import Graph
from .observe import images, observe, signs
from .preflight import Policy, source_graph
from .scale import Scale


def quantised(
    ann: nn.Module,
    scale: Scale,
    batches: Iterable[Any],
    levels: Iterable[int],
    *,
    on_unsupported: Policy = "error",
    leave: Iterable[str] = (),
) -> dict[int, Graph]:
    """For each K of `levels` the network with activations rounded to the K levels above 0 that `scale` sets.

        a = theta0 * clip(floor(x K / theta0 + 1/2) / K, 0, 1)

    What an IF neuron with v0 = theta / 2 computes in K = T steps at constant drive. Each graph is called as
    `graph(x)`, `[N, ...]` to `[N, classes]`. Per layer; `scale.channelwise` is not read. Policies as in `preflight`.
    """
    batches = list(batches)
    source = source_graph(ann, next(images(batches)), on_unsupported, leave)
    sites = list(source.of(ops.Rectify))
    both = signs(source, {node.name: scale for node in sites})
    statistics = observe(source, batches, {node.name: False for node in sites}, both=both)
    bound = {
        node.name: float(scale.fit(statistics[node.name], node.op.bound, index)) for index, node in enumerate(sites)
    }
    return {k: _rounded(source, bound, k) for k in levels}


def _rounded(source: Graph, bound: dict[str, float], levels: int) -> Graph:
    nodes = tuple(
        replace(node, op=replace(node.op, bound=bound[node.name], levels=levels)) if node.name in bound else node
        for node in source.nodes
    )
    return replace(source, nodes=nodes)


def accuracy(model: Graph | nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of `loader` that a network without time classifies right."""
    right = total = 0
    with torch.inference_mode():
        for x, y in loader:
            right += int((model(x).argmax(1) == y).sum())
            total += len(x)
    return right / total
