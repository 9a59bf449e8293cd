"""The C++ kernels do what the reference does: every rule, alphabet, layout, tail and instruction set."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import kernels, ops, testing
from rheobase.kernels import cpu, events, reference
from rheobase.membrane import Membrane, Tensors
from rheobase.neuron import Neuron

pytestmark = pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)
BEST = "plain" if cpu.MISSING else cpu.instruction_set()


def scanned(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None = None) -> tuple[Tensor, Membrane]:
    """The kernel with the signature of `scan`, in memory that reads NaN where it did not write."""
    assert not cpu.declines(neuron, tensors, xs)
    with testing.poisoned():
        (letters, amplitude), m = cpu.run(neuron, tensors, xs, m)
    return letters * amplitude, m


EXACT = {
    "binary": Neuron(),
    "gain": Neuron(threshold=rb.Fixed(0.5)),
    "burst": Neuron(alphabet=rb.burst(5)),
    "table": Neuron(alphabet=rb.Alphabet(levels=(0.5, 1.0, 4.0), heights=(0.5, 0.5, 3.0))),
    "hard reset": Neuron(reset=rb.ToValue(0.25), alphabet=rb.burst(2)),
    "leak": Neuron(leak=rb.Leak(0.5)),
    "ternary": Neuron(alphabet=rb.ternary),
    "signed, floor": Neuron(alphabet=rb.signed(3, floor=True)),
    "signed table": Neuron(alphabet=rb.Alphabet(levels=(0.5, 2.0), heights=(0.5, 2.0), signed=True)),
    "signed table, floor": Neuron(alphabet=rb.Alphabet(levels=(1.0, 2.0), heights=(1.0, 2.0), signed=True, floor=True)),
    "sent charge": Neuron(alphabet=rb.ternary, gate=rb.SentCharge()),
    "sent charge, floor": Neuron(alphabet=rb.signed(3, floor=True), gate=rb.SentCharge()),
    "sent charge, graded": Neuron(alphabet=rb.signed(2, floor=True), gate=rb.SentCharge(), threshold=rb.DTIF()),
    "confidence": Neuron(gate=rb.SpikeConfidence(steps=3)),
    "DTIF": Neuron(threshold=rb.DTIF(), alphabet=rb.burst(5)),
    "DTIF, ramp": Neuron(threshold=rb.DTIF(inverse=rb.Ramp(0.5)), alphabet=rb.burst(5)),
    "DTIF, not graded": Neuron(threshold=rb.DTIF(graded=False), alphabet=rb.burst(3)),
}
ROUNDED = {
    "MSAT": Neuron(threshold=rb.MSAT()),
    "MSAT, potential only": Neuron(threshold=rb.MSAT(tau_rd=0, alpha=0.3, k_i=2.0)),
    "MSAT, rate only": Neuron(threshold=rb.MSAT(tau_mp=0, C=3.0)),
    "MSAT, normalised": Neuron(threshold=rb.MSAT(normalised=True), alphabet=rb.burst(2)),
    "MSAT, guarded": Neuron(threshold=rb.MSAT(guard=0.3)),
    "DTIF, exponential": Neuron(threshold=rb.DTIF(inverse=rb.Exponential(2.0)), alphabet=rb.burst(5)),
}


def tensors(shape: tuple[int, ...], seed: int, per_neuron: bool) -> Tensors:
    theta0 = testing.dyadic(*(shape if per_neuron else ()), seed=seed, low=0.25, high=3.0)
    bias = testing.dyadic(2, *shape, seed=seed, low=-0.5, high=0.5) if seed % 2 else None
    return Tensors(theta0, theta0 / 2, torch.tensor(0.5), torch.tensor(seed), bias)


@pytest.mark.parametrize("name", EXACT)
@given(
    shape=st.sampled_from([(1,), (7,), (16,), (33,), (130,), (3, 5, 7), (16, 4, 4)]),
    batch=st.integers(1, 3),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1000),
    per_neuron=st.booleans(),
)
def test_bits_of_the_reference(name, shape, batch, steps, seed, per_neuron):
    neuron, t = EXACT[name], tensors(shape, seed, per_neuron)
    xs = testing.dyadic(steps, batch, *shape, seed=seed)
    got, memory = scanned(neuron, t, xs)
    expected, m = rb.scan(neuron, t, xs)
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)
    assert memory.t == m.t
    for ours, theirs in zip(memory.gate, m.gate, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", EXACT)
def test_every_instruction_set_gives_the_same_bits(name, instructions):
    neuron, t = EXACT[name], tensors((3, 7, 11), 3, True)
    xs = torch.randn(5, 2, 3, 7, 11, generator=torch.Generator().manual_seed(1))
    got, memory = scanned(neuron, t, xs)
    expected, m = rb.scan(neuron, t, xs)
    assert torch.equal(got, expected)
    assert torch.equal(memory.v, m.v)


@pytest.mark.parametrize("name", ROUNDED)
def test_rules_with_exp_differ_at_rounding_distance_only(name, instructions):
    """One step at a time from the reference's memory: thetas agree to 2e-6, letters unless u/theta is at a level."""
    neuron, t = ROUNDED[name], tensors((9, 13), 5, True)
    xs = 2 * torch.randn(12, 4, 9, 13, generator=torch.Generator().manual_seed(2))
    m, excused = None, 0
    for x in xs.unbind(0):
        before = rb.init(neuron, t, x) if m is None else m
        (a, theta), m = reference.run(neuron, t, x[None], before)
        (b, near), memory = cpu.run(neuron, t, x[None], before)
        assert torch.allclose(near, theta, rtol=2e-6, atol=1e-7)
        excused += testing.same_spikes(a, b, (before.v + x)[None] / theta, neuron.alphabet.levels, eps=1e-5)
        same = (a == b)[0]
        assert torch.allclose(memory.v[same], m.v[same], atol=1e-5)
        for got, expected in zip(memory.threshold, m.threshold, strict=True):
            assert torch.allclose(got[same], expected[same], atol=1e-5)
    assert excused <= 2


