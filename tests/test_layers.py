"""The neurons of direct training: what MT-LIF, MT-SNN and their relatives promise, and that wrong ones are caught."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import rheobase as rb
from rheobase import Decay, Leak, LearnedDecay, Neuron, Subtract, Tensors, ToValue, burst
from rheobase.cite import cited_in
from rheobase.testing import Run, carries_memory, conserves_charge, dyadic, has_rheobase, is_same_neuron

seeds = st.integers(0, 2**20)
RESETS = [Subtract(), Subtract(detach=True), ToValue(0.0), ToValue(0.0, at="full")]


def of(layer: rb.Population) -> tuple[Neuron, Tensors]:
    """Neuron and tensors of a layer, without a gradient."""
    held = layer.tensors
    leak = None if held.leak is None else held.leak.detach()
    return layer.neuron, Tensors(held.theta0.detach(), held.v0, leak=leak)


def ran(layer: torch.nn.Module, xs: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(xs)[0]


# One threshold is the base neuron


@given(seeds)
@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("leak", [Leak(), Leak(0.5), Decay(2.0), LearnedDecay(2.0)], ids=str)
def test_one_level_is_the_base_neuron_in_every_mode(leak, reset, seed):
    xs = dyadic(8, 30, seed=seed, low=-1, high=3)
    base = rb.LIF(leak=leak, reset=reset)
    for mode in ("parallel", "cascade") if getattr(reset, "at", "first") == "first" else ("parallel",):
        layer = rb.MultiThresholdLIF(1, leak=leak, mode=mode, reset=reset)
        is_same_neuron(layer.neuron, base.neuron, of(base)[1], xs)
        assert torch.equal(ran(layer, xs), ran(base, xs))
    if isinstance(leak, Leak):
        assert torch.equal(ran(rb.MultiThresholdLIF.mt_lif(1, leak=leak.beta, reset=reset), xs), ran(base, xs))


@given(seeds)
def test_a_learned_leak_begins_as_its_decay_and_a_decay_of_one_step_has_no_memory(seed):
    xs = dyadic(8, 30, seed=seed, high=4)
    assert torch.equal(ran(rb.PLIF(tau=2.0), xs), ran(rb.LIF(leak=Decay(2.0)), xs))
    flat = xs.reshape(1, -1)
    assert torch.equal(ran(rb.LIF(leak=Decay(1.0)), xs), ran(rb.IF(), flat).reshape(8, 30))
    assert torch.equal(ran(rb.MultiThresholdLIF.mt_lif(3, leak=0.0), xs), (xs.floor()).clamp(0, 3))


# MT-LIF, algorithms.md 5.7 and 5.6


@given(seeds, st.integers(1, 6), st.integers(1, 20))
def test_constant_drive_gives_the_count_of_the_theorem(seed, k, steps):
    x = dyadic(40, seed=seed, low=0, high=k).reshape(1, -1)
    ys = ran(rb.MultiThresholdLIF.mt_lif(k, leak=1.0), rb.constant(x, steps))
    assert torch.equal(ys.sum(0), torch.floor(steps * x).clamp(0, k * steps))


@given(seeds, st.integers(1, 6))
def test_a_step_is_as_many_steps_of_the_if_neuron_on_a_share_of_the_drive(seed, levels):
    """The lemma of LM-HT, 5.2 and 6.7.7: from v in [0, V) without a leak."""
    x = dyadic(50, seed=seed, low=-1, high=levels + 2).reshape(1, -1).double() * 60  # so that shares do not round
    v0 = dyadic(50, seed=seed + 1, low=0, high=63 / 64).reshape(1, -1).double() * 60
    one = Tensors(torch.tensor(60.0, dtype=torch.float64), v0)
    s, _ = rb.scan(rb.LMHT(levels).neuron, one, x[None])
    shares, _ = rb.scan(Neuron(), one, rb.constant(x / levels, levels))
    assert torch.equal(s[0], shares.sum(0))


@given(seeds, st.integers(2, 6))
def test_the_letter_is_the_sum_of_nested_maps(seed, k):
    r = dyadic(200, seed=seed, low=-2, high=k + 2)
    maps = burst(k).comparators(r)
    assert torch.equal(maps.sum(0), burst(k).fire(r))
    assert (maps[:-1] >= maps[1:]).all()


def test_charge_above_all_levels_fires_again_unless_the_reset_is_hard():
    xs = torch.tensor([[9.0], [0.0], [0.0]])
    assert ran(rb.MultiThresholdLIF.mt_lif(4, leak=1.0), xs).flatten().tolist() == [4.0, 4.0, 1.0]
    hard = rb.MultiThresholdLIF.mt_lif(4, leak=1.0, reset=ToValue(0.0))
    assert ran(hard, xs).flatten().tolist() == [4.0, 0.0, 0.0]


def test_a_hard_reset_at_the_full_threshold_leaves_smaller_letters_their_charge():
    layer = rb.MultiThresholdLIF(4, reset=ToValue(0.0, at="full"))
    ys, memory = layer(torch.tensor([[[0.5, 1.0, 1.75]]]))
    assert ys.flatten().tolist() == [0.5, 1.0, 1.0]
    assert memory.v.flatten().tolist() == [0.5, 0.0, 0.0]


def test_a_hard_cascade_is_emptied_by_the_first_comparator_that_fires():
    xs = dyadic(6, 80, seed=2, low=0, high=2)
    for ladder, levels in (("equal", 4), ("binary", 3)):
        parts = [1 / levels] * levels if ladder == "equal" else [2.0**-i for i in range(1, levels + 1)]
        left, expected = torch.zeros(80), []
        for x in xs:
            left, y = left + x, torch.zeros(80)
            for part in parts:
                s = (left >= part).float()
                y, left = y + part * s, left * (1 - s)
            expected.append(y)
        layer = rb.MultiThresholdLIF(levels, mode="cascade", ladder=ladder, reset=ToValue(0.0))
        assert torch.equal(ran(layer, xs), torch.stack(expected))


# MT-SNN, algorithms.md 6.7 and 6.6


@given(seeds, st.integers(1, 5).map(lambda i: 2**i))
def test_the_first_step_is_the_quantiser(seed, n):
    x = dyadic(1, 300, seed=seed, low=-1, high=2)
    assert torch.equal(ran(rb.MultiThresholdLIF(n), x), torch.floor(x * n).clamp(0, n) / n)
    rounded = ran(rb.MultiThresholdLIF(n, start=0.5 / n), x)
    assert torch.equal(rounded, torch.floor(x * n + 0.5).clamp(0, n) / n)
    within = (x >= 0) & (x <= 1)
    assert ((rounded - x).abs()[within] <= 0.5 / n).all()
    if n >= 2:
        qcfs = rb.QCFS(levels=n, bound=1.0).double()
        torch.testing.assert_close(rounded.double(), qcfs(x.double()).detach(), atol=1e-6, rtol=0)


LAYERS = {
    "parallel": rb.MultiThresholdLIF(4),
    "cascade": rb.MultiThresholdLIF(4, mode="cascade"),
    "digits": rb.MultiThresholdLIF(3, mode="cascade", ladder="binary"),
    "powers": rb.MultiThresholdLIF(3, ladder="binary"),
    "ilif": rb.ILIF(4, leak=1.0),
    "lmht": rb.LMHT(2),
}


@given(seeds)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_what_leaves_is_what_the_reset_takes(layer, seed):
    conserves_charge(*of(layer), dyadic(12, 30, seed=seed, high=3))
    carries_memory(*of(layer), dyadic(12, 30, seed=seed), [1, 5, 6])


def test_a_convolution_of_the_sum_is_the_sum_of_convolutions_of_binary_maps():
    """6.7.8: what an accelerator without multipliers computes."""
    x, weight = dyadic(2, 3, 8, 8, seed=4, low=0, high=1), dyadic(4, 3, 3, 3, seed=5)
    for layer in (rb.MultiThresholdLIF(4), rb.MultiThresholdLIF(3, mode="cascade", ladder="binary")):
        alphabet, theta = layer.neuron.alphabet, layer.theta0
        maps = alphabet.comparators(x / theta)
        parts = [F.conv2d(c * theta * s, weight) for c, s in zip(alphabet.heights, maps, strict=True)]
        assert torch.equal(F.conv2d(layer.first(x), weight), torch.stack(parts).sum(0))


def test_ties_at_a_level_fire_and_below_zero_nothing_does():
    layer = rb.MultiThresholdLIF(4)
    assert ran(layer, torch.tensor([[0.25, 0.5, 0.75, 1.0, -3.0, 0.2499]])).tolist() == [[0.25, 0.5, 0.75, 1.0, 0, 0]]


# Oracle 9


@pytest.mark.parametrize(
    "leak", [Leak(0.5), Decay(2.0), Decay(5.0, rest=0.125), LearnedDecay(3.0), LearnedDecay(2.0, rest=-0.5)], ids=str
)
def test_a_leaky_neuron_has_its_rheobase(leak):
    for alphabet in (rb.binary, burst(3), rb.parallel(3, "binary")):
        has_rheobase(Neuron(leak=leak, alphabet=alphabet), torch.tensor([0.75, 2.0], dtype=torch.float64))


# Relatives


def test_multi_level_firing_is_the_sum_of_neurons_of_their_own():
    xs = dyadic(6, 50, seed=6, low=-1, high=3)
    total = torch.zeros(6, 50)
    for threshold in (0.6, 1.6, 2.6):
        u = torch.zeros(50)
        for t, x in enumerate(xs):
            u = 0.25 * u + x
            s = (u / threshold >= 1).float()
            total[t] += s
            u = u * (1 - s)
    assert torch.equal(ran(rb.MLF(), xs), total)
    x = (4 * torch.rand(1, 500, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    rb.MLF()(x)[0].sum().backward()
    windows = sum(((x - v >= -0.5) & (x - v < 0.5)).float() for v in (0.6, 1.6, 2.6))
    assert x.grad is not None
    assert (x.grad - windows).abs().mean() < 0.01  # but for values at an edge of a window


@given(seeds)
def test_integers_of_ilif_are_what_rounding_makes_of_the_potential(seed):
    xs, u = dyadic(6, 50, seed=seed, low=-1, high=6), torch.zeros(50)
    ys = ran(rb.ILIF(4), xs)
    for x, y in zip(xs, ys, strict=True):
        u = 0.25 * u + x
        assert torch.equal(y, torch.floor(u + 0.5).clamp(0, 4))
        u = u - y


def test_ternary_spikes_learn_their_amplitude():
    layer = rb.TernarySpike(amplitude=0.5)
    xs = dyadic(4, 50, seed=3, low=-3, high=3)
    ys, _ = layer(xs)
    assert set(ys.unique().tolist()) == {-0.5, 0.0, 0.5}
    ys.square().sum().backward()
    assert layer.amplitude.grad is not None
    assert layer.amplitude.grad.item() == pytest.approx(2 * 0.5 * float((ys != 0).sum()))


# Oracles can fail


def wrongly(change: Any) -> Run:
    """The run of another neuron under the name of this one."""
    return lambda neuron, tensors, xs, m: rb.scan(change(neuron), tensors, xs, m)


@pytest.mark.parametrize(
    ("oracle", "change"),
    [
        (conserves_charge, lambda n: replace(n, reset=ToValue(0.0))),
        (conserves_charge, lambda n: replace(n, leak=Decay(2.0))),
        (has_rheobase, lambda n: replace(n, leak=Leak(0.5))),
        (has_rheobase, lambda n: replace(n, leak=Decay(2.0, rest=0.1))),
    ],
)
def test_a_wrong_neuron_is_caught(oracle, change):
    known: dict[Any, tuple[Any, ...]] = {
        has_rheobase: (Neuron(leak=Decay(2.0)), torch.tensor([0.75])),
        conserves_charge: (*of(LAYERS["parallel"]), dyadic(12, 30, seed=3, high=3)),
    }
    with pytest.raises(AssertionError):
        oracle(*known[oracle], wrongly(change))


@pytest.mark.parametrize("name", rb.methods.DIRECT)
def test_a_named_method_of_training_round_trips_cites_and_trains(name):
    method = rb.methods.named(name)
    assert rb.from_json(rb.to_json(method)) == method
    assert eval(repr(method), dict(vars(rb))) == method
    own = rb.methods.DIRECT[name].__doc__ or ""
    assert all(key in rb.cite(name) for key in cited_in(own))
    assert cited_in(own)
    xs = dyadic(4, 30, seed=1, low=-2, high=4).requires_grad_(True)
    rb.Population(method.neuron)(xs)[0].sum().backward()
    assert xs.grad is not None
    assert xs.grad.abs().sum() > 0


def test_layers_are_the_neurons_of_their_methods():
    named = rb.methods
    pairs: list[tuple[Any, Any]] = [
        (rb.MultiThresholdLIF.mt_lif(3), named.mt_lif(3)),
        (rb.LMHT(2), named.lm_ht(2)),
        (rb.ILIF(4), named.i_lif(4)),
        (rb.LIF(surrogate=rb.Rectangular()), named.lif()),
        (rb.PLIF(reset=Subtract(detach=True)), named.plif()),
        (rb.TernarySpike().spikes, named.ternary_spike()),
    ]
    for mode, ladder in itertools.product(("parallel", "cascade"), ("equal", "binary")):
        layer = rb.MultiThresholdLIF(
            3, leak=LearnedDecay(), mode=mode, ladder=ladder, surrogate=rb.ATan(), reset=Subtract(detach=True)
        )
        pairs.append((layer, named.mt_snn(3, mode, ladder)))
    for layer, method in pairs:
        assert layer.neuron == method.neuron


def test_a_network_that_leaks_is_trained_and_not_converted():
    ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    for method in (rb.methods.mt_lif(), rb.methods.mt_snn(), rb.methods.plif()):
        with pytest.raises(rb.ConversionError, match="train leaky networks directly"):
            rb.convert(ann, method, [torch.rand(8, 4)])


def test_specs_of_training_round_trip_through_json():
    for neuron in (
        rb.MultiThresholdLIF(3, mode="cascade", ladder="binary", leak=LearnedDecay(3.0)).neuron,
        rb.MultiThresholdLIF(3, surrogate=rb.Gaussian(0.5), reset=ToValue(0.0, at="full", detach=True)).neuron,
        rb.LIF(leak=Decay(4.0, rest=0.5), surrogate=rb.Polynomial(2.0)).neuron,
        rb.Method(surrogate=rb.Sigmoid(), alphabet=rb.cascade(3)).neuron,
    ):
        assert rb.from_json(rb.to_json(neuron)) == neuron
        assert eval(repr(neuron), dict(vars(rb))) == neuron


def test_what_is_learned_may_be_parametrised():
    layer = rb.PLIF(learn_threshold=True)
    xs = torch.full((3, 1, 4), 1.5)
    for name in ("theta0_exponent", "leak"):
        torch.nn.utils.parametrize.register_parametrization(layer, name, torch.nn.Hardtanh(-0.25, 0.25))
        with torch.no_grad():
            getattr(layer.parametrizations, name).original.fill_(2.0)
    theta0, _, _, _, _, leak = layer.tensors
    assert theta0.item() == pytest.approx(math.exp(0.25))
    assert leak is not None
    assert leak.item() == 0.25
    layer(xs)[0].sum().backward()
