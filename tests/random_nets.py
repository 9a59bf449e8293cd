"""Networks put together at random: convolutions of every kind, pools, branches, sums, margins, and a head."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Part = Callable[[random.Random, int], nn.Module]


class Sum(nn.Module):
    """A residual sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Branches(nn.Module):
    """Two layers side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, 5, 3, padding=1), nn.Conv2d(channels, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.wide(x)), F.relu(self.narrow(x))], 1)


class EverySecond(nn.Module):
    """Every second row and column."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


class Mean(nn.Module):
    """Over all places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def layer(rng: random.Random, channels: int) -> nn.Module:
    """A convolution, of one group, of several or depthwise, often with batch norm, and a ReLU."""
    groups = rng.choice([1, 1, rng.choice([g for g in (1, 2, 3, 4, 6) if channels % g == 0]), channels])
    out = groups * rng.choice([1, 2]) if groups == channels else groups * rng.choice([1, 3, 4, 8, 17])
    size, stride, dilation = rng.choice([1, 2, 3, 3, 3, 5, 7]), rng.choice([1, 1, 1, 2, 3]), rng.choice([1, 1, 1, 2])
    padding = rng.choice([0, size // 2, size // 2, 1])
    conv = nn.Conv2d(channels, out, size, stride, padding, dilation, groups, bias=rng.random() < 0.7)
    norm = [nn.BatchNorm2d(out)] if rng.random() < 0.4 else []
    return nn.Sequential(conv, *norm, nn.ReLU())


def pool(rng: random.Random, channels: int) -> nn.Module:
    """A mean or a maximum of windows."""
    sizes = rng.choice([2, 2, 3]), rng.choice([1, 2, 3]), rng.choice([0, 0, 1])
    return rng.choice([nn.AvgPool2d, nn.MaxPool2d])(*sizes, ceil_mode=rng.random() < 0.3)


PARTS: list[Part] = [
    layer, layer, layer, pool,
    lambda rng, channels: nn.AdaptiveAvgPool2d((rng.choice([1, 2, 3]), rng.choice([1, 2, 3]))),
    lambda rng, channels: nn.ZeroPad2d((rng.randint(0, 2), 1, 2, rng.randint(0, 2))),
    lambda rng, channels: EverySecond(), lambda rng, channels: Sum(channels), lambda rng, channels: Branches(channels),
]  # fmt: skip


def made(seed: int, samples: int = 4) -> tuple[nn.Module, Tensor]:
    """A network in eval mode, batch norms settled, and images for it."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    shape = rng.choice([1, 3, 4]), rng.choice([5, 8, 9, 12]), rng.choice([6, 8, 12])
    parts, x = list[nn.Module](), torch.randn(16, *shape)
    for part in [layer, *rng.choices(PARTS, k=rng.randint(1, 6))]:
        module = part(rng, x.shape[1])
        try:
            y = module.train()(x).detach()
        except RuntimeError:  # a window larger than the map
            continue
        if min(y.shape) > 0:
            parts.append(module)
            x = y
    places = x[0].numel()
    heads = [nn.Flatten(), nn.Linear(places, 5)], [Mean(), nn.Linear(x.shape[1], 5)]
    mlp = [nn.Flatten(), nn.Linear(places, 19), nn.ReLU(), nn.Linear(19, 5)]
    if not any(isinstance(part, (Sum, Branches, nn.Sequential)) for part in parts):
        parts = [pointwise(shape[0]), *parts]
    net = nn.Sequential(*parts, *rng.choice([*heads, mlp]))
    return net.eval(), torch.randn(samples, *shape)


def pointwise(channels: int) -> nn.Module:
    """A layer that changes no shape."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU())
