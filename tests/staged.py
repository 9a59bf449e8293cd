"""Networks that become stages of every kind, converted by methods whose neurons they take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase.membrane import Membrane
from rheobase.nets import Plain
from rheobase.state import State

SHAPE = (3, 12, 12)


class Residual(nn.Module):
    """Both shortcuts: an identity that is sliced and padded, and a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.down, self.across = nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, padding=1)
        self.last, self.short = nn.Conv2d(12, 20, 3, 2, 1), nn.Conv2d(12, 20, 1, 2)
        self.readout = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.first(x) + x)
        x = F.relu(self.down(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        x = F.relu(self.across(x) + x)
        x = F.relu(self.last(x) + self.short(x))
        return self.readout(x.mean((2, 3)))


class Joined(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.narrow = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(8, 9, 1)
        self.both, self.readout = nn.Conv2d(15, 10, 3, 2), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([F.relu(self.wide(x)), F.relu(self.narrow(x))], 1)
        return self.readout(F.relu(self.both(x)).mean((2, 3)))


class Grouped(nn.Module):
    """Groups of several widths and depthwise convolutions: a rim wider below, dilated columns, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pairs = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1, groups=6)
        self.each, self.down = nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.Conv2d(24, 24, 3, 2, groups=24)
        self.halves = nn.Conv2d(24, 80, 3, padding=1, groups=2)
        self.wide = nn.Conv2d(80, 80, 3, padding=2, dilation=2, groups=80)
        self.readout = nn.Linear(80, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pairs(F.relu(self.stem(x))))
        x = F.relu(self.each(x) + x)
        x = F.relu(self.down(F.pad(x, (0, 1, 0, 1))))
        x = F.relu(self.wide(F.relu(self.halves(x))))
        return self.readout(x.mean((2, 3)))


class Mean(nn.Module):
    """Over all places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


def row() -> nn.Module:
    """Convolutions in one dimension, over rows of an image."""
    convolutions = [nn.Conv1d(36, 8, 3, 2, 1), nn.ReLU(), nn.Conv1d(8, 12, 3, padding=1), nn.ReLU(), nn.AvgPool1d(2)]
    each = [nn.Conv1d(12, 12, 3, padding=2, dilation=2, groups=12), nn.ReLU()]
    both = [nn.Conv1d(12, 20, 3, 1, 2, groups=2), nn.ReLU()]
    last = [nn.Flatten(), nn.Linear(100, 9), nn.ReLU(), nn.Linear(9, 5)]
    return nn.Sequential(nn.Flatten(1, 2), *convolutions, *each, *both, *last)


def plain(layers: str) -> Callable[[], nn.Module]:
    return lambda: Plain(layers=layers, norm=False).made(SHAPE, 5, nn.ReLU)


NETS: dict[str, Callable[[], nn.Module]] = {
    "pools": plain("16C3-P2-24C3-20C5-P2-40-30"),
    "maximum": plain("8C3-M2-40C3-M2-20"),
    "residual": Residual,
    "layers": plain("33-20-17"),
    "joined": Joined,
    "grouped": Grouped,
    "row": row,
}
METHODS = {
    "binary": rb.methods.opi(),
    "ternary": rb.methods.best(4, 1),
    "burst": rb.methods.burst(3),
    "letters": rb.methods.best(4, 15),
    "dtif, not graded": rb.Method(threshold=rb.DTIF(graded=False), alphabet=rb.burst(3)),
    "hard reset": rb.Method(reset=rb.ToValue(0.0)),
    "rehearsed": rb.methods.cos(),
}


def converted(name: str, method: rb.Method, seed: int = 0) -> tuple[rb.SpikingNet, Tensor]:
    torch.manual_seed(seed)
    ann, x = NETS[name]().eval(), torch.randn(6, *SHAPE)
    return rb.convert(ann, method, [x])[0], x


def same_state(a: State, b: State) -> None:
    """Bit for bit."""
    assert a.t == b.t
    assert torch.equal(a.total, b.total)
    assert set(a.memory) == set(b.memory)
    for name, m in a.memory.items():
        if isinstance(m, Membrane):
            other = b.memory[name]
            assert torch.equal(m.v, other.v), name
            assert m.t == other.t
            assert all(torch.equal(x, y) for x, y in zip(m.gate, other.gate, strict=True))
