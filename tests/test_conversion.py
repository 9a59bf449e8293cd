"""Conversion end to end: what it computes, what it leaves alone, what it refuses, and what its ledger counts."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import ops
from rheobase.convert import splice
from rheobase.fold import differences, fold_batchnorm, fold_theta
from rheobase.measure import Ledger
from rheobase.nets import DigitsNet
from rheobase.quantise import quantised
from rheobase.refine import spike_confidence
from rheobase.state import Visit
from rheobase.trace import trace

HALF = rb.Method(initial=rb.Half())
CHANNELS = rb.Method(scale=rb.Max(channelwise=True), initial=rb.Half())


def norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm that did see data."""
    bn = nn.BatchNorm2d(channels)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    bn.running_mean.uniform_(-0.5, 0.5)
    bn.running_var.uniform_(0.5, 2)
    nn.init.uniform_(bn.weight, 0.5, 1.5)
    nn.init.uniform_(bn.bias, -0.3, 0.3)
    return bn


class Net(nn.Module):
    """A stem, a body that a test writes, and a linear head; the body may use modules a to d and norms."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor], act: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.depthwise = nn.Conv2d(4, 8, 3, padding="same", groups=4, dilation=2, bias=False)
        self.joined = nn.Conv2d(8, 4, 3, stride=2, padding=1)
        self.n1, self.n2, self.act = norm(4), norm(4), act or nn.ReLU()
        self.inplace, self.drop, self.pool = nn.ReLU(inplace=True), nn.Dropout(0.5), nn.MaxPool2d(2)
        self.head = nn.LazyLinear(5)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self, self.stem(x)))


def flat(x: Tensor) -> Tensor:
    return x.view(x.size(0), -1)


def preactivation(m: Net, x: Tensor) -> Tensor:
    y = m.a(m.inplace(x))  # writes into x, which the sum below reads
    return flat(F.relu(y + x))


def preactivation_by_position(m: Net, x: Tensor) -> Tensor:
    y = m.a(F.relu(x, True))
    return flat(F.relu(y + x))


def overwriting(m: Net, x: Tensor) -> Tensor:
    h = m.a(m.act(x))
    h += x
    h.relu_()
    return flat(h)


BODIES: dict[str, tuple[Callable[[Net, Tensor], Tensor], int]] = {
    "module, twice": (lambda m, x: flat(m.act(m.a(m.act(x)))), 2),
    "functions": (lambda m, x: flat(torch.relu(m.a(F.relu(x)))), 2),
    "methods": (lambda m, x: m.a(x.relu()).relu_().flatten(1), 2),
    "clamps": (lambda m, x: torch.flatten(torch.clamp(m.a(x.clamp(min=0)), 0, 1.5), 1), 2),
    "relu6 and hardtanh": (lambda m, x: flat(F.hardtanh(m.a(F.relu6(x)), 0.0, 2.0)), 2),
    "shared convolution, two norms": (lambda m, x: flat(m.act(m.n2(m.a(m.act(m.n1(m.a(m.act(x)))))))), 3),
    "norm with two readers": (lambda m, x: flat(m.act(m.n1(x) + x)), 1),
    "norm before convolution": (lambda m, x: flat(m.act(m.a(m.n1(m.act(x))))), 2),
    "pre-activation in place": (preactivation, 2),
    "pre-activation in place, by position": (preactivation_by_position, 2),
    "sum and activation in place": (overwriting, 2),
    "grouped, dilated, same padding": (lambda m, x: m.act(m.depthwise(m.act(x))).mean((2, 3)), 2),
    "max pooling": (lambda m, x: flat(F.max_pool2d(m.act(m.a(m.pool(m.act(x)))), 3, 2, 1)), 2),
    "max pooling before activation": (lambda m, x: flat(m.act(m.pool(x))), 1),
    "average pooling": (lambda m, x: flat(m.act(m.a(F.avg_pool2d(m.act(x), 2)))), 2),
    "pool of the map's own size": (lambda m, x: flat(F.avg_pool2d(m.act(x), x.size()[3])), 1),
    "padded average": (lambda m, x: flat(F.avg_pool2d(m.act(x), 3, 2, 1, True, False)), 1),
    "adaptive": (lambda m, x: F.adaptive_avg_pool2d(m.act(x), 1).reshape(x.shape[0], -1), 1),
    "concat": (lambda m, x: flat(m.act(m.joined(torch.cat([m.act(x), m.act(m.a(x))], 1)))), 3),
    "option A": (lambda m, x: flat(m.act(F.pad(m.act(x)[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))[:, :4] + m.pool(x))), 2),
    "permute": (lambda m, x: m.act(x).permute(0, 2, 3, 1).transpose(1, 2).flatten(1), 1),
    "unsqueeze and squeeze": (lambda m, x: m.act(x).flatten(1).unsqueeze(1).squeeze(1), 1),
    "dropout": (lambda m, x: flat(m.act(m.a(m.drop(F.dropout(m.act(x), 0.3, m.training))))), 2),
}


def made(body: str) -> tuple[Net, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(24, 3, 8, 8).double()
    net = Net(BODIES[body][0])
    net.float()(x.float())  # the lazy head learns its size
    for bn in (net.n1, net.n2):
        bn.load_state_dict(norm(4).state_dict())
    return net.double().eval(), x


@pytest.mark.parametrize("body", BODIES)
def test_every_spelling_is_traced_folded_and_reaches_the_network_it_came_from(body):
    net, x = made(body)
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        answer = net(x)
        graph = trace(net, x)
        torch.testing.assert_close(graph(x), answer, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(fold_batchnorm(graph)(x), answer, rtol=1e-10, atol=1e-10)
        for method in (HALF, CHANNELS):
            snn, report = rb.convert(net, method, [x])
            assert len(report.layers) == BODIES[body][1]
            ys, _ = snn(rb.constant(x, 400))
            early, late = ((y - answer).abs().mean() / answer.abs().mean() for y in (ys[7], ys[-1]))
            assert late < 0.015
            assert late < early / 4
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not net.training


@pytest.mark.parametrize("act", [rb.Clip(1.0), rb.QCFS(4, 1.0), nn.ReLU6()], ids=lambda a: type(a).__name__)
def test_a_bounded_activation_gives_its_bound_to_the_threshold(act):
    torch.manual_seed(0)
    x = 3 * torch.randn(24, 3, 8, 8).double()
    net = Net(BODIES["module, twice"][0], act)
    net.float()(x.float())
    net.double().eval()
    bound = 6.0 if isinstance(act, nn.ReLU6) else act.bound.item()
    snn, _ = rb.convert(net, rb.methods.opi(), [x])
    for name, _ in snn.sites():
        assert snn.weights(name)["theta0"].item() == pytest.approx(bound)
        assert snn.weights(name)["v0"].item() == pytest.approx(bound / 2)
    burst, _ = rb.convert(net, rb.methods.burst(4), [x])
    assert all(burst.weights(name)["theta0"].item() <= bound / 4 * (1 + 1e-12) for name, _ in burst.sites())


def test_t_steps_of_the_half_start_are_qcfs_of_as_many_levels():
    torch.manual_seed(0)
    readout = nn.Linear(9, 9)
    layer = nn.Sequential(nn.Linear(6, 9), rb.QCFS(levels=8, bound=2.0), readout).double().eval()
    with torch.no_grad():
        readout.weight.copy_(torch.eye(9))
        readout.bias.zero_()
        x = torch.randn(50, 6).double()
        snn, _ = rb.convert(layer, rb.methods.qcfs(), [x])
        ys, _ = snn(rb.constant(x, 8))
        torch.testing.assert_close(ys[-1], layer(x), rtol=1e-9, atol=1e-9)
        graph = quantised(nn.Sequential(layer[0], nn.ReLU(), layer[2]).eval(), rb.Given(2.0), [x], [8])[8]
        torch.testing.assert_close(graph(x), layer(x), rtol=1e-6, atol=1e-6)


# Folding


def dyadic_net() -> tuple[nn.Module, Tensor]:
    """A residual net whose every product is exact."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2, self.c3 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 1)
            self.pool, self.head = nn.MaxPool2d(2), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(F.relu(self.c1(x)))
            x = F.relu(self.c2(x) + x)
            x = F.relu(self.c3(torch.cat([x, F.relu(self.c2(x))], 1)))
            return self.head(F.avg_pool2d(x, 2).flatten(1))

    torch.manual_seed(3)
    net = Residual().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 32).round() / 32)
    return net, torch.randint(-64, 64, (6, 2, 8, 8)) / 64


