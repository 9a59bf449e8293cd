"""One digits network in the spellings on which other converters go wrong in silence: each reaches its own network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import demo


class Net(nn.Module):
    """Convolution, norm, activation, residual block, max pooling, twice; how it is written is `write`'s choice."""

    def __init__(self, write: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c1, self.n1 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c2, self.n2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.relu, self.relu6, self.gelu, self.pool = nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.MaxPool2d(2)
        self.n3, self.head = nn.BatchNorm2d(16), nn.Linear(128, 10)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        return self.write(self, x)


def modules(m: Net, x: Tensor) -> Tensor:
    x = m.relu(m.n0(m.stem(x)))
    x = m.pool(m.relu(m.n1(m.c1(x)) + x))
    return m.head(m.pool(m.relu(m.n2(m.c2(x)))).flatten(1))


def functions(m: Net, x: Tensor) -> Tensor:
    x = F.relu(m.n0(m.stem(x)))
    x = F.max_pool2d(torch.relu(m.n1(m.c1(x)) + x), 2)
    return m.head(torch.flatten(F.max_pool2d(torch.clamp(m.n2(m.c2(x)), min=0), 2), 1))


def methods(m: Net, x: Tensor) -> Tensor:
    x = m.n0(m.stem(x)).relu_()
    h = m.n1(m.c1(x))
    h += x
    x = m.pool(h.relu())
    return m.head(m.pool(m.n2(m.c2(x)).clamp_(0)).view(x.size(0), -1))


def branches(m: Net, x: Tensor) -> Tensor:
    if x.shape[1] != 1:
        raise ValueError("one channel")
    x = m.relu(m.n0(m.stem(x)))
    x = m.relu(m.n1(m.c1(x)) + x)
    while x.shape[-1] > 4:
        x = m.pool(x)
    return m.head(m.pool(m.relu(m.n2(m.c2(x)))).flatten(1))


def bounded(m: Net, x: Tensor) -> Tensor:
    x = m.relu6(m.n0(m.stem(x)))
    x = m.pool(m.relu6(m.n1(m.c1(x)) + x))
    return m.head(m.pool(F.relu6(m.n2(m.c2(x)))).flatten(1))


def smooth(m: Net, x: Tensor) -> Tensor:
    x = m.gelu(m.n0(m.stem(x)))
    x = m.pool(m.gelu(m.n1(m.c1(x)) + x))
    return m.head(m.pool(F.gelu(m.n2(m.c2(x)))).flatten(1))


def again(m: Net, x: Tensor) -> Tensor:
    """One convolution called twice, with a norm of its own after each call."""
    x = m.relu(m.n0(m.stem(x)))
    x = m.pool(m.relu(m.n3(m.c1(m.relu(m.n1(m.c1(x)))))))
    return m.head(m.pool(m.relu(m.n2(m.c2(x)))).flatten(1))


SPELLINGS = {write.__name__: write for write in (modules, functions, methods, branches, bounded, smooth, again)}
OWN = {"bounded", "smooth", "again"}
"""Other networks, trained by themselves; the rest are one network."""


@cache
def weights(name: str) -> dict[str, Tensor]:
    """Of the network in this spelling after 12 epochs."""
    split, net = demo.digits(0), Net(SPELLINGS[name])
    torch.manual_seed(0)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, 12 * 19)
    for _ in range(12):
        for index in torch.randperm(len(split.x)).split(64):
            loss = F.cross_entropy(net(split.x[index]), split.y[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.state_dict()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in {"modules", *OWN} else pytest.mark.slow) for name in SPELLINGS]
)
def test_every_spelling_reaches_its_network_and_does_not_fall_afterwards(name):
    split, net = demo.digits(0), Net(SPELLINGS[name])
    net.load_state_dict(weights(name if name in OWN else "modules"))
    net.eval()
    snn, report = rb.convert(net, rb.methods.snm(rb.Max()), [split.x[:512]], on_unsupported="approximate")
    assert len(report.layers) == (4 if name == "again" else 3)
    curve = rb.evaluate(snn, [(split.x_test, split.y_test)], 96, ann=net)
    assert curve.ann_accuracy > 0.97
    assert abs(curve.accuracy[63] - curve.ann_accuracy) <= 0.003
    assert float(np.min(curve.accuracy[63:])) >= curve.ann_accuracy - 0.003
    with torch.no_grad():
        answer = net(split.x_test[:50])
        ys, _ = snn(rb.constant(split.x_test[:50], 192))
        errors = [float((ys[t - 1] - answer).norm() / answer.norm()) for t in (48, 192)]
    assert errors[1] < min(0.02, errors[0] / 2)
