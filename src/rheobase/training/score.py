"""How many samples a network answers rightly after each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import Source
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
