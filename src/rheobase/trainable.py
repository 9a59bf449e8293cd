"""A converted network as one to train on: surrogates for its neurons, thresholds and starts that are learned."""

from __future__ import annotations

from dataclasses import replace

import torch

from . import ops
from .errors import ConversionError, context
from .network import SpikingNet
from .surrogate import Rectangular, Surrogate


def trainable(
    net: SpikingNet, surrogate: Surrogate = Rectangular(), *, thresholds: bool = True, starts: bool = True
) -> SpikingNet:
    """The same network with a gradient: it computes what `net` computes, bit for bit, until it is trained.

        theta0 = theta0_now * exp(theta0_exponent),    v0 = v0_now * exp(v0_exponent)

    Both exponents start at 0 and are parameters, so thresholds stay positive and starts keep their sign whatever the
    optimiser does; a start at 0 stays there. Weights, biases and per-step corrections are parameters already.
    thresholds, starts: whether they are learned. In train mode.

    Raises ConversionError for a lowered network, whose spikes come after the fact.

    >>> import rheobase as rb, torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> snn, _ = rb.convert(ann, rb.methods.opi(), [torch.rand(64, 4)])
    >>> net, xs = rb.trainable(snn), rb.constant(torch.rand(5, 4), steps=4)
    >>> net(xs)[0].sum().backward()
    >>> sorted(name for name, p in net.named_parameters() if p.grad is not None)[-2:]
    ['nodes.2.bias', 'nodes.2.weight']
    """
    with context("trainable"):
        if net.block > 1:
            raise ConversionError("a lowered network is not trained", instead="train the network, then lower it")
        graph, nodes, tensors = net.graph, [], net.graph.tensors
        for node in graph.nodes:
            if isinstance(node.op, ops.Spike):
                neuron = replace(node.op.neuron, surrogate=surrogate)
                node = replace(node, op=replace(node.op, neuron=neuron))
                held = tensors[node.name]
                learned = [("theta0", thresholds), ("v0", starts and bool((held["v0"] != 0).any()))]
                grown = {f"{key}_exponent": torch.zeros_like(held[key]) for key, wanted in learned if wanted}
                tensors[node.name] = held | grown
            nodes.append(node)
        found = SpikingNet(replace(graph, nodes=tuple(nodes), tensors=tensors), net.provenance | {"trainable": True})
        return found.train()
