"""Signed letters, the charge they take back, and the corrections of the drive: laws of `methods.md`, able to fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import ops, testing
from rheobase.fold import fold_batchnorm
from rheobase.gate import SentCharge
from rheobase.graph import Node
from rheobase.histogram import Histogram
from rheobase.membrane import Membrane, Tensors
from rheobase.neuron import Neuron, scan
from rheobase.state import Visit
from rheobase.trace import trace

seeds, steps = st.integers(0, 10_000), st.integers(1, 12)
SIGNED = {
    "ternary": Neuron(alphabet=rb.ternary, gate=rb.SentCharge()),
    "ternary, floor": Neuron(alphabet=rb.signed(1, floor=True), gate=rb.SentCharge()),
    "signed(3), floor": Neuron(alphabet=rb.signed(3, floor=True), gate=rb.SentCharge()),
    "graded": Neuron(alphabet=rb.signed(2, floor=True), gate=rb.SentCharge(), threshold=rb.DTIF()),
}


def parts(seed: int, bias: bool = False) -> Tensors:
    theta0 = testing.dyadic(7, seed=seed, low=0.25, high=2.0)
    return Tensors(theta0, theta0 / 2, bias=testing.dyadic(3, 7, seed=seed + 1) if bias else None)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1), st.integers(1, 5))
def test_mirrored_letters_are_odd_and_floored_ones_are_the_floor(r, k):
    r = torch.tensor(r)
    assert torch.equal(rb.signed(k).fire(-r), -rb.signed(k).fire(r))
    assert torch.equal(rb.signed(k, floor=True).fire(r), r.floor().clamp(-k, k))
    table = rb.Alphabet(levels=(0.5, 2.0), heights=(1.0, 0.5), signed=True)
    assert torch.equal(table.fire(-r), -table.fire(r))


@given(st.floats(-3, 3, width=32))
def test_a_floored_table_takes_back_the_least_that_is_enough(r):
    table = rb.Alphabet(levels=(1.0, 2.0), heights=(1.0, 2.0), signed=True, floor=True)
    letter = float(table.fire(torch.tensor([r])))
    if r < 0:
        assert -letter >= -r or letter == -3
        assert letter == {True: -1.0, False: -3.0}[-r <= 1]


def test_digits_are_a_burst():
    assert [rb.digits(n) for n in (1, 2, 4)] == [rb.binary, rb.burst(3), rb.burst(15)]


@given(seeds, steps)
def test_l5_the_sum_sent_is_the_clipped_floor_of_all_charge_whatever_the_order(seed, t):
    """With letters enough and the floor: after every step sum s = max(0, floor((sum x + v0) / theta)), exactly."""
    neuron, tensors = Neuron(alphabet=rb.signed(512, floor=True), gate=rb.SentCharge()), parts(seed)
    tensors = tensors._replace(theta0=torch.tensor(0.5), v0=torch.tensor(0.25))
    xs = testing.dyadic(t, 2, 7, seed=seed)
    check_l5(neuron, tensors, xs)


def check_l5(neuron: Neuron, tensors: Tensors, xs: Tensor) -> None:
    ys, _ = scan(neuron, tensors, xs)
    charge = xs.cumsum(0) + tensors.v0
    assert torch.equal(ys.cumsum(0) / tensors.theta0, (charge / tensors.theta0).floor().clamp(min=0))


@pytest.mark.parametrize(
    "wrong",
    [
        Neuron(alphabet=rb.signed(512), gate=rb.SentCharge()),  # mirrored: one letter too many may stay out
        Neuron(alphabet=rb.burst(512)),  # nothing comes back
        Neuron(alphabet=rb.signed(512, floor=True)),  # more comes back than was sent
    ],
    ids=str,
)
def test_l5_catches_other_neurons(wrong):
    tensors = Tensors(torch.tensor(0.5), torch.tensor(0.25))
    with pytest.raises(AssertionError):
        check_l5(wrong, tensors, testing.dyadic(12, 2, 7, seed=3))


@pytest.mark.parametrize("name", SIGNED)
@given(seeds, steps)
def test_the_laws_hold_with_signs_and_bias(name, seed, t):
    neuron, tensors, xs = SIGNED[name], parts(seed), testing.dyadic(t + 2, 2, 7, seed=seed)
    ys, m = scan(neuron, tensors, xs)
    assert (ys.cumsum(0) >= -1e-5).all()
    if name != "graded":
        testing.conserves_charge(neuron, tensors, xs)
        assert torch.equal(m.gate[0] * tensors.theta0, ys.sum(0))
    testing.carries_memory(neuron, parts(seed, bias=True), xs, [1, t + 1])


class Forgetful(SentCharge):
    """A gate that believes it sent twice what it did."""

    def remember(self, memory: tuple[Tensor, ...], left: Tensor) -> tuple[Tensor, ...]:
        return (memory[0] + 2 * left,)


def test_a_gate_that_counts_wrong_sends_less_than_nothing():
    neuron = Neuron(alphabet=rb.signed(3, floor=True), gate=Forgetful())
    ys, _ = scan(neuron, parts(1), testing.dyadic(20, 2, 7, seed=1))
    assert (ys.cumsum(0) < 0).any()


def test_bias_acts_in_its_steps_and_no_longer():
    tensors, xs = parts(3, bias=True), testing.dyadic(6, 2, 7, seed=4)
    assert tensors.bias is not None
    added = torch.cat([tensors.bias[:, None].expand(3, 2, 7), torch.zeros(3, 2, 7)])
    ys, _ = scan(Neuron(), tensors, xs)
    assert torch.equal(ys, scan(Neuron(), tensors._replace(bias=None), xs + added)[0])
    m: Membrane | None = None
    for t, x in enumerate(xs):
        m = rb.init(Neuron(), tensors, x) if m is None else m
        y, m = rb.step(Neuron(), tensors, x, m)
        assert torch.equal(y, ys[t])


@pytest.mark.parametrize("levels", [1, 3, 12])
def test_min_mse_is_the_threshold_of_least_squared_error(levels):
    values = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)).relu() * torch.tensor([[1.0], [5.0]])
    histogram = Histogram(2)
    for piece in values.split(1234, 1):
        histogram.add(piece)
    theta0 = rb.MinMSE(levels).fit(histogram, None, 0, 1.0)

    def error(top: Tensor) -> Tensor:
        rounded = (values * levels / top + 0.5).floor().clamp(0, levels) * top / levels
        return (rounded - values).square().mean(1)

    found = error(theta0.float()[:, None])
    for share in torch.linspace(0.05, 1, 40):
        assert (found <= error(values.amax(1, keepdim=True) * share) * 1.05).all()
    assert torch.equal(rb.MinMSE(levels).fit(histogram, None, 0, 4.0) * 4, theta0)
    if levels == 12:
        weak = error(values.amax(1, keepdim=True))
        assert (found < weak).all()


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 5)).eval()
    return net, torch.randn(40, 3, 8, 8)


def relative(y: Tensor, answer: Tensor) -> float:
    return float((y - answer).detach().abs().mean() / answer.detach().abs().mean())


def mean_error(net: nn.Module, snn: rb.SpikingNet, x: Tensor, t: int) -> float:
    """The largest difference of a channel's mean emission over t steps and its mean activation, in the layer's mean."""
    sent: dict[str, Tensor] = {}
    mean: dict[str, Tensor] = {}

    def see(seen: Visit) -> None:
        if seen.emission is not None:
            sent[seen.node.name] = (seen.emission.letters * seen.emission.amplitude).mean((0, 1, 3, 4))

    def see_ann(node: Node, xs: list[Tensor], y: Tensor) -> None:
        if isinstance(node.op, ops.Rectify):
            mean[node.name] = y.mean((0, 2, 3))

    with torch.no_grad():
        fold_batchnorm(trace(net, x))(x, see_ann)
        snn.run(rb.constant(x, t), None, see)
    return max(float((sent[name] - mean[name]).abs().max() / mean[name].mean()) for name in mean)


@pytest.mark.parametrize("correction", [rb.StepBias(4), rb.ChannelBias(4)], ids=str)
@pytest.mark.parametrize("letters", [1, 3])
def test_corrections_make_the_mean_of_what_leaves_right(correction, letters):
    net, x = network()
    method = rb.Method(
        scale=rb.MinMSE(4 * letters), initial=rb.Half(), alphabet=rb.signed(letters, floor=True), gate=rb.SentCharge()
    )
    plain, _ = rb.convert(net, method, [x[:25], x[25:]])
    corrected, _ = rb.convert(net, replace(method, correction=correction), [x[:25], x[25:]])
    assert mean_error(net, corrected, x, 4) < 0.03 < mean_error(net, plain, x, 4)


@pytest.mark.parametrize("correction", [rb.StepBias(4), rb.ChannelBias(4)], ids=str)
def test_a_corrected_network_still_reaches_its_ann(correction):
    net, x = network()
    snn, _ = rb.convert(net, rb.Method(scale=rb.Max(channelwise=True), correction=correction), [x])
    ys, _ = snn(rb.constant(x, 1024))
    assert relative(ys[-1], net(x)) < 0.02
    assert relative(ys[-1], net(x)) < relative(ys[63], net(x)) / 8


def test_best_is_saved_with_its_corrections(tmp_path):
    net, x = network()
    snn, _ = rb.convert(net, rb.methods.best(steps=3, letters=3), [x])
    rb.save(tmp_path / "snn.safetensors", snn)
    again = rb.load(tmp_path / "snn.safetensors")
    assert torch.equal(again(rb.constant(x, 5))[0], snn(rb.constant(x, 5))[0])


def test_the_ledger_counts_negative_letters_as_letters():
    net, x = network()
    snn, _ = rb.convert(net, rb.methods.snm(), [x])
    sent = 0.0

    def see(seen: Visit) -> None:
        nonlocal sent
        sent += float(seen.emission.letters.abs().sum()) if seen.emission is not None else 0.0

    with torch.no_grad():
        snn.run(rb.constant(x, 20), None, see)
    curve = rb.evaluate(snn, [(x, torch.zeros(40, dtype=torch.long))], 20)
    assert curve.spikes[-1] * 40 == pytest.approx(sent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphabet": rb.ternary}, "gate=SentCharge"),
        ({"gate": rb.SentCharge()}, "signed"),
        (
            {"alphabet": rb.Alphabet(levels=(1.0, 2.0), heights=(1.0, 2.0), signed=True), "gate": rb.SentCharge()},
            "evenly spaced",
        ),
    ],
)
def test_combinations_that_make_no_rectifier_are_refused(change, message):
    net, x = network()
    with pytest.raises(rb.RheobaseError, match=message):
        rb.convert(net, rb.Method(**change), [x])
    for nonsense in (rb.StepBias, rb.ChannelBias, rb.NeuronStart, rb.MinMSE):
        with pytest.raises(rb.SpecError):
            nonsense(0)