def given(method: rb.Method) -> rb.Method:
    return replace(method, scale=rb.Given((2.0, 1.0, 0.5, 1.0)))


@pytest.mark.parametrize(
    "method", [rb.methods.max_norm(), HALF, rb.methods.burst(3), rb.methods.constant(0.5)], ids=str
)
def test_folding_theta_into_the_weights_changes_no_bit(method):
    net, x = dyadic_net()
    method = given(method)
    snn, _ = rb.convert(net, method, [x])
    source = fold_batchnorm(trace(net, x))
    fitted = {name: {k: snn.weights(name)[k] for k in ("theta0", "v0")} for name, _ in snn.sites()}
    nodes = tuple(replace(n, op=ops.Spike(neuron=method.neuron)) if n.name in fitted else n for n in source.nodes)
    unfolded = rb.SpikingNet(differences(replace(source, nodes=nodes, tensors=source.tensors | fitted)))
    letters: list[Tensor] = []
    with torch.no_grad():
        ys, _ = snn.run(rb.constant(x, 12), None, lambda v: letters.append(v.ys) if v.emission else None)
        assert torch.equal(ys, unfolded(rb.constant(x, 12))[0])
    assert all(torch.equal(s, s.round()) for s in letters)
    assert any(bool((s > 0).any()) for s in letters)
    assert [n.inputs for n in snn.graph_nodes if isinstance(n.op, ops.Scale)] == [("pool",)]
    assert all(n.op.letters for n in snn.graph_nodes if isinstance(n.op, ops.Spike))


