"""A compiled network is the network behind it: same spikes, answers, state, curve; what no kernel takes is named."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import random_nets
import rheobase as rb
from rheobase import data, kernels, ops
from rheobase.compile import CompiledNet, ready
from rheobase.gate import Wait
from rheobase.graph import Node
from rheobase.kernels import cpu
from rheobase.kernels.engine import CPU
from rheobase.kernels.room import Room
from rheobase.kernels.stage import Letters
from rheobase.membrane import Membrane
from rheobase.nets.cifar_resnet import cifar_resnet20
from rheobase.nets.efficientnet_lite import Block, EfficientNetLite
from rheobase.spelling import Spelling
from rheobase.stages import Pool, Run, Stage, Values
from staged import METHODS, NETS, SHAPE, Mean, converted, plain, same_state

pytestmark = pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_int8_is_the_network_with_rounded_weights_bit_for_bit(name, method):
    net, x = converted(name, METHODS[method])
    fast = rb.compile(net, x)
    assert any(kernel in layer.kernel for layer in fast.explain() for kernel in ("dense", "events", "lookup"))
    assert all(layer.exact for layer in fast.explain())
    with torch.no_grad():
        ys, state = fast(rb.constant(x, 6))
        expected, other = fast.net(rb.constant(x, 6))
    assert torch.equal(ys, expected)
    same_state(state, other)


@pytest.mark.parametrize(
    ("kernel", "method"), [("dense", "ternary"), ("events", "ternary"), ("dense", "binary"), ("lookup", "binary")]
)
def test_either_kernel_gives_the_same_bits(kernel, method):
    net, x = converted("residual", METHODS[method])
    fast = rb.compile(net, x)
    fixed = []
    for step in fast.steps:
        if isinstance(step, Stage):
            own = (replace(drive, chosen=kernel) if kernel in drive.kernels else drive for drive in step.drives)
            fixed.append(replace(step, drives=tuple(own)))
        else:
            fixed.append(step)
    forced = CompiledNet(fast.net, tuple(fixed), fast.rates, CPU)
    assert any(kernel in layer.kernel for layer in forced.explain())
    assert torch.equal(forced(rb.constant(x, 6))[0], fast(rb.constant(x, 6))[0])


def test_a_compiled_network_stays_where_it_is():
    net, x = converted("layers", METHODS["binary"])
    fast = rb.compile(net, x)
    assert fast.to("cpu").float().eval() is fast
    for move in (fast.double, fast.half, lambda: fast.to("meta")):
        with pytest.raises(rb.KernelError, match=r"cannot become(.|\n)*rb.compile of the network that was moved"):
            move()
    assert torch.equal(fast(rb.constant(x, 3))[0], fast.net(rb.constant(x, 3))[0])


@pytest.mark.parametrize("name", ["maximum", "residual"])
def test_a_run_may_move_between_both_networks(name):
    net, x = converted(name, METHODS["letters"])
    fast = rb.compile(net, x)
    whole, end = fast(rb.constant(x, 7))
    for first, second in itertools.product((fast, fast.net), repeat=2):
        with torch.no_grad():
            ys, state = first(rb.constant(x, 3))
            more, after = second(rb.constant(x, 4), state)
        assert torch.equal(torch.cat([ys, more]), whole)
        same_state(after, end)
    kept = {name: m.v.clone() for name, m in end.memory.items() if isinstance(m, Membrane)}
    fast(rb.constant(x, 2), end)
    assert all(torch.equal(end.memory[name].v, v) for name, v in kept.items())


def test_a_piece_takes_the_memory_of_the_one_before_layer_by_layer():
    """Twelve layers alike: two of one length need little more than one, and not the potentials of all layers again."""
    torch.manual_seed(0)
    layers = [layer for i in range(12) for layer in (nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.ReLU())]
    ann, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 256, 4)).eval(), torch.randn(8, 3, 16, 16)
    snn, _ = rb.convert(ann, rb.methods.opi(), [x])
    potentials = 8 * 16 * 256 * 4
    most = {}
    for steps in (2, 4):
        fast = rb.compile(snn, x, precision="int8")
        for _ in fast.present(x, steps, chunk=2):
            pass
        most[steps] = fast._room._most
    assert most[2] >= 12 * potentials  # all that must be kept
    assert most[4] - most[2] < 4 * potentials


def test_what_is_sent_takes_no_more_memory_than_the_potentials_do():
    """8 x 14 x 14 and 8 x 12 x 12 letters at once, and potentials that are floats: 4 steps, whatever the batch."""
    torch.manual_seed(0)
    convs = (nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 12))
    ann = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.ReLU())), nn.Flatten(), nn.Linear(2, 4))
    x = torch.randn(4, 3, 16, 16)
    snn, _ = rb.convert(ann.eval(), rb.methods.opi(), [x])
    fast = rb.compile(snn, x)
    assert fast.longest(10**6) == 4
    assert fast.longest(1) == snn.longest(1) > 1000
    with torch.no_grad():
        assert [len(piece) for piece in fast.present(x.repeat(500, 1, 1, 1), 9)] == [3, 3, 3]


@pytest.mark.parametrize("name", ["compiled", "network"])
def test_a_state_that_somebody_has_is_not_taken_away(name):
    snn, x = converted("residual", rb.methods.best(4, 3))
    net = rb.compile(snn, x) if name == "compiled" else snn
    _, state = net(rb.constant(x, 2))
    one, left = net(rb.constant(x, 2), state)
    two, again = net(rb.constant(x, 2), state)
    assert torch.equal(one, two)
    same_state(left, again)


def test_input_that_changes_in_time():
    net, x = converted("pools", METHODS["ternary"])
    fast, xs = rb.compile(net, x), torch.randn(4, 3, *SHAPE)
    with torch.no_grad():
        assert torch.equal(fast(xs)[0], fast.net(xs)[0])


def test_the_rounded_network_is_near_the_source():
    net, x = converted("residual", rb.methods.best(4, 15))
    fast = rb.compile(net, x)
    assert 0 < max(layer.error for layer in fast.explain()) < 0.02
    with torch.no_grad():
        a, b = fast(rb.constant(x, 16))[0][-1], net(rb.constant(x, 16))[0][-1]
    assert float((a - b).norm() / b.norm()) < 0.05


def test_curve_prediction_and_exits_are_those_of_the_network():
    net, x = converted("residual", METHODS["ternary"])
    fast, y = rb.compile(net, x), torch.arange(6) % 5
    ours, theirs = (rb.evaluate(each, [(x, y)], steps=6).to_json() for each in (fast, fast.net))
    assert {k: v for k, v in ours.items() if k != "provenance"} == {
        k: v for k, v in theirs.items() if k != "provenance"
    }
    assert ours["provenance"]["precision"] == "int8"
    a, b = (rb.predict(each, x, 6, rb.EarlyExit(0.255)) for each in (fast, fast.net))
    assert torch.equal(a.ys, b.ys)
    assert torch.equal(a.steps, b.steps)
    assert len(set(a.steps.tolist())) > 1
    pieces = torch.cat(list(fast.present(x, 6, chunk=2)))
    assert torch.equal(pieces, fast(rb.constant(x, 6))[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETS)
def test_other_precisions_on_weights_that_do_not_round(name, precision):
    """Dyadic weights, inputs and thresholds: every precision and kernel gives the bits of the network."""
    torch.manual_seed(1)
    ann = NETS[name]().eval()
    for p in ann.parameters():
        p.data = torch.round(p.data * 64).clamp(-8, 8) / 64
    x = torch.round(torch.rand(4, *SHAPE) * 4) / 4
    net, _ = rb.convert(ann, rb.Method(scale=rb.Given(2.0), initial=rb.Half()), [x])
    fast = rb.compile(net, x, precision)
    kinds = {layer.kernel for layer in fast.explain()}
    assert any("real events" in kind for kind in kinds) if precision == "fp32" else "narrow" in kinds
    with torch.no_grad():
        (ys, state), (expected, other) = fast(rb.constant(x, 5)), net(rb.constant(x, 5))
    assert torch.allclose(ys, expected, atol=1e-5)
    for name, m in state.memory.items():
        if isinstance(m, Membrane):
            assert torch.equal(m.v, other.memory[name].v) if precision == "fp32" else True


def test_trained_networks_are_folded_first():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), rb.MultiThresholdLIF(levels=3, leak=0.5),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), rb.LIF(), nn.Flatten(), nn.Linear(8 * 144, 5),
    )  # fmt: skip
    x = torch.randn(6, *SHAPE)
    net = rb.spiking(module.eval(), x)
    fast = rb.compile(net, x)
    assert ready(fast.net) is fast.net
    assert sum("dense" in layer.kernel or "events" in layer.kernel for layer in fast.explain()) == 1
    with torch.no_grad():
        assert torch.equal(fast(rb.constant(x, 4))[0], fast.net(rb.constant(x, 4))[0])


REFUSED = {
    "graded": (plain("8C3-8C3"), rb.methods.dtif(), "no letters of one byte"),
    "powers of two": (plain("8C3-8C3"), rb.methods.mth(), "whole letters only"),
    "confidence": (plain("8C3-8C3"), rb.Method(gate=rb.SpikeConfidence(last_only=False)), "no SpikeConfidence gate"),
    "waiting": (plain("8C3-8C3"), rb.methods.wait(4), "no Wait gate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_stage_takes_runs_by_reference_and_is_named(name):
    made, method, why = REFUSED[name]
    torch.manual_seed(0)
    x = torch.randn(4, *SHAPE)
    net, _ = rb.convert(made().eval(), method, [x])
    fast = rb.compile(net, x)
    answers = kernels.explain(fast)
    for layer, neuron in net.sites():
        assert answers[layer].kernel == "reference"
        assert why in answers[layer].declined["stage"]
        assert isinstance(neuron.gate, Wait) == bool(fast.waiting)
    with torch.no_grad():
        assert torch.equal(fast(rb.constant(x, 4))[0], net(rb.constant(x, 4))[0])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_which_kernel_runs_a_grouped_convolution(precision):
    net, x = converted("grouped", METHODS["binary"])
    fast = rb.compile(net, x, precision)
    drives = [drive for step in fast.steps if isinstance(step, Stage) for drive in step.drives if drive.weights]
    own, others = {"int8": ("depthwise", ("dense", "lookup", "events")), "fp32": ("real depthwise", ("real events",))}[
        precision
    ]
    assert [drive.name for drive in drives] == ["pairs", "each", "down", "halves", "wide"]
    for drive in drives:
        if drive.name in ("pairs", "halves"):
            assert drive.declined[own] == "its outputs do not read a channel each"
            assert set(drive.kernels) | set(drive.declined) == {own, *others}
        else:
            assert drive.declined == dict.fromkeys(others, "each output reads a channel of its own")
            assert set(drive.kernels) == {own}
    assert not any(isinstance(step.node.op, ops.Pad) for step in fast.steps)


def test_a_convolution_that_no_kernel_takes_is_named_and_its_neurons_are_a_stage():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, dilation=2, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1),
        nn.ReLU(), nn.Flatten(), nn.Linear(144, 5),
    )  # fmt: skip
    x = torch.randn(4, *SHAPE)
    net, _ = rb.convert(ann.eval(), rb.methods.opi(), [x])
    fast = rb.compile(net, x)
    layers = {layer.name: layer for layer in fast.explain()}
    assert layers["2"].kernel == "reference"
    assert layers["3"].kernel == "given"
    assert {name: layers["3"].declined[f"2: {name}"] for name in ("dense", "events")} == dict.fromkeys(
        ("dense", "events"), "its columns are dilated"
    )
    assert layers["5"].weights == "int8"
    with torch.no_grad():
        assert torch.equal(fast(rb.constant(x, 4))[0], fast.net(rb.constant(x, 4))[0])


POOLS = {
    "padded": (nn.Conv2d, nn.MaxPool2d(3, 2, 1)),
    "ceiling": (nn.Conv2d, nn.MaxPool2d(3, 2, ceil_mode=True)),
    "dilated": (nn.Conv2d, nn.MaxPool2d((2, 3), 1, 0, 3)),
    "row": (nn.Conv1d, nn.MaxPool1d(3, 2, 1)),
}


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("name", POOLS)
def test_a_maximum_of_each_step_is_one_of_letters(name, levels):
    """In a network written with neurons the maximum acts at each step by itself."""
    torch.manual_seed(0)
    neuron = partial(rb.MultiThresholdLIF, levels=levels)
    convolution, pool = POOLS[name]
    rows = [nn.Flatten(1, 2)] if name == "row" else []
    first, second = convolution(36 if rows else 3, 8, 3, padding=1), convolution(8, 6, 3, padding=1)
    module = nn.Sequential(*rows, first, neuron(), pool, second, neuron(), nn.Flatten(2), Mean(), nn.Linear(6, 5))
    x = 4 * torch.randn(6, *SHAPE)
    fast = rb.compile(rb.spiking(module.eval(), x), x)
    assert "pool" in {layer.kernel for layer in fast.explain()}
    with torch.no_grad():
        (ys, state), (expected, other) = fast(rb.constant(x, 5)), fast.net(rb.constant(x, 5))
    assert ys.any()
    assert torch.equal(ys, expected)
    same_state(state, other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    padded=st.booleans(),
    ceil_mode=st.booleans(),
    channels=st.sampled_from([1, 16, 55, 130]),
    seed=st.integers(0, 99),
)
def test_pools_of_letters(kernel, stride, dilation, padded, ceil_mode, channels, seed, instructions):
    """Of either sign, largest or mean, whatever the windows: the operation itself."""
    padding = tuple(k // 2 for k in kernel) if padded else (0, 0)
    dilated = (1, 1) if padded else (dilation, dilation)
    largest = ops.MaxPool(kernel=kernel, stride=stride, padding=padding, dilation=dilated, ceil_mode=ceil_mode)
    xs = torch.randint(-9, 10, (3, 2, channels, 8, 9), generator=torch.Generator().manual_seed(seed)).float() - 5
    for op in (largest, ops.AvgPool(kernel=kernel, stride=stride, padding=(0, 0))):
        ys = op({}, xs.flatten(0, 1))
        values = Values({"x": tuple(xs.shape[2:]), "y": tuple(ys.shape[1:])}, {"x": Spelling(1.0, -14, 4)})
        values.put("x", xs)
        node = Node(name="y", op=op, inputs=("x",), shape=tuple(ys.shape[1:]))
        Pool(node, CPU).run(Run(None, values, 0, 3, 2, {}, {}, None, Room()))  # type: ignore[arg-type]
        found = values.real("y").flatten(0, 1)
        assert torch.equal(found, ys) if op is largest else torch.allclose(found, ys, rtol=1e-6)


def test_a_maximum_of_the_mean_so_far_runs_by_reference():
    """In a converted network the maximum is a difference over time, with a memory."""
    net, x = converted("maximum", METHODS["binary"])
    layers = {layer.name: layer for layer in rb.compile(net, x).explain()}
    pools = [layers[node.name] for node in net.graph_nodes if isinstance(node.op, ops.Difference)]
    assert [layer.kernel for layer in pools] == ["reference", "reference"]
    assert {layer.declined["stage"] for layer in pools} == {"a maximum of sums over time, with a memory"}


class Lite(nn.Module):
    """Inverted residuals as in EfficientNet-Lite: of every stride and kernel, with and without a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        sizes = [(8, 8, 3, 1, 1), (8, 12, 3, 2, 6), (12, 12, 5, 1, 6), (12, 16, 5, 2, 4)]
        self.blocks = nn.Sequential(*(Block(*size, nn.ReLU6) for size in sizes))
        self.head = nn.Sequential(nn.Conv2d(16, 40, 1), nn.BatchNorm2d(40), nn.ReLU6())
        self.readout = nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.head(self.blocks(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize("made", [Lite, pytest.param(partial(EfficientNetLite, 5), marks=pytest.mark.slow)])
def test_an_efficientnet_lite_as_a_whole(made):
    """Every depthwise convolution reads letters and is a stage; PyTorch adds up the bottlenecks, here in one order."""
    torch.manual_seed(0)
    ann, x = made(), torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        ann.train()(x)
    net, _ = rb.convert(ann.eval(), rb.methods.best(4, 15), [x])
    fast = rb.compile(net, x[:2], steps=2)
    depthwise = [node for node in net.graph_nodes if isinstance(node.op, ops.Conv) and node.op.groups > 1]
    assert sum(layer.kernel == "depthwise" for layer in fast.explain()) == len(depthwise) > 0
    assert not any(isinstance(step.node.op, ops.Pad) and step.reads != ("input",) for step in fast.steps)
    assert all(layer.exact or layer.kernel == "reference" for layer in fast.explain())
    with torch.no_grad():
        (ys, state), (expected, other) = fast(rb.constant(x[:2], 4)), fast.net(rb.constant(x[:2], 4))
    assert torch.equal(ys, expected)
    same_state(state, other)


def test_without_the_kernels_all_runs_by_reference(monkeypatch):
    net, x = converted("residual", METHODS["binary"])
    monkeypatch.setattr(cpu, "MISSING", "not built")
    fast = rb.compile(net, x)
    assert {layer.kernel for layer in fast.explain()} == {"reference"}
    assert all(
        choice.declined["stage"] == "not built" for n, choice in kernels.explain(fast).items() if n in dict(net.sites())
    )
    assert torch.equal(fast(rb.constant(x, 3))[0], net(rb.constant(x, 3))[0])


def test_a_lowered_network_runs_by_reference():
    net, x = converted("layers", METHODS["burst"])
    lowered = rb.lower(net)
    fast = rb.compile(lowered, x, steps=2)
    assert {kernels.explain(fast)[name].kernel for name, _ in net.sites()} == {"reference"}
    assert torch.equal(fast(rb.constant(x, 6))[0], lowered(rb.constant(x, 6))[0])


def test_explain_and_print():
    net, x = converted("residual", METHODS["ternary"])
    fast = rb.compile(net, x)
    for layer in fast.explain():
        assert math.isnan(layer.rate) or 0 <= layer.rate <= 1
        assert ("int8" in layer.weights) == (layer.error > 0)
        assert layer.name in str(fast)
    last = fast.explain()[-3]
    assert last.weights == "int8 + int8"
    assert any("ms on the example" in why for why in last.declined.values())


def test_errors():
    net, x = converted("residual", METHODS["binary"])
    with pytest.raises(rb.SpecError, match="unknown precision 'int4'"):
        rb.compile(net, x, "int4")
    with pytest.raises(rb.InputError, match="the example input is"):
        rb.compile(net, x[:, :2])
    with pytest.raises(rb.InputError, match="float64"):
        rb.compile(net, x.double())
    fast = rb.compile(net, x)
    other, _ = converted("pools", METHODS["binary"])
    _, state = rb.compile(other, x)(rb.constant(x, 2))
    for each in (fast, net):
        with pytest.raises(rb.InputError, match="another network"):
            each(rb.constant(x, 2), state)
    with pytest.raises(rb.InputError, match="no time axis"):
        fast(x)
    with pytest.raises(rb.InputError, match=r"expected \[T, N"):
        list(fast.present(x[:0], 2))


@pytest.mark.slow
def test_a_published_network_keeps_its_accuracy_in_8_bits():
    """ResNet-20 of CIFAR-10, 1,000 test images, T = 8: within 0.3 points of float32."""
    try:
        (train, _), (x, y) = data.cifar10("train", limit=256), data.cifar10("test", limit=1000)
        weights = data.pretrained("cifar10_resnet20")
    except rb.FileError as error:
        pytest.skip(str(error))
    ann = cifar_resnet20()
    ann.load_state_dict(weights)
    snn, _ = rb.convert(ann.eval(), rb.methods.best(8, 1), list(train.split(128)))
    fast = rb.compile(snn, x[:8])
    assert all(layer.exact for layer in fast.explain())
    batches = list(zip(x.split(100), y.split(100), strict=True))
    accuracy = [rb.evaluate(net, batches, steps=8).accuracy[-1] for net in (fast, snn)]
    assert abs(accuracy[0] - accuracy[1]) <= 0.003


def test_a_compiled_network_is_neither_saved_nor_looked_into(tmp_path):
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(0))
    snn, _ = rb.convert(ann, rb.methods.opi(), [x])
    fast = rb.compile(snn, x)
    for refused in (
        lambda: rb.save(tmp_path / "fast.safetensors", fast),  # type: ignore[arg-type]
        lambda: rb.verify(fast, ann, [x]),  # type: ignore[arg-type]
        lambda: rb.diagnose(fast, ann, [x]),  # type: ignore[arg-type]
    ):
        with pytest.raises(rb.InputError, match=r"CompiledNet[\s\S]*fast\.net"):
            refused()
    assert not list(tmp_path.iterdir())
    with rb.kernels.use("reference"), pytest.raises(rb.KernelError, match=r"fast\.net"):
        fast(rb.constant(x, 8))
    rb.save(tmp_path / "net.safetensors", fast.net)
    again = rb.compile(rb.load(tmp_path / "net.safetensors"), x)
    xs = rb.constant(x, 8)
    assert torch.equal(again(xs)[0], fast(xs)[0])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@given(seed=st.integers(0, 10**6), method=st.sampled_from(sorted(METHODS)), steps=st.integers(1, 9))
def test_networks_at_random(precision, seed, method, steps):
    """Bit for bit up to the first layer that `explain` does not call exact, from there up to rounding."""
    ann, x = random_nets.made(seed)
    try:
        net, _ = rb.convert(ann, METHODS[method], [x])
    except rb.ConversionError:  # a layer that is dead on these images
        reject()
    fast = rb.compile(net, x, precision, steps=2)
    xs = torch.randn(steps, *x.shape)
    seen: list[dict[str, Tensor]] = [{}, {}]
    with torch.no_grad():
        for run, found in zip((fast, fast.net), seen, strict=True):
            run.run(xs, None, lambda visit, found=found: found.update({visit.node.name: visit.ys}))
    ours, theirs = seen
    bits = True
    for row in fast.explain():
        bits = bits and row.exact
        if bits:
            assert torch.equal(ours[row.name], theirs[row.name]), row.name
    ys, expected = ours[fast.net.output], theirs[fast.net.output]
    assert float((ys - expected).abs().median()) <= 1e-4 * float(expected.abs().max())  # rounding may move a spike


@pytest.mark.parametrize("window", range(1, 128))
def test_letters_are_the_same_as_floats_and_back(window):
    """As floats they are the sums of windows that a mean divides, whatever the window."""
    data = torch.arange(-127, 128, dtype=torch.int8).reshape(1, 1, 1, 1, -1)
    xs = Letters(data, 1 / window).real((255,))
    assert torch.equal(xs.flatten(), data.flatten().float() / window)
    assert torch.equal(Letters.of(xs, 1 / window).data, data)


def test_a_layer_behind_pooled_letters_that_pytorch_carried_on():
    """Windows of 7, and a slice that no stage takes: 7 times a seventh over a seventh is less than 7 in float32."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d((1, 7)), random_nets.EverySecond(), nn.Conv2d(8, 6, (2, 1))]
    ann, x = nn.Sequential(*body, nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).eval(), torch.randn(8, *SHAPE)
    nn.init.constant_(body[0].bias, 3.0)
    net, _ = rb.convert(ann, METHODS["burst"], [x])
    fast = rb.compile(net, x)
    kernels = {row.name: row.kernel for row in fast.explain()}
    assert kernels["2"] == "pool"
    assert kernels["3.getitem"] == "reference"
    with torch.no_grad():
        (ys, _), (expected, _) = fast(rb.constant(x, 8)), fast.net(rb.constant(x, 8))
    torch.testing.assert_close(ys, expected)


def test_what_pytorch_may_sum_in_another_order_is_not_called_exact():
    """A convolution with dilated rows, that no stage takes: it reads letters with their channels last."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5)]
    ann, x = nn.Sequential(*body).eval(), torch.randn(8, *SHAPE)
    fast = rb.compile(rb.convert(ann, rb.methods.opi(), [x])[0], x)
    exact = {row.name: (row.kernel, row.exact) for row in fast.explain()}
    assert exact["0"] == ("reference", True)
    assert exact["2"] == ("reference", False)
    assert "not exact" in str(fast)
