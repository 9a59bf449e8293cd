"""The CIFAR ResNets of He et al.: 3 stages of n blocks, 16-32-64 channels, parameter-free shortcuts (option A)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm; where the size changes the shortcut slices and pads with zero channels."""

    def __init__(self, channels: int, out: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, 1 if channels == out else 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = activation()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu2 = activation()
        self.padding = (out - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding)) if self.padding else x
        return self.relu2(y + shortcut)


class CifarResNet(nn.Module):
    """6 n + 2 layers for images `[N, 3, 32, 32]`. activation: makes one activation module, ReLU, Clip or QCFS."""

    def __init__(self, n: int, classes: int = 10, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = activation()
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(first if i == 0 else out, out, activation) for i in range(n)))
            for first, out in ((16, 16), (16, 32), (32, 64))
        )
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def cifar_resnet20() -> CifarResNet:
    """ResNet-20, 0.27 M parameters, plain ReLU; keys of `state_dict` as in the published checkpoints."""
    return CifarResNet(3)


def cifar_resnet56() -> CifarResNet:
    """ResNet-56, 0.85 M parameters, plain ReLU; keys of `state_dict` as in the published checkpoints."""
    return CifarResNet(9)