def test_a_threshold_that_moves_does_not_fold():
    net, x = dyadic_net()
    for threshold, letters in ((rb.MSAT(), False), (rb.DTIF(), False), (rb.DTIF(graded=False), True)):
        snn, _ = rb.convert(net, rb.Method(threshold=threshold), [x])
        assert {n.op.letters for n in snn.graph_nodes if isinstance(n.op, ops.Spike)} == {letters}


def test_channelwise_thresholds_fold_through_pools_joins_and_flattening():
    net, x = dyadic_net()
    net, x = net.double(), x.double()
    snn, _ = rb.convert(net, CHANNELS, [x])
    source = fold_batchnorm(trace(net, x))
    chosen = dict.fromkeys((name for name, _ in snn.sites()), CHANNELS)
    fitted = {name: {k: snn.weights(name)[k] for k in ("theta0", "v0")} for name in chosen}
    whole = splice(source, chosen, fitted)
    assert sum(isinstance(n.op, ops.Scale) for n in whole.nodes) == 1
    nodes = tuple(replace(n, op=ops.Spike(neuron=CHANNELS.neuron)) if n.name in fitted else n for n in source.nodes)
    bare = replace(source, nodes=nodes, tensors=source.tensors | fitted)
    assert fold_theta(bare).nodes == whole.nodes
    with torch.no_grad():
        torch.testing.assert_close(snn(rb.constant(x, 9))[0], rb.SpikingNet(differences(bare))(rb.constant(x, 9))[0])