@pytest.mark.parametrize("exponent", [-126.0, -90.0, -30.0, -1.0, 0.0, 3.0, 90.0])
def test_exp_survives_its_ends(exponent, instructions):
    """Drives far out of range: theta saturates as the reference's does, without NaN."""
    neuron = Neuron(threshold=rb.MSAT(tau_mp=0))
    xs = torch.full((2, 1, 9), -5 * exponent)
    t = Tensors(torch.tensor(2.0), torch.tensor(0.0))
    (_, got), _ = cpu.run(neuron, t, xs, None)
    (_, expected), _ = reference.run(neuron, t, xs, None)
    assert torch.allclose(got, expected, rtol=1e-6)


def test_the_oracles_of_the_law(instructions):
    t, xs = Tensors(torch.tensor(0.75), torch.tensor(0.375)), testing.dyadic(9, 2, 37, seed=4)
    for name in ("binary", "burst", "table", "DTIF, ramp"):
        testing.carries_memory(EXACT[name], t, xs, [1, 4, 5], scanned)
    for name in ("binary", "burst", "table"):
        testing.conserves_charge(EXACT[name], t, xs, scanned)
        testing.keeps_scale(EXACT[name], t, xs, 4.0, scanned)
    testing.is_clip_floor_shift(Neuron(), t, testing.dyadic(2, 37, seed=5), 8, scanned)
    testing.only_stops_spikes(
        EXACT["confidence"], t._replace(confidence=torch.tensor(0.5), key=torch.tensor(1)), xs, scanned
    )
    testing.has_rheobase(EXACT["leak"], torch.tensor(1.0), scanned)


def test_layouts_and_constant_drives():
    """Channels last, time stride 0, per-channel thresholds, carried memory: all as the reference."""
    x = testing.dyadic(3, 5, 6, 7, seed=2).contiguous(memory_format=torch.channels_last)
    theta0 = testing.dyadic(5, 1, 1, seed=3, low=0.5, high=2.0)
    t, neuron = Tensors(theta0, theta0 / 2), Neuron(alphabet=rb.burst(3))
    for xs in (rb.constant(x, 4), x.unsqueeze(0), rb.constant(x.contiguous(), 4)):
        got, memory = scanned(neuron, t, xs)
        expected, m = rb.scan(neuron, t, xs)
        assert torch.equal(got, expected)
        more, again = scanned(neuron, t, xs, m)
        rest, end = rb.scan(neuron, t, xs, memory)
        assert torch.equal(more, rest)
        assert torch.equal(again.v, end.v)


