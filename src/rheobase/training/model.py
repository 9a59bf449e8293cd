"""The network of a run: built, copied, deployed, described, and searched for what is no number."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from ..data import Source
from ..errors import InputError
from ..layers import Population
from ..network import SpikingNet
from ..spec import to_json
from ..spiking import folded, spiking
from ..state import Visit
from ..store import load
from ..trainable import trainable
from ..version import VERSION
from .chance import number
from .config import Saved, Training


def built(config: Training, source: Source) -> SpikingNet:
    """A network for the samples of a source: a new one, whose weights are a function of the seed, or a saved one."""
    if isinstance(config.net, Saved):
        return opened(config.net, source)
    torch.manual_seed(number(config.seed, "weights"))
    module = config.net.made(
        source.shape,
        source.classes,
        lambda: Population(config.neuron, threshold=config.threshold, start=config.start),
    )
    net = spiking(module, torch.zeros(2, *source.shape))
    net.recompute = config.recompute
    return net


def opened(saved: Saved, source: Source) -> SpikingNet:
    """A saved network to go on with. Raises InputError if it is not one for these samples."""
    net = load(saved.path)
    shape = next(iter(net.inputs.values()))
    if tuple(shape) != tuple(source.shape):
        raise InputError(
            f"{saved.path!r} reads samples of {tuple(shape)}, the data are {tuple(source.shape)}",
            instead="the data that it was made for",
        )
    known = all(neuron.surrogate is not None for _, neuron in net.sites())
    return SpikingNet(net.graph, net.provenance) if known else trainable(net)


def deployed(net: SpikingNet, config: Training) -> SpikingNet:
    """The network to keep: in eval mode, batch norms and thresholds folded, with the record of its run."""
    made = folded(net)
    made.provenance |= {"training": to_json(config), "rheobase": VERSION}
    return made


def architecture(net: SpikingNet) -> str:
    """The nodes and the shapes of the tensors as JSON: two networks with the same may share weights."""
    nodes = {node.name: {"op": to_json(node.op), "inputs": list(node.inputs)} for node in net.graph_nodes}
    shapes = {name: list(value.shape) for name, value in net.state_dict().items()}
    return json.dumps({"nodes": nodes, "shapes": shapes})


def copied(net: SpikingNet, tensors: Mapping[str, Tensor] | None = None) -> SpikingNet:
    """Another network that computes what this one does, in eval mode; with these tensors if they are given.

    Learned exponents are in it as the thresholds and starts that they make.
    """
    own = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(dict(tensors or own))
    copy = SpikingNet(net.graph, net.provenance)
    net.load_state_dict(own)
    return copy.to(next(net.parameters()).device).eval()


def first_bad(net: SpikingNet, xs: Tensor) -> str:
    """The layer whose output first holds what is no number, in words."""
    found: list[str] = []

    def visit(seen: Visit) -> None:
        if not found and seen.ys.is_floating_point() and not bool(torch.isfinite(seen.ys).all()):
            found.append(seen.node.name)

    if not bool(torch.isfinite(xs).all()):
        return "the samples themselves hold it"
    with torch.no_grad():
        net.run(xs, None, visit)
    if found:
        return f"layer {found[0]!r} is the first with it"
    bad = [name for name, p in net.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    return f"the gradient of {bad[-1]!r} is the last with it" if bad else "every layer by itself is finite"