def test_channelwise_thresholds_fold_through_zeros_around_a_map():
    """Zeros are letters of any worth, so a depthwise convolution behind a pad reads letters."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU()]
    net, x = nn.Sequential(*body, nn.Flatten(), nn.LazyLinear(4)).double(), torch.randn(8, 3, 9, 9).double()
    net(x)
    snn, _ = rb.convert(net.eval(), CHANNELS, [x])
    assert len({float(theta) for theta in snn.tensors("1").theta0.flatten()}) == 6
    assert not any(isinstance(node.op, ops.Scale) for node in snn.graph_nodes)
    with torch.no_grad():
        mean = snn(rb.constant(x, 64))[0][-1]
        torch.testing.assert_close(mean, net(x), atol=0.05, rtol=0.05)


# The network over time

METHODS = {
    "opi": rb.methods.opi(),
    "msat": rb.methods.msat(),
    "msat with confidence": rb.Method(threshold=rb.MSAT(), gate=rb.SpikeConfidence(last_only=False)),
    "dtif": rb.methods.dtif(),
    "burst": rb.methods.burst(),
    "uniform": rb.Method(initial=rb.Uniform()),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_run_in_pieces_is_the_run_and_two_runs_are_the_same(name):
    net, x = dyadic_net()
    snn, _ = rb.convert(net, METHODS[name], [x])
    snn = copy.deepcopy(snn)
    with torch.no_grad():
        whole, end = snn(rb.constant(x, 20))
        first, state = snn(rb.constant(x, 7))
        second, state = snn(rb.constant(x, 13), state)
        assert torch.equal(snn(rb.constant(x, 20))[0], whole)
    assert state.t == end.t == 20
    if name.startswith(("opi", "burst", "uniform")):
        torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=1e-5)
    agree = (torch.cat([first, second]) - whole).abs() < 1e-4
    assert agree.float().mean() > 0.99


def test_in_exact_arithmetic_pieces_and_batches_change_no_bit():
    net, x = dyadic_net()
    snn, _ = rb.convert(net, given(HALF), [x])
    with torch.no_grad():
        whole, _ = snn(rb.constant(x, 16))
        for chunk in (1, 3, 16):
            assert torch.equal(torch.cat(list(snn.present(x, 16, chunk=chunk))), whole)
        assert torch.equal(snn(rb.constant(x[:2], 16))[0], whole[:, :2])


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_max_pooling_is_exact_at_every_step(kernel, stride, padding):
    torch.manual_seed(0)
    xs = torch.randint(-64, 64, (9, 2, 3, 7, 7)) / 64
    pool = ops.Difference(
        ops.MaxPool(kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(padding,) * 2, dilation=(1, 1))
    )
    ys, _ = pool.scan({}, [xs], None)
    for running, inputs in zip(ys.cumsum(0), xs.cumsum(0), strict=True):
        assert torch.equal(running, F.max_pool2d(inputs, kernel, stride, padding))
    first, memory = pool.scan({}, [xs[:4]], None)
    assert torch.equal(torch.cat([first, pool.scan({}, [xs[4:]], memory)[0]]), ys)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_runs_in_other_dtypes(dtype):
    net, x = dyadic_net()
    snn, _ = rb.convert(net, given(HALF), [x])
    with torch.no_grad():
        expected = snn(rb.constant(x, 8))[0]
        ys, state = snn.to(dtype)(rb.constant(x.to(dtype), 8))
    assert ys.dtype == dtype
    assert next(m for m in state.memory.values() if isinstance(m, rb.Membrane)).v.dtype != torch.bfloat16
    torch.testing.assert_close(ys.float(), expected, rtol=0.05, atol=0.05)


def test_a_saved_network_loads_without_the_model_and_gives_the_same_bits(tmp_path):
    net, x = dyadic_net()
    snn, _ = rb.convert(net, METHODS["msat with confidence"], [x], generator=torch.Generator().manual_seed(7))
    rb.save(tmp_path / "snn.safetensors", snn)
    again = rb.load(tmp_path / "snn.safetensors")
    np.savez(tmp_path / "x.npz", x=x.numpy())
    with torch.no_grad():
        ys = snn(rb.constant(x, 9))[0]
        assert torch.equal(again(rb.constant(x, 9))[0], ys)
    assert again.provenance == snn.provenance
    assert again.provenance["seed"] == 7
    program = (
        "import sys, numpy, torch, rheobase as rb; x = torch.from_numpy(numpy.load('x.npz')['x']);"
        "ys = rb.load('snn.safetensors')(rb.constant(x, 9))[0].detach(); numpy.save('y.npy', ys.numpy())"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert np.allclose(np.load(tmp_path / "y.npy"), ys.numpy(), rtol=1e-5, atol=1e-5)


def test_constant_coding_copies_nothing():
    x = torch.rand(2, 3)
    assert rb.constant(x, 1000).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


# Calibration


def test_statistics_do_not_depend_on_batches():
    net, x = dyadic_net()
    kinds = [rb.Percentile(99.0), rb.Max(), rb.Percentile(95.0, channelwise=True)]
    for scale in kinds:
        found = []
        for batches in ([x], list(x.split(1)), list(x.flip(0).split(4))):
            snn, _ = rb.convert(net, rb.Method(scale=scale), iter(batches))
            found.append([snn.weights(name)["theta0"] for name, _ in snn.sites()])
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_first_matching_pattern_gives_the_method():
    net, x = dyadic_net()
    snn, report = rb.convert(net, {"relu_2": rb.methods.burst(3), "relu*": HALF}, [x])
    neurons = dict(snn.sites())
    assert [n for n, neuron in neurons.items() if neuron.alphabet == rb.burst(3)] == ["relu_2"]
    assert [layer.name for layer in report.layers] == list(neurons)
    assert {name for name, _ in report.analogue} == {"c1", "head"}
    assert all(layer.source.startswith("test_conversion.py:") for layer in report.layers)


@pytest.mark.parametrize("branches", [False, True], ids=["symbolic", "exported"])
def test_lines_of_a_library_that_lies_beside_torch_are_named(branches):
    source = """
class Net(torch.nn.Sequential):
    def forward(self, x):
        if branches and x.shape[1] == 2:
            x = x * 2
        return super().forward(torch.relu(x))