def test_the_caller_keeps_its_memory():
    neuron, t, xs = Neuron(threshold=rb.MSAT()), Tensors(torch.tensor(1.0), torch.tensor(0.5)), torch.randn(3, 2, 20)
    _, m = scanned(neuron, t, xs)
    v, total = m.v.clone(), m.threshold[0].clone()
    scanned(neuron, t, xs, m)
    assert torch.equal(m.v, v)
    assert torch.equal(m.threshold[0], total)


CONVOLUTIONS = [
    # channels, outputs, kernel, stride, padding, dilation of rows, height, width
    (16, 16, (3, 3), (1, 1), (1, 1), 1, 9, 11),
    (16, 32, (3, 3), (2, 2), (1, 1), 1, 8, 8),
    (3, 10, (5, 3), (2, 1), (2, 0), 1, 9, 7),
    (33, 7, (1, 1), (1, 1), (0, 0), 1, 4, 5),
    (8, 64, (2, 4), (3, 3), (0, 2), 1, 10, 12),
    (5, 24, (3, 3), (1, 1), (2, 1), 2, 9, 6),
    (12, 48, (7, 7), (2, 2), (3, 3), 1, 14, 14),
    (4, 3, (1, 1), (2, 2), (0, 0), 1, 7, 7),
    (6, 200, (3, 3), (1, 2), (1, 1), 1, 5, 5),
    (4, 6, (1, 2), (1, 1), (1, 3), 1, 3, 3),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("with_bias", [True, False])
def test_convolution_of_events(case, density, with_bias, instructions):
    channels, outputs, kernel, stride, padding, dilation, height, width = case
    torch.manual_seed(7)
    x = (torch.rand(3, channels, height, width) < density) * torch.randint(-2, 4, (3, channels, height, width)) / 2
    weight, bias = torch.randn(outputs, channels, *kernel), torch.randn(outputs) if with_bias else None
    with testing.poisoned():
        y = events.convolve(x, weight, bias, stride, padding, (dilation, 1))
    exact = F.conv2d(
        x.double(), weight.double(), None if bias is None else bias.double(), stride, padding, (dilation, 1)
    )
    assert y.shape == exact.shape
    assert float((y - exact).abs().max()) <= 2e-6 * float(
        F.conv2d(x.double().abs(), weight.double().abs(), None, stride, padding, (dilation, 1)).max() + 1
    )
    for k in range(3):  # a sample's answer does not depend on the batch
        assert torch.equal(events.convolve(x[k : k + 1], weight, bias, stride, padding, (dilation, 1))[0], y[k])


def test_convolution_of_dyadic_events_is_exact():
    x = testing.dyadic(2, 16, 8, 8, seed=1) * (testing.dyadic(2, 16, 8, 8, seed=2) > 1.5)
    weight = testing.dyadic(16, 16, 3, 3, seed=3)
    assert torch.equal(events.convolve(x, weight, None, (1, 1), (1, 1), (1, 1)), F.conv2d(x, weight, None, 1, 1))


LEARNED = [
    # channels, outputs, kernel, padding, dilation of rows, height, width
    (16, 16, (3, 3), (1, 1), 1, 9, 11),
    (40, 70, (3, 3), (0, 0), 1, 6, 6),
    (5, 24, (3, 3), (2, 1), 2, 9, 6),
    (3, 9, (3, 3), (4, 5), 1, 4, 3),
    (33, 70, (1, 1), (0, 0), 1, 4, 5),
    (3, 10, (5, 3), (2, 0), 1, 9, 7),
    (8, 20, (2, 4), (0, 2), 1, 10, 12),
    (4, 30, (5, 5), (2, 2), 1, 9, 8),
    (2, 12, (3, 7), (1, 3), 1, 8, 9),
]


@pytest.mark.parametrize("case", LEARNED, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 1.0])
def test_the_gradient_of_a_convolution_of_events(case, density, instructions):
    channels, outputs, kernel, padding, dilation, height, width = case
    torch.manual_seed(3)
    x = (torch.rand(11, channels, height, width) < density) * torch.randint(-2, 4, (11, channels, height, width)) / 2
    given = x, torch.randn(outputs, channels, *kernel), torch.randn(outputs)

    def learned(convolve: Any, dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
        parts = [p.to(dtype).requires_grad_(True) for p in given]
        parts[:2] = (p.detach().contiguous(memory_format=layout).requires_grad_(True) for p in parts[:2])
        y = convolve(*parts, (1, 1), padding, (dilation, 1))
        slope = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).sin().to(dtype).view(y.shape)
        by_events = y.grad_fn.name() == "_LearnedBackward"
        assert by_events if dtype == torch.float32 and density <= 0.2 else not (by_events and density == 1)
        return [y.detach(), *torch.autograd.grad((y * slope).sum(), parts)]

    exact = learned(F.conv2d, torch.float64, torch.contiguous_format)
    for layout in (torch.contiguous_format, torch.channels_last):
        with testing.poisoned():
            found = learned(events.convolve, torch.float32, layout)
        for a, b in zip(found, exact, strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max()) <= 2e-5 * float(b.abs().max() + 1)


