"""A small residual network for the 8x8 digits of scikit-learn: batch norm, max pooling, a shortcut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class DigitsNet(nn.Module):
    """Conv-BN, max pooling, a residual block, average pooling, a linear layer; images `[N, 1, 8, 8]`."""

    def __init__(self, channels: int = 16, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = activation()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = activation()
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu3 = activation()
        self.avgpool = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(4 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(x)))))
        x = self.relu3(y + x)
        return self.linear(self.dropout(torch.flatten(self.avgpool(x), 1)))