"""
    path = Path(torch.__file__).parent.with_name("torchvision") / "net.py"
    made: dict[str, Any] = {"torch": torch, "branches": branches}
    exec(compile(source, str(path), "exec"), made)
    _, report = rb.convert(made["Net"](nn.Linear(2, 3)).eval(), HALF, [torch.rand(8, 2)])
    assert [layer.source for layer in report.layers] == ["net.py:6"]


def test_the_report_counts_what_is_clipped():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).eval()
    x = torch.randn(500, 4)
    _, report = rb.convert(net, rb.Method(scale=rb.Given(0.5)), [x])
    with torch.no_grad():
        share = (net[:2](x) > 0.5).float().mean().item()
    assert report.layers[0].clipped == pytest.approx(share, abs=2e-3)
    assert report.layers[0].spacing == 0.5


def test_confidence_is_the_share_of_spikes_the_ann_agrees_with():
    class Fan(nn.Module):
        """Two neurons of drive +x and -x behind one rectifier that overshoots at first."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            with torch.no_grad():
                self.first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
                self.second.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.second(F.relu(self.first(x))))

    net, x = Fan().eval(), torch.tensor([[0.5, 0.6]])
    snn, _ = rb.convert(net, rb.Method(scale=rb.Given((1.0, 0.3))), [x])
    # unit 0 of the second layer has ANN drive -0.1, and the first layer's spikes reach it evenly enough
    found = spike_confidence(snn, fold_batchnorm(trace(net, x)), [x], steps=16)
    assert found["relu"] == 1.0
    assert found["relu_1"] == 1.0
    biased, _ = rb.convert(net, rb.Method(scale=rb.Given((1.0, 0.3)), initial=rb.Half()), [x])
    biased.weights("relu")["v0"].copy_(torch.tensor(0.0))
    with torch.no_grad():
        weights = biased.weights("relu_1")
        weights["v0"].copy_(torch.tensor(0.29))
        biased.weights("second")["weight"].mul_(torch.tensor([[1.1], [1.0]]))
        biased.weights("second")["weight"][0, 1] /= 1.1
    found = spike_confidence(biased, fold_batchnorm(trace(net, x)), [x], steps=16)
    assert found["relu_1"] == 0.5  # both units fired, the ANN's drive of unit 0 is negative


def test_the_same_seed_gives_the_same_network():
    net, x = dyadic_net()
    nets = [
        rb.convert(net, METHODS["uniform"], [x], generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    ]
    v0 = [n.weights("relu")["v0"] for n in nets]
    assert torch.equal(v0[0], v0[1])
    assert not torch.equal(v0[0], v0[2])


def test_the_guard_of_msat_is_logged_when_it_acts(caplog):
    net, x = dyadic_net()
    with caplog.at_level(logging.WARNING, "rheobase"):
        rb.convert(net, rb.methods.msat(), [x])
        assert not caplog.records
        rb.convert(net, rb.Method(scale=rb.Given(60.0), threshold=rb.MSAT()), [x])
    assert "underflows" in caplog.text


# What is refused


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gelu = nn.Conv2d(3, 4, 3), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.conv(x))
        x = F.relu(x).cumsum(3)
        return F.softmax(x.mean((2, 3)), 1)