def test_the_gradient_of_a_convolution_of_dyadic_events_is_exact():
    x = testing.dyadic(9, 16, 8, 8, seed=1) * (testing.dyadic(9, 16, 8, 8, seed=2) > 1.5)
    x = x.contiguous(memory_format=torch.channels_last)
    weight, slope = testing.dyadic(16, 16, 3, 3, seed=3).requires_grad_(True), testing.dyadic(9, 16, 8, 8, seed=4)
    dense, sparse = (
        torch.autograd.grad((f(x, weight, None, (1, 1), (1, 1), (1, 1)) * slope).sum(), weight)[0]
        for f in (F.conv2d, events.convolve)
    )
    assert torch.equal(sparse, dense)


def test_the_gradient_does_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    x, weight = (torch.rand(20, 24, 9, 9) < 0.3).float(), torch.randn(40, 24, 3, 3, requires_grad=True)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = events.convolve(x, weight, None, (1, 1), (1, 1), (1, 1))
            found.append(torch.autograd.grad(y.square().sum(), weight)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("density", [0.2, 0.5])
def test_only_what_wants_a_gradient_gets_one(density):
    x = (torch.rand(4, 6, 5, 5, generator=torch.Generator().manual_seed(0)) < density).float()
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(64, 6, 3, 3), torch.randn(64)
    sizes = (1, 1), (1, 1), (1, 1)
    y = events.convolve(x, weight.requires_grad_(True), bias, *sizes)
    y.sum().backward()
    assert [part.grad is not None for part in (x, weight, bias)] == [False, True, False]
    y = events.convolve(x.requires_grad_(True), weight.detach(), bias.requires_grad_(True), *sizes)
    y.sum().backward()
    assert x.grad is not None
    assert bias.grad is not None
    assert torch.equal(bias.grad, torch.full((64,), 100.0))
    alone = bias.detach().requires_grad_(True)
    events.convolve(x.detach(), weight.detach(), alone, *sizes).sum().backward()
    assert alone.grad is not None
    assert torch.equal(alone.grad, bias.grad)
    (slope,) = torch.autograd.grad(events.convolve(x, weight, None, *sizes).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def test_what_no_gradient_by_events_is_made_for_stays_dense():
    x, weight = torch.rand(1, 2, 9, 9), torch.randn(3, 2, 3, 3, requires_grad=True)
    assert events.convolves(x, weight, None, (1, 1), (1, 1), 1)
    assert not events.convolves(x, weight, None, (2, 2), (1, 1), 1)
    assert not events.convolves(x, torch.randn(3, 2, 3, 9, requires_grad=True), None, (1, 1), (1, 1), 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert not events.convolves(x, weight, None, (1, 1), (1, 1), 1)
    with torch.no_grad():
        assert events.convolves(x, weight, None, (2, 2), (1, 1), 1)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_network_learns_on_events_what_it_learns_without(rate):
    """Six steps of SGD by each; in float32 only sums round otherwise."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 8, 3), rb.MultiThresholdLIF(levels=2), nn.AvgPool2d(2), nn.Conv2d(8, 12, 3, padding=1),
        rb.MultiThresholdLIF(levels=2), nn.Flatten(), nn.Linear(108, 3),
    )  # fmt: skip
    x, y = (torch.rand(10, 1, 8, 8) < rate).float() * 3, torch.arange(10) % 3

    def learned(kernel: str) -> list[Tensor]:
        net = rb.spiking(copy.deepcopy(ann), x)
        net.train()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        with kernels.use(kernel):
            for _ in range(6):
                optimiser.zero_grad()
                F.cross_entropy(net(rb.constant(x, steps=3))[0][-1], y).backward()
                optimiser.step()
        return [p.detach() for p in net.parameters()]

    for a, b in zip(learned("cpu"), learned("reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (3, 0)])
def test_convolution_of_events_in_time_is_exact(stride, padding):
    conv = ops.Conv(stride=(stride,), padding=(padding,), dilation=(1,))
    x = testing.dyadic(2, 16, 19, seed=1) * (testing.dyadic(2, 16, 19, seed=2) > 1.5)
    weights = {"weight": testing.dyadic(8, 16, 5, seed=3), "bias": testing.dyadic(8, seed=4)}
    assert events.convolves(x, weights["weight"], None, conv.stride, conv.dilation, conv.groups)
    assert torch.equal(conv.on_events(weights, x), conv(weights, x))


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("float32", {"xs": torch.zeros(2, 1, 4, dtype=torch.float64)}),
        ("gradient", {"xs": torch.zeros(2, 1, 4, requires_grad=True)}),
        ("dense", {"xs": torch.zeros(2, 1, 8)[..., ::2]}),
        ("sample to sample", {"t": Tensors(torch.ones(3, 4), torch.zeros(3, 4)), "xs": torch.zeros(2, 3, 4)}),
    ],
)
def test_what_is_declined_runs_by_the_reference(why, change):
    neuron, t, xs = Neuron(), change.get("t", Tensors(torch.tensor(1.0), torch.tensor(0.5))), change["xs"]
    assert why in cpu.declines(neuron, t, xs)
    assert kernels.choose(neuron, t, xs).name == "reference"


def test_unknown_parts_are_declined():
    class Own:
        graded = False

    neuron: Any = Neuron(threshold=Own())  # type: ignore[arg-type]
    assert cpu.declines(neuron) == "it knows no Own threshold"


def small_net() -> tuple[rb.SpikingNet, Tensor]:
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    ann = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(128, 5)).eval()
    x = torch.randn(6, 3, 4, 4)
    return rb.convert(ann, rb.methods.opi(), [x])[0], x


def test_explain_names_the_kernel_and_the_reasons(monkeypatch):
    net, x = small_net()
    with torch.inference_mode():
        assert {choice.kernel for choice in kernels.explain(net, x).values()} == {"cpu"}
    answers = kernels.explain(net, x)  # with gradients
    assert {choice.kernel for choice in answers.values()} == {"reference"}
    assert all("gradient" in choice.declined["cpu"] for choice in answers.values())
    monkeypatch.setattr(cpu, "MISSING", "not built")
    without = kernels.explain(net)["1"]
    assert without.kernel == "reference"
    assert without.declined["cpu"] == "not built"
    assert "asked for" in without.declined["compiled"]


def test_a_network_runs_the_same_without_the_kernels(monkeypatch):
    net, x = small_net()
    with torch.inference_mode():
        fast, _ = net(rb.constant(x, 16))
        curve = rb.evaluate(net, [(x, torch.arange(6) % 5)], 16)
        monkeypatch.setattr(cpu, "MISSING", "not built")
        slow, _ = net(rb.constant(x, 16))
        plain = rb.evaluate(net, [(x, torch.arange(6) % 5)], 16)
    assert torch.allclose(fast, slow, atol=1e-5)
    assert (curve.spikes == plain.spikes).all()
    assert curve.provenance["kernels"] == f"cpu ({BEST})"
    assert plain.provenance["kernels"] == "reference"
