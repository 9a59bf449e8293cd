"""MSAT: the authors' logged thresholds, the invariants of its law, and its spike confidence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase import MSAT, Fixed, Membrane, Neuron, SpikeConfidence, Tensors, burst
from rheobase.neuron import fire
from rheobase.testing import conserves_charge, dyadic, is_same_neuron, only_stops_spikes, same_spikes

RUNS = [
    "cifar10_vgg16_mp",
    "cifar10_vgg16_rd",
    "cifar10_resnet20_mp",
    "cifar10_resnet20_rd",
    "cifar100_resnet20_mp",
    "cifar100_resnet20_rd",
    "cifar100_vgg16_mp",
    "cifar100_vgg16_rd",
    "cifar100_vgg16_both",
]
MEMBRANE, RATE = [n for n in RUNS if not n.endswith("_rd")], [n for n in RUNS if not n.endswith("_mp")]
ROUNDING = 0.0015  # the logs have three decimals: half a unit of x, v and theta each
seeds = st.integers(0, 2**32 - 1)
rules = st.builds(
    MSAT,
    alpha=st.floats(0, 1),
    k_a=st.floats(0, 2),
    k_i=st.floats(0.1, 2),
    C=st.floats(0.5, 10),
    tau_mp=st.floats(0.01, 1.5),
    tau_rd=st.floats(0.01, 1.5),
    normalised=st.booleans(),
)


class Log:
    """One run of the authors: x, v, s and theta `[256, layers]`, and their constants."""

    def __init__(self, shared: Path, name: str) -> None:
        about = json.loads((shared / "golden/msat/logs.json").read_text())
        assert sorted(about) == sorted(RUNS)
        self.constants, self.stages = about[name]["constants"], about[name]["stages"]
        with np.load(shared / "golden/msat/logs.npz") as logs:
            self.x, self.v, self.s, self.theta = (
                torch.from_numpy(logs[f"{name}/{part}"]).double() for part in ("x", "v", "s", "theta")
            )
        self.before = torch.cat([torch.zeros_like(self.v[:1]), self.v[:-1]])
        self.u = self.before + self.x


@pytest.fixture(params=RUNS)
def log(request: pytest.FixtureRequest, shared: Path) -> Log:
    return Log(shared, request.param)


def law(rule: MSAT, x: Tensor, v: Tensor, theta0: Tensor, *, early: int = 0, divisor: int = 0) -> Tensor:
    """The thresholds of `rule` when fed x and v. Wrong on purpose: v `early` steps later, mean over t + `divisor`."""
    memory, thetas = rule.born(v[0]), []
    for t in range(len(x)):
        last = v[t - 1 + early] if t - 1 + early >= 0 else torch.zeros_like(v[0])
        total = tuple(leaf * t / (t + divisor) if t else leaf for leaf in memory)
        thetas.append(rule.theta(theta0, x[t], Membrane(last, torch.tensor(t), total)))
        memory = rule.remember(memory, v[t])
    return torch.stack(thetas)


# 11. The authors' logs


@pytest.mark.shared
def test_the_law_reproduces_the_authors_thresholds_to_their_rounding(log):
    theta = law(MSAT(**log.constants), log.x, log.v, log.theta[0])
    assert (theta - log.theta).abs().max() <= ROUNDING


@pytest.mark.shared
def test_the_law_without_its_guard_reproduces_the_authors_thresholds_to_their_rounding(log):
    theta = law(MSAT(**log.constants, guard=1e-12), log.x, log.v, log.theta[0])
    assert (theta - log.theta).abs().max() <= ROUNDING


@pytest.mark.shared
@pytest.mark.parametrize("log", MEMBRANE, indirect=True)
@pytest.mark.parametrize("wrong", ["t for t - 1", "potential before the reset", "mean over t + 1", "another alpha"])
def test_a_wrong_membrane_stage_is_not_the_authors_law(log, wrong):
    factor = 1.1 if wrong == "another alpha" else 1.0
    rule = MSAT(**log.constants | {"alpha": factor * log.constants["alpha"]}, guard=1e-12)
    v = log.v + log.s * log.theta if wrong == "potential before the reset" else log.v
    theta = law(rule, log.x, v, log.theta[0], early=wrong == "t for t - 1", divisor=wrong == "mean over t + 1")
    assert (theta - log.theta).abs().max() > ROUNDING


@pytest.mark.shared
@pytest.mark.parametrize("log", RATE, indirect=True)
def test_the_rate_stage_sees_the_drive_of_this_step_and_not_of_the_last(log):
    late = torch.cat([log.x[:1], log.x[:-1]])
    assert (law(MSAT(**log.constants), late, log.v, log.theta[0]) - log.theta).abs().max() > 0.1


@pytest.mark.shared
def test_the_logged_potential_is_the_one_after_the_soft_reset(log):
    assert (log.u - log.s * log.theta - log.v).abs().max() <= ROUNDING
    assert (log.u - log.v).abs().max() > 0.5, "there is no spike in this log"


@pytest.mark.shared
def test_the_neuron_emits_the_authors_spikes_except_where_rounding_meets_theta(log):
    rule = MSAT(**log.constants, guard=1e-12)
    neuron, tensors = Neuron(threshold=rule), Tensors(log.theta[0], torch.zeros_like(log.theta[0]))
    memory, letters, ratios, potentials = rule.born(log.v[0]), [], [], []
    for t, (x, v) in enumerate(zip(log.x, log.before, strict=True)):
        m = Membrane(v, torch.tensor(t), memory)
        ratios.append((v + x) / rule.theta(log.theta[0], x, m))
        (s, _), after = fire(neuron, tensors, x, m)
        letters.append(s)
        potentials.append(after.v)
        memory = rule.remember(memory, log.v[t])
    assert same_spikes(log.s, torch.stack(letters), torch.stack(ratios), (1.0,), eps=0.05) <= 3
    agree = log.s == torch.stack(letters)
    assert agree.double().mean() > 0.999
    assert (torch.stack(potentials) - log.v).abs()[agree].max() <= 2 * ROUNDING


# Invariants of the law, algorithms.md 2.11


def thetas(rule: MSAT, theta0: float, xs: Tensor, v0: float = 0.0) -> Tensor:
    """The threshold of each step of a run of binary neurons over `xs` `[T, N]`."""
    neuron, base = Neuron(threshold=rule), xs.new_tensor(theta0)
    m, seen = rb.init(neuron, Tensors(base, base * v0), xs[0]), []
    for x in xs:
        seen.append(rule.theta(base, x, m))
        _, m = rb.step(neuron, Tensors(base, base * v0), x, m)
    return torch.stack(seen)


@given(rules, seeds, st.floats(0.05, 60))
def test_theta_starts_at_theta0_and_stays_between_the_guard_and_theta0(rule, seed, theta0):
    xs = 2 * torch.randn(20, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theta = thetas(rule, theta0, xs)
    assert (theta[0] == theta0).all()
    assert (theta <= theta0).all()
    assert (theta >= rule.guard * theta0 * (1 - 1e-12)).all()


@given(rules, seeds, st.floats(0.1, 5), st.sampled_from([0.0, 0.5, 0.9]))
def test_the_second_threshold_does_not_know_the_potential(rule, seed, theta0, v0):
    xs = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = theta0 if rule.normalised else 1.0
    stages = rule.tau_mp * (-theta0 / unit + rule.k_a * math.log(2)) + rule.tau_rd * torch.exp(-xs[1] / unit / rule.C)
    expected = theta0 * torch.sigmoid(stages).clamp(min=rule.guard)
    torch.testing.assert_close(thetas(rule, theta0, xs, v0)[1], expected, rtol=1e-9, atol=0)


@given(rules, st.integers(1, 6), seeds, st.floats(0.1, 5))
def test_charge_is_conserved_by_any_msat_with_any_number_of_letters(rule, k, seed, theta0):
    xs = torch.randn(24, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    base = torch.tensor(theta0, dtype=torch.float64)
    conserves_charge(Neuron(threshold=rule, alphabet=burst(k)), Tensors(base, base / 2), xs)


@given(rules, st.floats(0.1, 5), st.floats(-3, 3), st.floats(0.1, 5))
def test_theta_never_rises_with_the_drive_and_never_falls_with_the_potential_above_its_mean(rule, theta0, at, total):
    base, grid = torch.tensor(theta0, dtype=torch.float64), torch.linspace(-5, 5, 200, dtype=torch.float64)
    fixed, t = torch.full_like(grid, at), torch.tensor(4)
    by_drive = rule.theta(base, grid, Membrane(fixed, t, (total * torch.ones_like(grid),)))
    by_potential = rule.theta(base, fixed, Membrane(grid, t, (total * torch.ones_like(grid),)))
    by_mean = rule.theta(base, fixed, Membrane(fixed, t, (grid,)))
    slack = 1e-12 * theta0
    assert (by_drive.diff() <= slack).all()
    assert (by_potential.diff() >= -slack).all()
    assert (by_mean.diff() <= slack).all()


def test_theta_falls_with_the_drive_and_rises_with_the_potential_by_its_formula():
    theta0, grid = torch.tensor(2.0), torch.tensor([-2.0, 0.0, 2.0])
    zero = torch.zeros(3)
    rise = MSAT().theta(theta0, zero, Membrane(grid, torch.tensor(4), (zero,)))
    fall = MSAT().theta(theta0, grid, Membrane(zero, torch.tensor(4), (zero,)))
    stages = [0.03 * d - 2 + math.log(1 + math.exp(d)) + 1 for d in (-2, 0, 2)]
    assert rise.tolist() == pytest.approx([2 / (1 + math.exp(-z)) for z in stages], rel=1e-6)
    stages = [-2 + math.log(2) + math.exp(-x / 5) for x in (-2, 0, 2)]
    assert fall.tolist() == pytest.approx([2 / (1 + math.exp(-z)) for z in stages], rel=1e-6)


@given(seeds, st.floats(0.1, 5), st.floats(0.1, 1.5))
def test_without_alpha_and_k_a_the_membrane_stage_is_a_constant_after_the_first_step(seed, theta0, tau_mp):
    xs = torch.randn(12, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theta = thetas(MSAT(alpha=0.0, k_a=0.0, tau_mp=tau_mp, tau_rd=0.0), theta0, xs)
    expected = theta0 * torch.sigmoid(torch.tensor(-tau_mp * theta0, dtype=torch.float64))
    torch.testing.assert_close(theta[1:], expected.expand(11, 20), rtol=1e-12, atol=0)


def test_a_vanishing_rate_stage_leaves_half_of_theta0_and_both_stages_off_is_refused():
    theta = thetas(MSAT(tau_mp=0.0, tau_rd=1e-12), 3.0, dyadic(6, 20, seed=1).double())
    torch.testing.assert_close(theta[1:], torch.full((5, 20), 1.5, dtype=torch.float64), rtol=1e-9, atol=0)
    with pytest.raises(rb.SpecError, match="both stages off"):
        MSAT(tau_mp=0.0, tau_rd=0.0)


@pytest.mark.parametrize(("fraction", "msat_step", "if_step"), [(0.1, 5, 10), (0.05, 10, 20)])
def test_msat_fires_in_half_the_steps_of_plain_integrate_and_fire_at_a_small_drive(fraction, msat_step, if_step):
    tensors = Tensors(torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.0))
    xs = torch.full((30, 1), 2.0 * fraction + 1e-9, dtype=torch.float64)
    for threshold, step in ((MSAT(), msat_step), (Fixed(), if_step)):
        ys, _ = rb.scan(Neuron(threshold=threshold), tensors, xs)
        assert int(ys.flatten().nonzero()[0]) + 1 == step


@given(rules, st.floats(0.1, 5))
def test_a_neuron_without_drive_is_silent_and_its_threshold_settles(rule, theta0):
    xs = torch.zeros(8, 3, dtype=torch.float64)
    unit = theta0 if rule.normalised else 1.0
    settled = rule.tau_mp * (rule.k_a * math.log(2) - theta0 / unit) + rule.tau_rd
    expected = theta0 * max(rule.guard, 1 / (1 + math.exp(-settled)))
    torch.testing.assert_close(thetas(rule, theta0, xs)[1:], torch.full_like(xs[1:], expected), rtol=1e-9, atol=0)
    base = torch.tensor(theta0, dtype=torch.float64)
    ys, m = rb.scan(Neuron(threshold=rule), Tensors(base, 0 * base), xs)
    assert (ys == 0).all()
    assert (m.v == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("theta0", [1e-3, 1.0, 60.0, 95.0, 800.0, 1000.0])
@pytest.mark.parametrize("rule", [MSAT(), MSAT(normalised=True), rb.MSAT_RESNET20, MSAT(tau_rd=0.0), MSAT(tau_mp=0.0)])
def test_nothing_overflows_or_becomes_nan_at_any_threshold_under_any_drive(rule, theta0, dtype):
    drives = torch.tensor([-1e4, -100.0, -1.0, 0.0, 1e-3, 1.0, 100.0, 1e4])
    xs = torch.cat([drives.expand(20, 8), drives.flip(0).expand(20, 8), torch.zeros(4, 8)]).to(dtype)
    tensors = Tensors(torch.tensor(theta0), torch.tensor(0.0))
    ys, m = rb.scan(Neuron(threshold=rule, alphabet=burst(3)), tensors, xs)
    assert ys.isfinite().all()
    assert m.v.isfinite().all()
    assert (ys[0] >= 0).all()


def test_the_guard_is_what_keeps_a_large_threshold_from_zero():
    m = Membrane(torch.zeros(1), torch.tensor(1), (torch.zeros(1),))
    theta0, still = torch.tensor(95.0), torch.zeros(1)
    assert MSAT(tau_rd=0.0).theta(theta0, still, m) >= 95.0 * MSAT().guard * 0.999
    assert MSAT(tau_rd=0.0, guard=1e-45).theta(theta0, still, m) < 1e-30


@given(seeds, st.floats(0.1, 8))
def test_normalised_msat_is_msat_of_a_unit_threshold_scaled(seed, theta0):
    xs = torch.randn(16, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = torch.tensor(1.0, dtype=torch.float64)
    ys, _ = rb.scan(Neuron(threshold=MSAT(normalised=True)), Tensors(theta0 * unit, 0 * unit), xs)
    ys_unit, _ = rb.scan(Neuron(threshold=MSAT()), Tensors(unit, 0 * unit), xs / theta0)
    torch.testing.assert_close(ys, theta0 * ys_unit, rtol=1e-9, atol=1e-9)


def test_units_do_not_matter_at_a_unit_threshold_and_matter_at_any_other():
    xs = dyadic(16, 40, seed=3).double()
    one = torch.tensor(1.0, dtype=torch.float64)
    is_same_neuron(Neuron(threshold=MSAT()), Neuron(threshold=MSAT(normalised=True)), Tensors(one, 0 * one), xs)
    with pytest.raises(AssertionError):
        is_same_neuron(Neuron(threshold=MSAT()), Neuron(threshold=MSAT(normalised=True)), Tensors(2 * one, 0 * one), xs)


@pytest.mark.parametrize(
    ("off", "faint"), [(MSAT(tau_mp=0.0), MSAT(tau_mp=1e-15)), (MSAT(tau_rd=0.0), MSAT(tau_rd=1e-15))]
)
def test_a_stage_that_is_off_is_a_stage_with_a_vanishing_weight(off, faint):
    xs = torch.randn(12, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(thetas(off, 1.5, xs), thetas(faint, 1.5, xs), rtol=1e-9, atol=1e-9)


# Spike confidence


def confident(confidence: float, key: int = 3, theta0: float = 1.0) -> Tensors:
    return Tensors(torch.tensor(theta0), torch.tensor(0.0), torch.tensor(confidence), torch.tensor(key))


@given(seeds, st.sampled_from([Fixed(), MSAT()]), st.booleans())
def test_full_confidence_is_an_open_gate(seed, threshold, last_only):
    gated = Neuron(threshold=threshold, gate=SpikeConfidence(last_only=last_only))
    is_same_neuron(Neuron(threshold=threshold), gated, confident(1.0, seed), dyadic(20, 6, 7, seed=seed))


@pytest.mark.parametrize("confidence", [0.1, 0.392, 0.683, 0.96])
@pytest.mark.parametrize("alphabet", [burst(1), burst(3)], ids=["binary", "burst"])
def test_the_expected_number_of_spikes_kept_is_the_confidence(confidence, alphabet):
    """Every neuron fires at every step, so each of n draws is kept with probability p: within 5 standard deviations."""
    xs = torch.full((16, 2, 50, 200), 3.0)
    ys, _ = rb.scan(Neuron(alphabet=alphabet, gate=SpikeConfidence()), confident(confidence), xs)
    assert torch.equal(ys[:, 0], ys[:, 1])  # a sample's answer must not depend on its place in the batch
    letter, kept = alphabet.ceiling, ys[:, 0] > 0
    assert ((ys == 0) | (ys == letter)).all()
    for axis, draws in ((0, 16), (1, 50), (2, 200)):  # over steps and neurons: none of them shares its draw
        rate = kept.double().mean(axis)
        assert rate.std() == pytest.approx(math.sqrt(confidence * (1 - confidence) / draws), rel=0.15)
    assert abs(kept.double().mean() - confidence) < 5 * math.sqrt(confidence * (1 - confidence) / kept.numel())


def test_no_confidence_stops_every_early_spike_and_no_later_one():
    xs = torch.ones(20, 2, 5)
    for steps in (1, 7, 16):
        ys, m = rb.scan(Neuron(gate=SpikeConfidence(steps=steps)), confident(0.0), xs)
        assert (ys[:steps] == 0).all()
        assert (ys[steps:] == 1).all()
        assert (m.v == 0).all()


@pytest.mark.parametrize("threshold", [Fixed(), MSAT(), rb.MSAT_RESNET20], ids=str)
def test_the_charge_lost_is_exactly_the_amplitude_of_the_spikes_dropped(threshold):
    xs = torch.randn(24, 8, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    neuron, tensors = Neuron(threshold=threshold, gate=SpikeConfidence(steps=10)), confident(0.4)
    only_stops_spikes(neuron, tensors, xs)
    ys, m = rb.scan(neuron, tensors, xs)
    ys_open, _ = rb.scan(Neuron(threshold=threshold), tensors, xs)
    dropped = (ys_open - ys).sum(0)
    assert (dropped > 0).any()
    torch.testing.assert_close(xs.sum(0) - m.v - ys.sum(0), dropped, rtol=0, atol=1e-12)


def test_a_draw_knows_its_neuron_and_its_step_but_neither_the_batch_nor_the_chunk():
    xs, neuron = torch.ones(12, 9, 5), Neuron(gate=SpikeConfidence(steps=10))
    ys, _ = rb.scan(neuron, confident(0.5), xs)
    few, _ = rb.scan(neuron, confident(0.5), xs[:, :4])
    assert torch.equal(few, ys[:, :4])
    first, m = rb.scan(neuron, confident(0.5), xs[:5])
    second, _ = rb.scan(neuron, confident(0.5), xs[5:], m)
    assert torch.equal(torch.cat([first, second]), ys)
    assert not torch.equal(ys[0], ys[1])
    assert not torch.equal(ys, rb.scan(neuron, confident(0.5, key=4), xs)[0])


def test_a_confidence_of_each_channel_acts_on_its_channel():
    xs = torch.ones(8, 6, 3, 40)
    tensors = confident(0.0)._replace(confidence=torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1))
    ys, _ = rb.scan(Neuron(gate=SpikeConfidence(steps=8)), tensors, xs)
    assert (ys[:, :, 0] == 0).all()
    assert 0.4 < ys[:, :, 1].mean() < 0.6
    assert (ys[:, :, 2] == 1).all()
