"""A moving average of the weights, which is what gets evaluated and kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """`a <- a + (1 - d) (w - a)` after every step, with `d = min(decay, (1 + n) / (10 + n))` after n steps.

    The running statistics of norms are averaged alike; whole numbers are copied.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in net.state_dict().items()}

    def update(self, net: nn.Module, done: int) -> None:
        """Take in the weights after step `done`, counted from 1."""
        share = 1 - min(self.decay, (1 + done) / (10 + done))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                if value.is_floating_point():
                    self.tensors[name].lerp_(value, share)
                else:
                    self.tensors[name].copy_(value)

    def restore(self, found: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint holds."""
        for name, value in self.tensors.items():
            value.copy_(found[name])

    def to(self, device: torch.device) -> None:
        """Move to where the network is."""
        self.tensors = {name: value.to(device) for name, value in self.tensors.items()}
