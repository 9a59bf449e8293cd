"""What a network for training is made from: a record that builds a plain PyTorch module with any activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import nn

Activation = Callable[[], nn.Module]
"""Makes one activation module: a spiking neuron, or ReLU, Clip or QCFS."""


class Architecture(Protocol):
    """`made(shape, classes, activation)`: a module for samples of `shape` that answers one number for each class."""

    def made(self, shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module: ...
