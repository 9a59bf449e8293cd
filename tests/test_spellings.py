"""Every ordinary way to write a network: what converts computes the same, what does not is refused by name and line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase.fold import fold_batchnorm
from rheobase.graph import Graph
from rheobase.trace import trace

METHODS = (rb.Method(initial=rb.Half()), rb.Method(scale=rb.Max(channelwise=True), initial=rb.Half()))


class OwnConv(nn.Conv2d):
    """A user's subclass: traced through, it calls F.conv2d with its parameters."""


class Standardised(nn.Conv2d):
    """A user's subclass that computes its weight: reading it as its base would be wrong."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        mean, deviation = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), keepdim=True)
        return super()._conv_forward(input, (weight - mean) / deviation, bias)


class OwnNorm(nn.BatchNorm2d):
    """A user's subclass whose forward is that of its base, which branches on the shape."""


class Zoo(nn.Module):
    """A stem `[N, 3, 8, 8] -> [N, 4, 8, 8]`, a body that a test writes, a linear readout; and all a body may use."""

    def __init__(self, body: Callable[[Zoo, Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.nobias, self.same = nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.grouped, self.depthwise = nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(4, 8, 3, groups=4)
        self.strided, self.joined = nn.Conv2d(4, 4, 3, 2, (1, 0), (2, 1)), nn.Conv2d(8, 4, 3)
        self.line, self.fc, self.own = nn.Conv1d(4, 4, 5, 2, 2), nn.Linear(8, 8), OwnConv(4, 4, 3, padding=1)
        self.standard = Standardised(4, 4, 3, padding=1)
        self.n1, self.n2, self.ownnorm = nn.BatchNorm2d(4), nn.BatchNorm2d(4), OwnNorm(4)
        self.plain, self.flatnorm = nn.BatchNorm2d(4, affine=False), nn.BatchNorm1d(8)
        self.linenorm, self.unknown = nn.BatchNorm1d(4), nn.BatchNorm2d(4, track_running_stats=False)
        self.relu, self.inplace, self.relu6, self.hard = nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(0, 3)
        self.clip, self.qcfs, self.bipolar, self.gelu = rb.Clip(2.0), rb.QCFS(8, 2.0), nn.Hardtanh(-1, 1), nn.GELU()
        self.average, self.ceiled = nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.gap, self.maximum = nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.drop, self.identity, self.zeros, self.flat = nn.Dropout(), nn.Identity(), nn.ZeroPad2d(1), nn.Flatten()
        self.chain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.ReLU()))
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
        self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.lstm, self.weight = nn.LSTM(8, 8), nn.Parameter(torch.randn(4))
        self.head = nn.LazyLinear(5)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        y = self.body(self, self.stem(x))
        return self.head(torch.flatten(y, 1))


def sound(net: nn.Module) -> nn.Module:
    """In float64 and eval mode, with batch norms that did see data."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.3, 0.3)
    return net.double().eval()


Body = Callable[[Zoo, Tensor], Any]


def zoo(body: Body) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(2)
    x = 3 * torch.randn(6, 3, 8, 8)
    net = Zoo(body)
    with torch.no_grad():
        net.eval()(x)  # the lazy head learns its size
    return sound(net), x.double()


# Every way to write an activation. Each is called twice, once before and once after a convolution.

ACTIVATIONS: dict[str, Body] = {
    "nn.ReLU": lambda m, x: m.relu(x),
    "nn.ReLU, in place": lambda m, x: m.inplace(x),
    "F.relu": lambda m, x: F.relu(x),
    "F.relu, in place by name": lambda m, x: F.relu(x, inplace=True),
    "F.relu, in place by position": lambda m, x: F.relu(x, True),
    "F.relu, input by name": lambda m, x: F.relu(input=x),
    "F.relu_": lambda m, x: F.relu_(x),
    "torch.relu": lambda m, x: torch.relu(x),
    "torch.relu_": lambda m, x: torch.relu_(x),
    "x.relu": lambda m, x: x.relu(),
    "x.relu_": lambda m, x: x.relu_(),
    "torch.clamp, by name": lambda m, x: torch.clamp(x, min=0),
    "torch.clamp, by position": lambda m, x: torch.clamp(x, 0),
    "torch.clamp_": lambda m, x: torch.clamp_(x, 0, 2.5),
    "torch.clip": lambda m, x: torch.clip(x, 0.0, 2.5),
    "x.clamp": lambda m, x: x.clamp(min=0.0, max=2.5),
    "x.clamp_": lambda m, x: x.clamp_(0, 2.0),
    "x.clip_": lambda m, x: x.clip_(0, 2.0),
    "x.clamp_min": lambda m, x: x.clamp_min(0),
    "torch.clamp_min": lambda m, x: torch.clamp_min(x, 0),
    "torch.clamp_min_": lambda m, x: torch.clamp_min_(x, 0),
    "nn.ReLU6": lambda m, x: m.relu6(x),
    "F.relu6": lambda m, x: F.relu6(x),
    "F.relu6, in place": lambda m, x: F.relu6(x, True),
    "nn.Hardtanh": lambda m, x: m.hard(x),
    "F.hardtanh": lambda m, x: F.hardtanh(x, 0.0, 3.0),
    "F.hardtanh_": lambda m, x: F.hardtanh_(x, 0.0, 3.0),
    "Clip": lambda m, x: m.clip(x),
    "QCFS": lambda m, x: m.qcfs(x),
}


def twice(act: Body) -> Body:
    return lambda m, x: act(m, m.a(act(m, x)))


def read_again(act: Body) -> Body:
    """What an in-place activation wrote is read again, by a sum: a pre-activation residual block."""
    return lambda m, x: m.relu(m.a(act(m, x)) + x)


def iadd(m: Zoo, x: Tensor) -> Tensor:
    h = m.a(m.relu(x))
    h += x
    return m.relu(h)


def plus(m: Zoo, x: Tensor) -> Tensor:
    h = m.a(m.relu(x))
    h = h + x
    return m.relu(h)


def written_sum(m: Zoo, x: Tensor) -> Tensor:
    """The sum is written into the trunk, and the trunk is read by two more layers."""
    h = m.relu(x)
    h.add_(m.a(h))
    return m.relu(m.b(h) + h)


def kept_copy(m: Zoo, x: Tensor) -> Tensor:
    """A clone does not see what is written afterwards."""
    kept = x.clone()
    return m.relu(m.a(F.relu_(x)) + kept)


def through_a_view(m: Zoo, x: Tensor) -> Tensor:
    """`detach` shares its memory with x: what is written into one is read from the other."""
    same = x.detach()
    x.relu_()
    return m.relu(m.a(same) + x)


def listed(m: Zoo, x: Tensor) -> Tensor:
    for block in m.blocks:
        x = F.relu(block(x))
    return x


def branches(m: Zoo, x: Tensor) -> Tensor:
    """Two activations with thresholds that differ by a factor of about 10, side by side."""
    return m.relu(m.joined(torch.cat([m.relu(x), m.clip(m.a(x)).clamp(0, 0.3)], 1)))


numpy_axis: Any = {"axis": 1}  # a spelling that torch accepts and its type stubs do not know


OTHERS: dict[str, tuple[Body, int]] = {
    "one ReLU module, three calls": (lambda m, x: m.relu(m.b(m.relu(m.a(m.relu(x))))), 3),
    "one convolution, two norms": (lambda m, x: m.relu(m.n2(m.a(m.relu(m.n1(m.a(x)))))), 2),
    "one convolution and norm, twice": (lambda m, x: m.relu(m.n1(m.a(m.relu(m.n1(m.a(x)))))), 2),
    "module and function of one name": (lambda m, x: m.relu(m.b(F.relu(m.a(m.relu(x))).relu())), 4),
    # sums
    "h += x": (iadd, 2),
    "h = h + x": (plus, 2),
    "torch.add": (lambda m, x: m.relu(torch.add(m.a(m.relu(x)), x)), 2),
    "torch.add, by name": (lambda m, x: m.relu(torch.add(m.a(m.relu(x)), other=x, alpha=1)), 2),
    "x.add": (lambda m, x: m.relu(m.a(m.relu(x)).add(x)), 2),
    "x.add_": (lambda m, x: m.relu(m.a(m.relu(x)).add_(x)), 2),
    "x + x": (lambda m, x: m.relu(m.a(m.relu(x + x))), 2),
    # in place, and read again
    "nn.ReLU in place, read again": (read_again(ACTIVATIONS["nn.ReLU, in place"]), 2),
    "F.relu in place by name, read again": (read_again(ACTIVATIONS["F.relu, in place by name"]), 2),
    "F.relu in place by position, read again": (read_again(ACTIVATIONS["F.relu, in place by position"]), 2),
    "F.relu_, read again": (read_again(ACTIVATIONS["F.relu_"]), 2),
    "torch.relu_, read again": (read_again(ACTIVATIONS["torch.relu_"]), 2),
    "x.relu_, read again": (read_again(ACTIVATIONS["x.relu_"]), 2),
    "x.clamp_, read again": (read_again(ACTIVATIONS["x.clamp_"]), 2),
    "torch.clamp_, read again": (read_again(ACTIVATIONS["torch.clamp_"]), 2),
    "torch.clamp_min_, read again": (read_again(ACTIVATIONS["torch.clamp_min_"]), 2),
    "F.relu6 in place by position, read again": (read_again(ACTIVATIONS["F.relu6, in place"]), 2),
    "F.hardtanh_, read again": (read_again(ACTIVATIONS["F.hardtanh_"]), 2),
    "F.hardtanh in place by position, read again": (read_again(lambda m, x: F.hardtanh(x, 0.0, 3.0, True)), 2),
    "x.add_, read again": (written_sum, 2),
    "clone before writing": (kept_copy, 2),
    "detach before writing": (through_a_view, 2),
    # batch norm
    "norm after convolution": (lambda m, x: m.relu(m.n2(m.nobias(m.relu(m.n1(x))))), 2),
    "norm after linear": (lambda m, x: m.relu(m.flatnorm(m.fc(m.relu(x).mean(3).mean(1)))), 2),
    "norm after Conv1d": (lambda m, x: m.relu(m.linenorm(m.line(m.relu(x).flatten(2)))), 2),
    "norm without affine": (lambda m, x: m.relu(m.plain(m.a(m.relu(x)))), 2),
    "norm of a convolution with two readers": (lambda m, x: m.relu(m.n1(x) + m.b(m.relu(x))), 2),
    "norm before convolution": (lambda m, x: m.relu(m.a(m.n1(m.relu(x)))), 2),
    "norm twice": (lambda m, x: m.relu(m.n2(m.n1(m.a(m.relu(x))))), 2),
    "subclass of batch norm": (lambda m, x: m.relu(m.ownnorm(m.a(m.relu(x)))), 2),
    # convolutions and linear layers
    "Conv1d": (lambda m, x: m.relu(m.line(m.relu(x).flatten(2))), 2),
    "Conv2d, grouped": (lambda m, x: m.relu(m.grouped(m.relu(x))), 2),
    "Conv2d, depthwise": (lambda m, x: m.relu(m.depthwise(m.relu(x))), 2),
    "Conv2d, dilated with padding='same'": (lambda m, x: m.relu(m.same(m.relu(x))), 2),
    "Conv2d, strides and dilations that differ": (lambda m, x: m.relu(m.strided(m.relu(x))), 2),
    "Conv2d, no bias": (lambda m, x: m.relu(m.nobias(m.relu(x))), 2),
    "subclass of Conv2d": (lambda m, x: m.relu(m.own(m.relu(x))), 2),
    "subclass of Conv2d that standardises its weight": (lambda m, x: m.relu(m.standard(m.relu(x))), 2),
    "F.conv2d": (lambda m, x: m.relu(F.conv2d(m.relu(x), m.grouped.weight, None, 2, padding=1, groups=2)), 2),
    "F.conv1d": (lambda m, x: m.relu(F.conv1d(m.relu(x).flatten(2), m.line.weight, m.line.bias, (2,))), 2),
    "F.linear": (lambda m, x: m.relu(F.linear(m.relu(x), m.fc.weight, bias=m.fc.bias)), 2),
    "nn.Linear over the last of three axes": (lambda m, x: m.relu(m.fc(m.relu(x))), 2),
    # pooling
    "nn.AvgPool2d": (lambda m, x: m.relu(m.a(m.average(m.relu(x)))), 2),
    "nn.AvgPool2d with padding and ceil_mode": (lambda m, x: m.relu(m.a(m.ceiled(m.relu(x)))), 2),
    "F.avg_pool2d of the size of the map": (lambda m, x: m.flat(F.avg_pool2d(m.relu(x), x.size()[3])), 1),
    "F.avg_pool2d with padding and ceil_mode": (lambda m, x: m.relu(m.a(F.avg_pool2d(m.relu(x), 3, 2, 1, True))), 2),
    "F.avg_pool2d, kernel in a list": (lambda m, x: m.relu(m.a(F.avg_pool2d(m.relu(x), [2]))), 2),
    "F.avg_pool1d": (lambda m, x: F.avg_pool1d(m.relu(x).flatten(2), 4), 1),
    "nn.AdaptiveAvgPool2d": (lambda m, x: m.gap(m.relu(x)), 1),
    "F.adaptive_avg_pool2d": (lambda m, x: F.adaptive_avg_pool2d(m.relu(x), (3, None)), 1),
    "x.mean over a tuple": (lambda m, x: m.relu(x).mean((2, 3)), 1),
    "x.mean over a list, axes kept": (lambda m, x: m.relu(m.b(m.relu(x).mean([2, 3], keepdim=True))), 2),
    "x.mean of x.mean": (lambda m, x: m.relu(x).mean(-1).mean(-1), 1),
    "x.mean, named as in numpy": (lambda m, x: m.relu(m.b(m.relu(x).mean(axis=(2, 3), keepdims=True))), 2),
    "torch.mean": (lambda m, x: torch.mean(m.relu(x), dim=(-2, -1)), 1),
    "nn.MaxPool2d with overlap, padding, ceil_mode": (lambda m, x: m.relu(m.a(m.maximum(m.relu(x)))), 2),
    "F.max_pool2d with overlap and padding": (lambda m, x: m.relu(m.a(F.max_pool2d(m.relu(x), 3, 2, 1))), 2),
    "F.max_pool2d before the activation": (lambda m, x: m.relu(F.max_pool2d(m.a(m.relu(x)), kernel_size=2)), 2),
    # joining, slicing, padding
    "torch.cat of two thresholds": (branches, 4),
    "torch.cat, by name": (lambda m, x: m.relu(m.joined(torch.cat(tensors=(m.relu(x), m.relu6(x)), dim=-3))), 3),
    "torch.concatenate, named as in numpy": (
        lambda m, x: torch.concatenate([m.relu(x), m.relu6(x)], **numpy_axis),
        2,
    ),
    "option A, F.pad": (
        lambda m, x: m.relu(m.depthwise(m.relu(x)) + F.pad(m.relu(x)[:, :, 1:7, :-2], (0, 0, 0, 0, 2, 2))),
        3,
    ),
    "option A, every second": (
        lambda m, x: m.relu(m.average(m.a(x)) + F.pad(m.relu(x)[:, :2, ::2, ::2], (0, 0, 0, 0, 1, 1), "constant", 0)),
        2,
    ),
    "slice behind an ellipsis": (lambda m, x: m.relu(m.a(m.relu(x)[..., ::2, 1:])), 2),
    "nn.ZeroPad2d": (lambda m, x: m.relu(m.nobias(m.zeros(m.relu(x)))), 2),
    "F.pad that crops": (lambda m, x: m.relu(m.a(F.pad(m.relu(x), (-1, 2)))), 2),
    # shapes
    "torch.flatten": (lambda m, x: torch.flatten(m.relu(x), start_dim=1), 1),
    "nn.Flatten": (lambda m, x: m.flat(m.relu(x)), 1),
    "view(x.size(0), -1)": (lambda m, x: m.relu(x).view(x.size(0), -1), 1),
    "view(x.shape[0], -1)": (lambda m, x: m.relu(x).view(x.shape[0], -1), 1),
    "view(-1, size)": (lambda m, x: m.relu(x).view(-1, 4 * 8 * 8), 1),
    "reshape((size, -1))": (lambda m, x: m.relu(x).reshape((x.size()[0], -1)), 1),
    "channels last and back": (lambda m, x: m.relu(m.a(m.relu(x).permute(0, 2, 3, 1).permute((0, -1, 1, 2)))), 2),
    "transpose": (lambda m, x: m.relu(m.a(m.relu(x).transpose(2, 3).transpose(dim0=-1, dim1=-2))), 2),
    "torch.swapaxes, named as in numpy": (lambda m, x: m.relu(m.a(torch.swapaxes(m.relu(x), axis0=2, axis1=3))), 2),
    "unsqueeze and squeeze": (lambda m, x: m.relu(x).flatten(1).unsqueeze(1).squeeze(1), 1),
    "squeeze behind the pool": (lambda m, x: m.gap(m.relu(x)).squeeze(-1).squeeze(-1), 1),
    # what does nothing in eval mode, and containers
    "nn.Dropout": (lambda m, x: m.relu(m.a(m.drop(m.relu(x)))), 2),
    "F.dropout": (lambda m, x: m.relu(m.a(F.dropout(m.relu(x), training=m.training))), 2),
    "F.dropout, by position": (lambda m, x: m.relu(m.a(F.dropout(m.relu(x), 0.5, m.training))), 2),
    "nn.Identity": (lambda m, x: m.relu(m.identity(m.a(m.identity(m.relu(x))))), 2),
    "nn.Sequential, nested": (lambda m, x: m.chain(x), 2),
    "nn.ModuleList": (listed, 3),
}

SPELLINGS = {f"{name}, twice": (twice(act), 2) for name, act in ACTIVATIONS.items()} | OTHERS


def error(y: Tensor, answer: Tensor) -> float:
    return float((y - answer).abs().mean() / answer.abs().mean())


def check(net: nn.Module, x: Tensor, calls: int, limit: nn.Module | None = None) -> None:
    """The graph computes what the network does; the spiking network reaches `limit`; the network is left alone."""
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    training = {name: module.training for name, module in net.named_modules()}
    data = x.clone()
    with torch.no_grad():
        answer = net(x.clone())
        goal = answer if limit is None else limit(x.clone())
        graph = trace(net, x)
        for same in (graph, fold_batchnorm(graph)):
            assert_same(same, x, answer)
        for method in METHODS:
            snn, report = rb.convert(net, method, [x])
            assert len(report.layers) == len(list(snn.sites())) == calls
            ys, _ = snn(rb.constant(x, 256))
            assert error(ys[255], goal) < 0.02
            assert error(ys[255], goal) < error(ys[15], goal) / 4
        assert torch.equal(net(x.clone()), answer)
    assert torch.equal(x, data)
    assert {name: module.training for name, module in net.named_modules()} == training
    assert net.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


def assert_same(graph: Graph, x: Tensor, answer: Tensor) -> None:
    shapes = {}
    y = graph(x, lambda node, xs, y: shapes.update({node.name: tuple(y.shape[1:])}))
    assert float((y - answer).abs().max() / answer.abs().max()) < 1e-10
    assert shapes == {node.name: node.shape for node in graph.nodes}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_converts_to_what_it_computes(name):
    body, calls = SPELLINGS[name]
    net, x = zoo(body)
    limit = None
    if name.startswith("QCFS"):  # with T the neurons leave the staircase behind and reach the clip it approximates
        limit = copy.deepcopy(net)
        assert isinstance(limit, Zoo)
        limit.add_module("qcfs", rb.Clip(2.0).double())
    check(net, x, calls, limit)


@pytest.mark.parametrize(
    ("size", "op"),
    [
        (1, "AvgPool(kernel=(8, 8), stride=(8, 8), padding=(0, 0))"),
        ((4, None), "AvgPool(kernel=(2, 1), stride=(2, 1), padding=(0, 0))"),
        (3, "AdaptiveAvgPool(size=(3, 3))"),
        (8, None),
    ],
)
def test_an_adaptive_average_is_a_pool_where_its_windows_are_alike(size, op):
    net, x = zoo(lambda m, x: F.adaptive_avg_pool2d(m.relu(x), size))
    pools = [repr(node.op) for node in trace(net, x).nodes if "AvgPool" in type(node.op).__name__]
    assert pools == ([op] if op else [])


@pytest.mark.parametrize(("size", "field"), [(4, "acs"), (3, "graded")])
def test_letters_behind_windows_that_differ_are_graded(size, field):
    """How many letters such an average is made of, its value does not say."""
    net, x = zoo(lambda m, x: m.relu(m.b(F.adaptive_avg_pool2d(m.relu(x), size))))
    curve = rb.evaluate(rb.convert(net, rb.methods.opi(), [x])[0], [(x, torch.zeros(6, dtype=torch.int64))], 4)
    assert (curve.graded[-1] > 0) == (field == "graded")
    assert curve.acs[-1] > 0


def test_what_is_random_in_eval_mode_is_refused_by_line():
    net, x = zoo(lambda m, x: F.linear(m.relu(x), m.fc.weight + torch.rand_like(m.fc.weight)))
    with pytest.raises(rb.RheobaseError, match=r"(?s)'rand_like' at test_spellings.py:\d+.*differs from call to call"):
        rb.convert(net, METHODS[0], [x])
