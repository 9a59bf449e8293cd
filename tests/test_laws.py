"""The nine laws of few-step conversion, each over every named method it holds for, each shown to fail on wrong neurons.

A law takes a neuron, its tensors, drives and a run, and asserts; the wrong neurons at the end must each be caught.
Drives and thresholds are dyadic wherever the law is one of equal bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import Neuron, Tensors, methods, ops
from rheobase.neuron import emissions
from rheobase.testing import Run, carries_memory, conserves_charge, dyadic, is_same_neuron, keeps_scale
from test_oracles_can_fail import (
    AT_ZERO,
    BIASED,
    DOUBLES,
    DROPS,
    LEAKS,
    NO_CEILING,
    ONE_INPUT_DOWN,
    ONE_LEVEL_OFF,
    TO_ZERO,
    Law,
)
from test_signed import check_l5

seeds, steps, letters = st.integers(0, 10_000), st.integers(1, 10), st.integers(1, 6)


def conserving() -> dict[str, Neuron]:
    """The neurons of every named method that resets by subtraction and loses no charge at a gate."""
    found = {name: methods.named(name).neuron for name in methods.NAMED}
    return {name: n for name, n in found.items() if n.gate.keeps and isinstance(n.reset, rb.Subtract)}


PRESETS = conserving()
FIXED = {name: n for name, n in PRESETS.items() if isinstance(n.threshold, rb.Fixed)}


def parts(theta0: float = 0.5, start: float = 0.5, bias: Tensor | None = None) -> Tensors:
    return Tensors(torch.tensor(theta0), torch.tensor(theta0 * start), bias=bias)


def equal(got: Tensor, expected: Tensor) -> None:
    assert torch.equal(got, expected), f"{int((got != expected).sum())} of {got.numel()} differ"


# L1 to L3: charge, one step, constant drive


def l1(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = rb.scan) -> None:
    """`sum y = sum x + sum bias + v0 - v(T)`, to the last bit where theta does not move and nothing is divided by t."""
    ys, m = run(neuron, tensors, xs, None)
    if isinstance(neuron.threshold, rb.Fixed) and isinstance(neuron.link, rb.Rate):
        equal(ys.sum(0), tensors.corrected(xs, torch.tensor(0)).sum(0) + tensors.v0 - m.v)
    else:
        conserves_charge(neuron, tensors, xs, run)


@pytest.mark.parametrize("name", PRESETS)
@given(seeds, steps, st.booleans())
def test_l1_charge_is_conserved_by_every_method_with_and_without_bias(name, seed, steps, corrected):
    bias, rule = dyadic(3, 7, seed=seed + 1) if corrected else None, PRESETS[name].threshold
    steps = rule.steps if isinstance(rule, rb.Radix) else steps
    l1(PRESETS[name], parts(bias=bias), dyadic(steps, 2, 7, seed=seed))


def l2(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = rb.scan) -> None:
    """One step of K letters from the half start is the activation QCFS with K levels."""
    k = len(neuron.alphabet.levels)
    ys, _ = run(neuron, tensors, xs[:1], None)
    equal(ys[0], ops.Rectify(bound=k * float(tensors.theta0), levels=k)({}, xs[0]))


@given(seeds, letters)
def test_l2_one_step_of_k_letters_is_an_activation_quantised_to_k_levels(seed, k):
    l2(Neuron(alphabet=rb.burst(k)), parts(), dyadic(1, 3, 50, seed=seed, high=4.0))


def l3(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = rb.scan) -> None:
    """At constant drive K letters in T steps are binary letters in K T steps, and QCFS with K T levels."""
    k, steps, drive = len(neuron.alphabet.levels), len(xs), xs[0]
    ys, _ = run(neuron, tensors, rb.constant(drive * k, steps), None)
    binary, _ = rb.scan(replace(neuron, alphabet=rb.binary), tensors, rb.constant(drive, steps * k))
    equal(ys.sum(0), binary.sum(0))
    levels = steps * k
    equal(ys.sum(0), ops.Rectify(bound=levels * float(tensors.theta0), levels=levels)({}, drive * levels))


@given(seeds, letters, steps)
def test_l3_letters_times_steps_is_what_counts(seed, k, steps):
    l3(Neuron(alphabet=rb.burst(k)), parts(), dyadic(steps, 3, 30, seed=seed))


# L4: waiting


def l4(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = rb.scan) -> None:
    """A neuron that waits sends QCFS of its mean input with K T levels, whatever the order of the input."""
    levels, total = len(neuron.alphabet.levels) * len(xs), xs.sum(0)
    ys, _ = run(neuron, tensors, xs, None)
    equal(ys.sum(0), ops.Rectify(bound=levels * float(tensors.theta0), levels=levels)({}, total))
    mixed, _ = run(neuron, tensors, xs.flip(0), None)
    equal(mixed, ys)


@given(seeds, letters, steps)
def test_l4_a_neuron_that_waits_quantises_its_mean_input(seed, k, steps):
    l4(Neuron(alphabet=rb.burst(k), gate=rb.Wait()), parts(), dyadic(steps, 3, 30, seed=seed, high=3.0))


@given(seeds, steps)
def test_l4_waiting_needs_no_more_spikes_than_its_answer_has_and_keeps_its_charge(seed, steps):
    neuron, xs = Neuron(gate=rb.Wait()), dyadic(steps, 3, 30, seed=seed)
    l1(neuron, parts(), xs)
    ys, m = rb.scan(neuron, parts(), xs)
    assert ((m.v < 0.5) | (ys.sum(0) == 0.5 * steps)).all()  # what is left is less than theta, or all steps were used


def test_a_neuron_that_waits_refuses_to_go_on():
    neuron, xs = Neuron(gate=rb.Wait()), dyadic(4, 2, 3)
    _, m = rb.scan(neuron, parts(), xs)
    with pytest.raises(rb.InputError, match="waits cannot go on"):
        rb.scan(neuron, parts(), xs, m)


# L5 to L7: order, scale, digits


@given(seeds, steps)
def test_l5_signed_letters_against_sent_charge_forget_the_order_of_the_input(seed, steps):
    neuron = replace(PRESETS["best"], alphabet=rb.signed(512, floor=True))
    xs = dyadic(steps, 2, 7, seed=seed)
    check_l5(neuron, parts(), xs)
    ys, _ = rb.scan(neuron, parts(), xs)
    mixed, _ = rb.scan(neuron, parts(), xs[torch.randperm(steps, generator=torch.Generator().manual_seed(seed))])
    equal(ys.sum(0), mixed.sum(0))


@pytest.mark.parametrize("name", FIXED)
@given(seeds, st.integers(-6, 6))
def test_l6_scaling_thresholds_is_scaling_drives_for_every_method(name, seed, power):
    keeps_scale(FIXED[name], parts(0.75), dyadic(9, 2, 7, seed=seed), 2.0**power)


@given(seeds, st.integers(1, 5))
def test_l7_digits_are_as_many_equal_letters(seed, n):
    xs, pair = dyadic(6, 40, seed=seed, high=9.0), (rb.digits(n), rb.burst(2**n - 1))
    is_same_neuron(Neuron(alphabet=pair[0]), Neuron(alphabet=pair[1]), parts(), xs)
    table = rb.Alphabet(levels=tuple(i / 2 for i in range(1, 2**n)), heights=(0.5,) * (2**n - 1))
    ys, _ = rb.scan(Neuron(alphabet=table), parts(1.0, 0.25), xs)
    equal(ys, rb.scan(Neuron(alphabet=pair[0]), parts(0.5, 0.5), xs)[0])


# L8: changes


DIFFERENTIAL = Neuron(alphabet=rb.signed(4), gate=rb.SentCharge(), link=rb.Differential())


def l8(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = rb.scan) -> None:
    """At a constant drive that is a multiple of theta within reach events stop after one step, the mean exact."""
    drive = (xs[0] / tensors.theta0).round().clamp(-4, 4) * tensors.theta0
    ys, _ = run(neuron, tensors, rb.constant(drive, len(xs)), None)
    equal(ys, rb.constant(drive.clamp(min=0), len(xs)))
    emission, _ = sent(neuron, tensors, rb.constant(drive, len(xs)))
    equal(emission[1:], torch.zeros_like(emission[1:]))


def test_l8_catches_a_rate_which_never_stops():
    with pytest.raises(AssertionError):
        l8(replace(DIFFERENTIAL, link=rb.Rate()), parts(), dyadic(3, 3, 30))


def sent(neuron: Neuron, tensors: Tensors, xs: Tensor) -> tuple[Tensor, Tensor]:
    (messages, worth), _ = emissions(neuron, tensors, xs)
    return messages, worth


@given(seeds, steps)
def test_l8_events_stop_once_the_mean_is_exact(seed, steps):
    l8(DIFFERENTIAL, parts(), dyadic(steps + 1, 3, 30, seed=seed))


@given(seeds, st.integers(2, 40))
def test_l8_the_mean_comes_as_near_as_that_of_a_rate_with_fewer_events(seed, steps):
    """The residual lies within a letter, so the mean is exact to theta / t; a rate goes on sending, changes stop."""
    drive = dyadic(2, 40, seed=seed, low=0.0)
    rate = replace(DIFFERENTIAL, link=rb.Rate())
    for neuron in (DIFFERENTIAL, rate):
        ys, _ = rb.scan(neuron, parts(), rb.constant(drive, steps))
        assert ((ys.mean(0) - drive).abs() <= 0.75 / steps + 1e-6).all()
    changes, rates = (sent(n, parts(), rb.constant(drive, steps))[0].abs().sum() for n in (DIFFERENTIAL, rate))
    assert changes <= rates


@given(seeds, steps)
def test_the_first_step_of_a_differential_link_is_that_of_a_rate(seed, steps):
    xs = dyadic(steps, 2, 9, seed=seed)
    ys, _ = rb.scan(DIFFERENTIAL, parts(), xs)
    equal(ys[0], rb.scan(replace(DIFFERENTIAL, link=rb.Rate()), parts(), xs)[0][0])
    assert (ys.cumsum(0) >= -1e-5).all()


# L9: lowering

ALPHABETS = {
    "burst": {"alphabet": rb.burst(3)},
    "digits": {"alphabet": rb.digits(3)},
    "signed": {"alphabet": rb.signed(3, floor=True), "gate": rb.SentCharge()},
    "power of two": {"alphabet": rb.power_of_two(3), "gate": rb.SentCharge(rb.power_of_two(3).letters)},
}


def on_dyadic_weights(seed: int, **parts: Any) -> rb.SpikingNet:
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)]
    for layer in layers[::2]:
        for number, weight in enumerate(layer.parameters()):
            weight.data = dyadic(*weight.shape, seed=seed + number, low=-1.0, high=1.0).mul(8).round().div(8)
    x = dyadic(16, 6, seed=seed)
    return rb.convert(nn.Sequential(*layers).eval(), rb.Method(scale=rb.Given(0.5), initial=rb.Half(), **parts), [x])[0]


@pytest.mark.parametrize("name", ALPHABETS)
def test_l9_lowered_to_single_spikes_a_network_answers_the_same(name):
    net, x, steps = on_dyadic_weights(7, **ALPHABETS[name]), dyadic(5, 6, seed=8), 3
    lowered, alphabet = rb.lower(net), ALPHABETS[name]["alphabet"]
    block = lowered.provenance["block"]
    assert block == round(alphabet.ceiling / alphabet.unit)
    ys, _ = lowered(rb.constant(x, block * steps))
    torch.testing.assert_close(ys[block - 1 :: block], net(rb.constant(x, steps))[0], atol=1e-5, rtol=1e-5)
    y = [(x, torch.zeros(5, dtype=torch.long))]
    assert rb.evaluate(lowered, y, block * steps).acs[-1] == pytest.approx(rb.evaluate(net, y, steps).acs[-1])


def test_l9_catches_a_lowering_that_forgets_a_letter():
    net, x = on_dyadic_weights(1, alphabet=rb.burst(3)), dyadic(5, 6, seed=2)
    fewer = rb.lower(on_dyadic_weights(1, alphabet=rb.burst(2)))
    assert not torch.allclose(fewer(rb.constant(x, 4))[0][1::2], net(rb.constant(x, 2))[0])


# What holds for every method besides


@pytest.mark.parametrize("name", [name for name, n in PRESETS.items() if not isinstance(n.gate, rb.Wait)])
def test_every_method_runs_in_pieces(name):
    carries_memory(PRESETS[name], parts(bias=dyadic(3, 7)), dyadic(9, 2, 7, seed=2), (2, 5))


# Each law can fail


@dataclass(frozen=True)
class Case:
    """A law, a neuron for which it holds, and neurons that it must catch."""

    law: Callable[[Neuron, Tensors, Tensor, Run], None]
    neuron: Neuron
    wrong: dict[str, Run] = field(default_factory=dict)


BURST = Neuron(alphabet=rb.burst(3))
BEST = methods.best().neuron


class Timeless(rb.Differential):
    """Readers that add every change whole, whenever it comes."""

    def received(self, ys: Tensor, mean: Tensor | None, t: int) -> Tensor:
        return ys.cumsum(0) + 0.5 * (ys == 0)


def at(run: Run, start: float) -> Run:
    return lambda n, p, xs, m: run(n, p._replace(v0=start * p.theta0), xs, m)


KEEPS_NOTHING = Law(after_gate=lambda v, stopped, theta: v - stopped * theta)
CASES = {
    "L1": Case(
        l1, BURST, {"to zero": TO_ZERO, "at zero": AT_ZERO, "drops": DROPS, "leaks": LEAKS, "a bias": BIASED}
    ),
    "L1, signed": Case(l1, BEST, {"what a gate stops is lost": KEEPS_NOTHING, "doubles": DOUBLES}),
    "L2": Case(
        l2,
        BURST,
        {"at zero": AT_ZERO, "1/64 low": ONE_INPUT_DOWN, "a level off": ONE_LEVEL_OFF, "no ceiling": NO_CEILING},
    ),
    "L4": Case(
        l4,
        replace(BURST, gate=rb.Wait()),
        {"does not wait": lambda n, *rest: rb.scan(replace(n, gate=rb.Open()), *rest), "at zero": at(rb.scan, 0.0)},
    ),
    "L8": Case(
        l8,
        DIFFERENTIAL,
        {
            "forgets the time": lambda n, *rest: rb.scan(replace(n, link=Timeless()), *rest),
        },
    ),
    "L3": Case(l3, BURST, {"to zero": TO_ZERO, "at zero": AT_ZERO, "drops": DROPS, "no ceiling": NO_CEILING}),
}  # fmt: skip
WRONG = [(law, wrong) for law, case in CASES.items() for wrong in case.wrong]


@pytest.mark.parametrize("law", CASES)
def test_a_law_holds_where_it_should(law):
    run = rb.scan if law in ("L4", "L8") else Law()
    CASES[law].law(CASES[law].neuron, parts(), dyadic(8, 3, 40, seed=5, high=3.0), run)


@pytest.mark.parametrize(("law", "wrong"), WRONG, ids=[", ".join(pair) for pair in WRONG])
def test_a_law_catches_a_wrong_neuron(law, wrong):
    case = CASES[law]
    with pytest.raises(AssertionError):
        case.law(case.neuron, parts(), dyadic(8, 3, 40, seed=5, high=3.0), case.wrong[wrong])