def line_of(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    return f"test_conversion.py:{next(i for i, line in enumerate(lines, 1) if text in line)}"


def test_all_that_cannot_be_converted_is_named_with_its_line_before_calibration():
    seen = []

    def batches() -> Any:
        for _ in range(5):
            seen.append(1)
            yield torch.rand(2, 3, 8, 8)

    with pytest.raises(rb.ConversionError) as refused:
        rb.convert(Unsupported().eval(), HALF, DataOnce(batches))
    message = str(refused.value)
    for what, line in (
        ("'gelu' (function gelu)", line_of("x = self.gelu(self.conv(x))")),
        ("'cumsum'", line_of("x = F.relu(x).cumsum(3)")),
        ("'softmax' (Softmax)", line_of("return F.softmax(x.mean")),
    ):
        assert f"{what} at {line}" in message
    assert len(seen) == 1


class DataOnce:
    """A re-iterable that counts through its generator."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __iter__(self) -> Any:
        return self.make()


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    "matmul": lambda x: x.flatten(1) @ x.flatten(1).T,
    "active dropout": lambda x: F.dropout(x).flatten(1),
    "mean over samples": lambda x: x.mean(),
    "joins samples": lambda x: torch.cat([x, x], 0),
    "two-sided clip": lambda x: x.clamp(-1, 1).flatten(1),
    "index by a tensor": lambda x: x[:, torch.tensor([0, 1])].flatten(1),
    "batch slice": lambda x: x[:1].flatten(1),
    "sorted": lambda x: x.flatten(1).sort(1)[0],
    "padding with ones": lambda x: F.pad(x, (1, 1), value=1.0).flatten(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(name):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return REFUSED[name](F.relu(x))

    with pytest.raises(rb.ConversionError, match=r"(?s)cannot convert .* at (test_conversion.py:\d+|unknown line)"):
        rb.convert(Odd().eval(), HALF, [torch.rand(4, 3, 4, 4)])


def test_a_branch_on_values_is_refused():
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) if x.sum() > 0 else x

    with pytest.raises(rb.ConversionError, match="cannot be traced"):
        rb.convert(Branch().eval(), HALF, [torch.rand(4, 3)])


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).eval()


GOOD = torch.rand(16, 4)


def broken(change: Callable[[Any], Any]) -> nn.Sequential:
    net = small()
    with torch.no_grad():
        change(net)
    return net


BAD: dict[str, tuple[Callable[[], Any], type, str]] = {
    "train mode": (lambda: rb.convert(small().train(), HALF, [GOOD]), rb.ConversionError, "train mode"),
    "one module in train mode": (
        lambda: rb.convert(broken(lambda n: n[2].train()), HALF, [GOOD]),
        rb.ConversionError,
        "'2'",
    ),
    "no data": (lambda: rb.convert(small(), HALF, []), rb.InputError, "no calibration data"),
    "used up": (lambda: rb.convert(small(), HALF, iter([])), rb.InputError, "no calibration data"),
    "NaN weight": (
        lambda: rb.convert(broken(lambda n: n[0].weight.fill_(torch.nan)), HALF, [GOOD]),
        rb.ConversionError,
        "0.weight",
    ),
    "infinite data": (lambda: rb.convert(small(), HALF, [GOOD / 0]), rb.InputError, "NaN or infinite"),
    "NaN later": (lambda: rb.convert(small(), HALF, [GOOD, GOOD * torch.nan]), rb.InputError, "batch 1"),
    "shapes differ": (lambda: rb.convert(small(), HALF, [GOOD, torch.rand(2, 5)]), rb.InputError, "batch 1"),
    "does not fit": (lambda: rb.convert(small(), HALF, [torch.rand(2, 5)]), rb.InputError, "does not run"),
    "dtype": (lambda: rb.convert(small(), HALF, [GOOD.double()]), rb.InputError, "does not run"),
    "integers": (lambda: rb.convert(small(), HALF, [torch.ones(2, 4, dtype=torch.uint8)]), rb.InputError, "floating"),
    "dead layer": (
        lambda: rb.convert(broken(lambda n: n[0].bias.fill_(-99)), HALF, [GOOD]),
        rb.ConversionError,
        "layer '1'",
    ),
    "no activation": (lambda: rb.convert(nn.Linear(4, 2).eval(), HALF, [GOOD]), rb.ConversionError, "no activation"),
    "leak": (
        lambda: rb.convert(small(), rb.Method(leak=rb.Leak(0.9)), [GOOD]),
        rb.ConversionError,
        "cannot convert '1'",
    ),
    "pattern": (
        lambda: rb.convert(small(), {"9": HALF, "": HALF}, [GOOD]),
        rb.ConversionError,
        "matches no activation",
    ),
    "no pattern": (lambda: rb.convert(small(), {}, [GOOD]), rb.ConversionError, "no pattern matches '1'"),
    "saved the wrong way round": (
        lambda: rb.save(snn(), "snn.safetensors"),  # type: ignore[arg-type]
        rb.InputError,
        "a str is not saved[\\s\\S]*rheobase\\.save\\(path, net\\)",
    ),
    "an ANN saved": (lambda: rb.save("a.safetensors", small()), rb.InputError, "rheobase\\.convert"),  # type: ignore[arg-type]
    "0 steps": (lambda: rb.constant(GOOD, 0), rb.InputError, "steps=0"),
    "half a step": (lambda: rb.constant(GOOD, 2.5), rb.InputError, "steps=2.5"),  # type: ignore[arg-type]
    "evaluate 0 steps": (lambda: rb.evaluate(snn(), [(GOOD, torch.zeros(16).long())], 0), rb.InputError, "steps=0"),
    "no time": (lambda: snn()(GOOD), rb.InputError, "no time axis"),
    "sample shape": (lambda: snn()(rb.constant(torch.rand(2, 5), 3)), rb.InputError, "expected \\[T, N, 4\\]"),
    "no samples": (lambda: list(snn().present(GOOD[:0], 2)), rb.InputError, "expected \\[T, N, 4\\]"),
    "input dtype": (lambda: snn()(rb.constant(GOOD.double(), 3)), rb.InputError, "float64"),
    "other batch": (
        lambda: snn()(rb.constant(GOOD, 2), snn()(rb.constant(GOOD[:3], 2))[1]),
        rb.InputError,
        "3 samples",
    ),
    "label": (lambda: rb.evaluate(snn(), [(GOOD, torch.full((16,), 3))], 2), rb.InputError, "from 0 to 2"),
    "float label": (lambda: rb.evaluate(snn(), [(GOOD, torch.zeros(16))], 2), rb.InputError, "labels of batch 0"),
    "label count": (lambda: rb.evaluate(snn(), [(GOOD, torch.zeros(3).long())], 2), rb.InputError, "labels of batch 0"),
    "empty loader": (lambda: rb.evaluate(snn(), [], 2), rb.InputError, "no data to evaluate"),
    "method name": (lambda: rb.methods.named("msta"), rb.SpecError, "did you mean 'msat'"),
    "combination": (
        lambda: rb.Method(reset=rb.ToValue(), initial=rb.Half()),
        rb.SpecError,
        "hard reset forgets",
    ),
}


def snn() -> rb.SpikingNet:
    return rb.convert(small(), HALF, [GOOD])[0]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(case):
    do, kind, says = BAD[case]
    with pytest.raises(kind, match=says) as refused:
        do()
    assert isinstance(refused.value, rb.RheobaseError)


def test_what_is_no_saved_network_is_refused_and_never_run(tmp_path):
    path = tmp_path / "net.safetensors"
    rb.save(path, snn())
    good = path.read_bytes()
    size = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + size])

    def with_graph(change: Callable[[dict], Any]) -> bytes:
        graph = json.loads(header["__metadata__"]["rheobase"])
        change(graph)
        text = json.dumps(header | {"__metadata__": {"rheobase": json.dumps(graph)}}).encode()
        return struct.pack("<Q", len(text)) + text + good[8 + size :]

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    cases = {
        "pickle": pickle.dumps(Bomb()),
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "newer": with_graph(lambda g: g.update(format=99)),
        "unknown kind": with_graph(lambda g: g["nodes"][0]["op"].update(kind="Convolve")),
        "unknown field": with_graph(lambda g: g["nodes"][0].update(colour="red")),
        "no nodes": with_graph(lambda g: g.pop("nodes")),
        "no output": with_graph(lambda g: g.update(output="nowhere")),
        "no JSON": good.replace(b'{\\"format', b'[\\"format'),
    }
    for name, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(rb.RheobaseError):
            print(f"{name} loaded {rb.load(path)}")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(rb.FileError, match="there is no file"):
        rb.load(tmp_path / "missing")


def test_a_place_that_cannot_be_written_is_refused_and_keeps_what_was_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(rb.FileError, match="cannot write"):
        rb.save(tmp_path / "file" / "net.safetensors", snn())
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# The ledger


def test_the_ledger_counts_by_hand():
    """One input of 0.5 at theta 1 fires every second step; its letter crosses 2 synapses, then 1 each."""

    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (
                nn.Linear(1, 2, bias=False),
                nn.Linear(2, 2, bias=False),
                nn.Linear(2, 3, bias=False),
            )
            with torch.no_grad():
                for layer in (self.a, self.b, self.c):
                    layer.weight.fill_(0.5)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return self.c(F.relu(self.b(x) + x))

    x, y = torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    for threshold, field in ((rb.Fixed(), "acs"), (rb.MSAT(), "graded")):
        net, _ = rb.convert(Hand().eval(), rb.Method(scale=rb.Given(1.0), threshold=threshold), [x])
        counts = Ledger(net, 4)
        with torch.no_grad():
            net.run(rb.constant(x, 4), None, counts)
        if isinstance(threshold, rb.Fixed):
            assert counts.layers["relu"].tolist() == [0, 2, 0, 2]
            # a drive of 0.5 * 2 + 1 in steps 2 and 4, and one spike a step
            assert counts.layers["relu_1"].tolist() == [0, 2, 2, 2]
        first, second = counts.layers["relu"], counts.layers["relu_1"]
        # each letter of the first layer: 2 synapses of b and the identity; of the second: 3 of c
        assert getattr(counts, field).tolist() == (first * 3 + second * 3).tolist()
        assert counts.constant == 2
        assert counts.letters.tolist() == (first + second).tolist()
        curve = rb.evaluate(net, [(x, y)], 4)
        price = 0.9 if field == "acs" else 4.6
        events = np.cumsum((first * 3 + second * 3).numpy()) * price
        assert curve.energy_pj.tolist() == pytest.approx((events + 2 * 4.6 * np.arange(1, 5)).tolist())
        assert curve.energy_once_pj.tolist() == pytest.approx((events + 2 * 4.6).tolist())
        assert curve.ann_energy_pj == pytest.approx((2 + 4 + 6) * 4.6)
        assert curve.rate[-1] == pytest.approx(float((first + second).sum()) / 16)


def test_a_pooled_letter_counts_as_a_letter_and_chunks_change_no_count():
    net, x = dyadic_net()
    converted, _ = rb.convert(net, given(rb.methods.burst(3)), [x])
    y = torch.zeros(len(x), dtype=torch.int64)
    curves = [rb.evaluate(converted, [(x, y)], 6, ann=net, chunk=chunk).to_json() for chunk in (1, 4, 6)]
    assert curves[0] == curves[1] == curves[2]
    assert rb.Curve.from_json(curves[0]).to_json() == curves[0]
    seen: dict[str, Visit] = {}
    counts = Ledger(converted, 6)

    def visit(v: Visit) -> None:
        counts(v)
        seen[v.node.name] = v

    with torch.no_grad():
        converted.run(rb.constant(x, 6), None, visit)
    pooled = next(v for v in seen.values() if isinstance(v.node.op, ops.AvgPool))
    into_pool = pooled.xs[0].flatten(2).sum((1, 2)).double()
    head = torch.zeros(6, dtype=torch.float64)
    before = counts.acs.clone()
    counts.acs.zero_()
    counts(seen["head"])
    head = counts.acs
    assert torch.allclose(head, into_pool * 3)  # each letter enters 3 synapses of the head, as a quarter of its worth
    assert bool((before >= head).all())


def test_padded_channels_are_worth_nothing_and_cost_nothing():
    """With a threshold for each channel, the zero channels of an option-A shortcut have letters worth 0."""

    class Widened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.wide, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 8, 1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            x = F.relu(self.wide(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    x, y = torch.randn(6, 2, 6, 6), torch.zeros(6, dtype=torch.int64)
    converted, _ = rb.convert(Widened().eval(), CHANNELS, [x])
    curve = rb.evaluate(converted, [(x, y)], 4)
    sizes = {name: math.prod(converted.graph[name].shape) for name in ("relu", "relu_1")}
    first, second = (4 * curve.layer_rates[name] * size for name, size in sizes.items())
    assert curve.acs[-1] == pytest.approx(first * (8 + 1) + second * 3, rel=1e-6)  # 8 outputs, 1 sum, 3 classes


# Trained networks


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(images).float().reshape(-1, 1, 8, 8)[order] / 16, torch.from_numpy(labels).long()[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


@pytest.fixture(
    scope="module", params=[nn.ReLU, lambda: rb.Clip(4.0), lambda: rb.QCFS(8, 4.0)], ids=["ReLU", "Clip", "QCFS"]
)
def trained(request: pytest.FixtureRequest, digits: tuple[Tensor, Tensor, Tensor, Tensor]) -> nn.Module:
    """DigitsNet with one kind of activation, its bounds in the same optimiser as its weights."""
    x, y, *_ = digits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DigitsNet(activation=request.param)
        optimiser = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=5e-4)
        for _ in range(12):
            for piece in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                F.cross_entropy(net(x[piece]), y[piece]).backward()
                optimiser.step()
    return net.eval()


def test_opi_reaches_its_ann_and_no_method_falls_with_t(trained, digits):
    x, _, x_test, y_test = digits
    methods = {
        "max_norm": rb.methods.max_norm(),
        "opi": rb.methods.opi(),
        "msat": rb.methods.msat(replace(rb.MSAT_RESNET20_CIFAR10, normalised=True)),
        "dtif": rb.methods.dtif(),
        "burst": rb.methods.burst(),
    }
    for name, method in methods.items():
        net, _ = rb.convert(trained, method, [x])
        curve = rb.evaluate(net, [(x_test, y_test)], 64, ann=trained)
        assert curve.ann_accuracy > 0.95
        assert curve.accuracy[-1] >= curve.accuracy.max() - 0.01, name
        if name == "opi":
            assert curve.accuracy[31] >= curve.ann_accuracy - 0.005
