"""ResNet-18 and ResNet-34 whose shortcuts carry spikes (SEW) or potentials (MS)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from ..spec import nearest, require, spec
from .architecture import Activation

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def conv(channels: int, out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, and batch norm."""
    return nn.Sequential(nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out))


class SEWBlock(nn.Module):
    """`y = neuron(BN conv neuron(BN conv x)) + x`: spikes are added; a shortcut that changes size spikes too."""

    def __init__(self, channels: int, out: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.conv1, self.spike1 = conv(channels, out, stride=stride), activation()
        self.conv2, self.spike2 = conv(out, out), activation()
        changes = stride != 1 or channels != out
        self.shortcut = nn.Sequential(conv(channels, out, 1, stride), activation()) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.spike2(self.conv2(self.spike1(self.conv1(x)))) + self.shortcut(x)


class MSBlock(nn.Module):
    """`y = BN conv neuron(BN conv neuron(x)) + x`: what is added are potentials, and the neurons come first."""

    def __init__(self, channels: int, out: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.spike1, self.conv1 = activation(), conv(channels, out, stride=stride)
        self.spike2, self.conv2 = activation(), conv(out, out)
        changes = stride != 1 or channels != out
        self.shortcut = conv(channels, out, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.spike2(self.conv1(self.spike1(x)))) + self.shortcut(x)


class Residual(Protocol):
    """A kind of residual: the block it is made of, and whether a neuron comes before the blocks or behind them."""

    @property
    def first(self) -> bool: ...
    def block(self, channels: int, out: int, stride: int, activation: Activation) -> nn.Module: ...


@spec
class SEW:
    """Spike-element-wise residuals, added: letters sum up along the shortcuts [fang2021sew]."""

    @property
    def first(self) -> bool:
        return True

    def block(self, channels: int, out: int, stride: int, activation: Activation) -> nn.Module:
        return SEWBlock(channels, out, stride, activation)


@spec
class MS:
    """Membrane shortcuts: every 3 x 3 convolution behind the first reads letters alone [hu2024ms]."""

    @property
    def first(self) -> bool:
        return False

    def block(self, channels: int, out: int, stride: int, activation: Activation) -> nn.Module:
        return MSBlock(channels, out, stride, activation)


@spec
class SpikingResNet:
    """ResNet of 18 or 34 layers, its first stage of `width` channels, for small images or those of ImageNet.

    Samples of 96 pixels and more begin with a 7 x 7 convolution of stride 2 and a pool, smaller ones with 3 x 3.
    residual: SEW() or MS(). Which of them the paper of the multi-threshold ResNet-34 used is unknown.
    """

    depth: int = 18
    residual: Residual = SEW()
    width: int = 64

    def __post_init__(self) -> None:
        nearest(str(self.depth), [str(depth) for depth in DEPTHS], "depth")
        require(self.width >= 1, f"width={self.width} leaves no channel")

    def made(self, shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
        """The network for samples `[C, H, W]`."""
        require(len(shape) == 3, f"a ResNet reads images [C, H, W], the samples are {shape}")
        large = min(shape[1:]) >= 96
        found: list[nn.Module] = [conv(shape[0], self.width, 7, 2) if large else conv(shape[0], self.width)]
        found += [activation()] if self.residual.first else []
        found += [nn.AvgPool2d(3, 2, 1)] if large else []
        channels = self.width
        for stage, blocks in enumerate(DEPTHS[self.depth]):
            for number in range(blocks):
                out, stride = self.width * 2**stage, 2 if stage and number == 0 else 1
                found.append(self.residual.block(channels, out, stride, activation))
                channels = out
        found += [] if self.residual.first else [activation()]
        return nn.Sequential(*found, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
