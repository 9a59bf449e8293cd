"""The reference kernel is the law itself: plain tensor operations, every device, every dtype, every neuron."""

from __future__ import annotations

from torch import Tensor

from ..membrane import Membrane, Tensors
from ..neuron import Neuron, emissions

run = emissions


def declines(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> str:
    """Never: what no other kernel takes runs here."""
    return ""
