"""Networks of one layer after the other, in the notation of the papers: 15C5-P2-40C5-P2-300."""

from __future__ import annotations

import re

from torch import nn

from ..errors import SpecError
from ..spec import require, spec
from .architecture import Activation


@spec
class Plain:
    """Convolutions `15C5` (15 of 5 x 5), pools `P2` (average) and `M2` (maximum), `G` (mean over places), layers `300`.

    Behind every convolution and layer comes an activation, last of all the layer of the classes, without one.
    padded: zeros around a map keep its size. norm: batch norm before every activation. dropout: behind every
    fully connected activation.

    >>> from rheobase.nets import Plain
    >>> net = Plain(layers="15C5-P2-40C5-P2-300", padded=False).made((1, 28, 28), 10, nn.ReLU)
    >>> sum(p.numel() for p in net.parameters() if p.ndim > 1)
    210375
    """

    layers: str
    padded: bool = True
    norm: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for part in self.layers.split("-"):
            if not re.fullmatch(r"\d+C\d+|[PM]\d+|G|\d+", part):
                raise SpecError(
                    f"{part!r} of {self.layers!r} is no layer",
                    instead="15C5 a convolution, P2 or M2 a pool, G the mean over places, 300 a layer",
                )
        require(0 <= self.dropout < 1, f"dropout={self.dropout} is no share")

    def made(self, shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
        """The network, an `nn.Sequential`, for samples `[C, H, W]`."""
        channels, height, width = shape
        found: list[nn.Module] = []
        flat = False
        for part in self.layers.split("-"):
            if part.isdigit():
                if not flat:
                    found.append(nn.Flatten())
                    channels, flat = channels * height * width, True
                out = int(part)
                found += [nn.Linear(channels, out, bias=not self.norm), *self._norm(nn.BatchNorm1d, out), activation()]
                found += [nn.Dropout(self.dropout)] if self.dropout else []
                channels = out
            elif part == "G":
                found.append(nn.AdaptiveAvgPool2d(1))
                height = width = 1
            elif part[0] in "PM":
                size = int(part[1:])
                found.append(nn.AvgPool2d(size) if part[0] == "P" else nn.MaxPool2d(size))
                height, width = height // size, width // size
            else:
                out, size = map(int, part.split("C"))
                padding = size // 2 if self.padded else 0
                conv = nn.Conv2d(channels, out, size, padding=padding, bias=not self.norm)
                found += [conv, *self._norm(nn.BatchNorm2d, out), activation()]
                channels, height, width = out, height + 2 * padding - size + 1, width + 2 * padding - size + 1
            require(min(height, width) >= 1, f"{self.layers!r} leaves nothing of samples {shape} at {part!r}")
        found += [] if flat else [nn.Flatten()]
        return nn.Sequential(*found, nn.Linear(channels if flat else channels * height * width, classes))

    def _norm(self, norm: type[nn.Module], channels: int) -> list[nn.Module]:
        return [norm(channels)] if self.norm else []


MT_LIF_MNIST = Plain(layers="15C5-P2-40C5-P2-300", padded=False)
MT_LIF_FASHION = Plain(layers="32C5-P2-64C5-P2-1024")
MT_LIF_CIFAR10 = Plain(layers="96C3-256C3-P2-384C3-P2-384C3-256C3-1024-1024", dropout=0.2)
"""The three networks of [xu2022mtlif], as our reconstruction; batch norm is our addition."""

VGG11 = Plain(layers="64C3-P2-128C3-P2-256C3-256C3-P2-512C3-512C3-P2-512C3-512C3-G")
VGG16 = Plain(layers="64C3-64C3-P2-128C3-128C3-P2-256C3-256C3-256C3-P2-512C3-512C3-512C3-P2-512C3-512C3-512C3-G")
"""VGG with average pooling and one layer of classes, as the ports to small images have it."""

EVENTS = Plain(layers="P2-32C3-P2-64C3-P2-128C3-P2-128C3-G")
"""A small network for frames of events, two polarities in, whose counts are pooled by two first."""
