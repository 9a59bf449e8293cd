"""How many samples a network answers rightly after each step, and what that costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data import Source
from ..evaluate import evaluate, versions
from ..network import SpikingNet
from ..spec import to_json
from .config import Training
from .feed import plain


def accuracy(net: nn.Module, source: Source, steps: int, device: torch.device, size: int = 200) -> Tensor:
    """The share of right answers after 1..T steps `[T]`, float64. The mode of the network is as before afterwards."""
    training, hits = net.training, torch.zeros(steps, dtype=torch.float64)
    net.eval()
    with torch.no_grad():
        for xs, y in plain(source, steps, size, device):
            ys, _ = net(xs)
            hits += (ys.argmax(2) == y).sum(1).cpu()
    net.train(training)
    return hits / len(source)


def result(net: SpikingNet, test: Source, config: Training) -> dict[str, Any]:
    """The curve of a static test set as JSON, its spikes and energy after each step; of recordings the record alone."""
    known: dict[str, Any] = {"config": to_json(config), "samples": len(test), "provenance": versions()}
    if test.steps is not None:
        return known
    device = next(net.parameters()).device
    loader = ((xs[0], y) for xs, y in plain(test, 1, 200, device))
    return known | {"curve": evaluate(net, loader, config.steps).to_json()}
