"""From a module written with neurons in the place of activations to a network over time, ready to be trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from . import ops
from .capture import capture
from .errors import ConversionError, context
from .fold import fold_batchnorm, fold_theta
from .graph import Graph
from .network import SpikingNet
from .trace import trace


def spiking(module: nn.Module, example: Any) -> SpikingNet:
    """The network over time that a module with neurons describes: `ys, state = net(xs)`, `[T, N, ...]`.

    module: written as one writes an ANN, `nn.Sequential(nn.Conv2d(...), nn.BatchNorm2d(...), rb.LIF(), ...)` or a class
    whose `forward` calls its layers; it is only read, never run or modified. example: an input `[N, ...]` without time,
    for the shapes. What is no neuron acts at each step by itself. Batch norm and dropout are kept and act in training,
    a module called twice keeps one set of weights, and its neurons have a memory at each call. The network is in the
    mode, train or eval, of the module; its parameters have the names of the module's behind `nodes.`.

    Raises ConversionError, naming node and line, for what cannot be read and where there is no neuron.

    >>> import rheobase as rb, torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), rb.MultiThresholdLIF(levels=2), torch.nn.Linear(8, 3))
    >>> net = rb.spiking(module, torch.rand(1, 4))
    >>> ys, state = net(rb.constant(torch.rand(5, 4), steps=2))
    >>> ys.shape, sorted(name for name, _ in net.named_parameters())[:2]
    (torch.Size([2, 5, 3]), ['nodes.0.bias', 'nodes.0.weight'])
    """
    with context("spiking"):
        for path, why, instead in _untrainable(module):
            raise ConversionError(f"{path!r} cannot be trained as it is", why=why, instead=instead)
        source = copy.deepcopy(module).eval()
        graph = trace(source, example)
        if not any(graph.of(ops.Spike)):
            raise ConversionError(
                "the module has no neuron", why="nothing in it spikes", instead="rb.LIF() in the place of nn.ReLU()"
            )
        _complete(source, graph, example)
        return SpikingNet(graph, {"source": type(module).__name__}).train(module.training)


def folded(net: SpikingNet) -> SpikingNet:
    """The network to deploy, in eval mode: batch norms and thresholds folded into weights, so that letters travel.

    It computes what `net` computes in eval mode, up to the rounding of the folded weights.
    """
    return SpikingNet(fold_theta(fold_batchnorm(net.graph)), net.provenance | {"folded": True}).eval()


def _untrainable(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """(path, why, what to write instead) of the modules whose training would differ from what is written."""
    for path, part in module.named_modules():
        if parametrize.is_parametrized(part):
            yield path, "its weight is computed from others, which would stay behind", "remove_parametrizations first"
        if isinstance(part, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
            yield path, "its noise is made for SELU networks", "nn.Dropout"


def _complete(source: nn.Module, graph: Graph, example: Any) -> None:
    """Refuse a module that could be read by its operators only, where dropout in training is lost."""
    drops = [p for p, m in source.named_modules() if isinstance(m, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)) and m.p]
    if drops and not any(graph.of(ops.Dropout)) and capture(source, example).root is not source:
        raise ConversionError(
            f"the dropout {drops[0]!r} would be lost",
            why="the module cannot be traced symbolically, and its exported operators are those of eval mode",
            instead="a forward without branches on shapes or values",
        )
