"""DTIF-style thresholds, our reconstruction: the six invariants of algorithms.md 4.5."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase import DTIF, Exponential, Membrane, Neuron, Ramp, Reciprocal, Tensors, burst
from rheobase.testing import conserves_charge, dyadic, is_same_neuron

seeds = st.integers(0, 2**32 - 1)
inverses = st.builds(lambda g, beta: g(beta), st.sampled_from([Reciprocal, Exponential, Ramp]), st.floats(0, 8))
rules = st.builds(DTIF, inverse=inverses, rho=st.floats(0.1, 1))
each_inverse = pytest.mark.parametrize("inverse", [Reciprocal(), Exponential(), Ramp()], ids=str)


def base(theta0: float, start: float = 0.0) -> Tensors:
    theta = torch.tensor(theta0, dtype=torch.float64)
    return Tensors(theta, start * theta)


def theta(rule: DTIF, theta0: float, x: Tensor) -> Tensor:
    return rule.theta(x.new_tensor(theta0), x, Membrane(torch.zeros_like(x), torch.tensor(3)))


def counts(rule: DTIF | rb.Fixed, k: int, theta0: float, x: Tensor, steps: int) -> Tensor:
    """Letters sent up to each step at constant drive `[T, N]`."""
    neuron = Neuron(threshold=rule, alphabet=burst(k))
    (letters, _), _ = rb.neuron.emissions(neuron, base(theta0), x.expand(steps, *x.shape))
    return letters.cumsum(0)


@given(seeds, st.sampled_from([Reciprocal, Exponential, Ramp]), st.floats(0.1, 1), st.floats(0.1, 9), st.booleans())
def test_without_sensitivity_it_is_the_integrate_and_fire_neuron(seed, inverse, rho, theta0, graded):
    xs = torch.randn(20, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rule = DTIF(inverse=inverse(0.0), rho=rho, graded=graded)
    is_same_neuron(Neuron(), Neuron(threshold=rule), base(theta0, 0.5), xs)
    is_same_neuron(Neuron(), Neuron(threshold=DTIF(inverse=inverse(3.0), rho=1.0)), base(theta0, 0.5), xs)


@given(rules, st.floats(0.1, 9))
def test_theta_never_rises_with_the_drive_and_lies_between_rho_theta0_and_theta0(rule, theta0):
    moving = theta(rule, theta0, torch.linspace(-3 * theta0, 30 * theta0, 400, dtype=torch.float64))
    assert (moving.diff() <= 1e-12 * theta0).all()
    assert (moving <= theta0).all()
    assert (moving >= rule.rho * theta0 * (1 - 1e-12)).all()
    assert (theta(rule, theta0, torch.linspace(-9, 0, 50, dtype=torch.float64)) == theta0).all()


@each_inverse
def test_a_huge_drive_brings_theta_to_its_floor(inverse):
    huge = torch.tensor([1e3, 1e10, 3e38])
    torch.testing.assert_close(theta(DTIF(inverse=inverse, rho=0.25), 2.0, huge), torch.full((3,), 0.5))


@given(st.floats(0.1, 8), st.floats(0.1, 9))
def test_the_reciprocal_of_the_reciprocal_threshold_is_affine_in_the_drive(beta, theta0):
    rule = DTIF(inverse=Reciprocal(beta), rho=1e-3)
    x = torch.linspace(0, theta0, 50, dtype=torch.float64)
    torch.testing.assert_close(theta0 / theta(rule, theta0, x), 1 + beta * x / theta0, rtol=1e-12, atol=0)


def test_the_three_inverses_are_their_formulas():
    q = torch.tensor([0.0, 0.125, 0.25, 1.0], dtype=torch.float64)
    assert Reciprocal(4.0)(q).tolist() == [1, 1 / 1.5, 0.5, 0.2]
    assert Ramp(4.0)(q).tolist() == [1, 0.5, 0, 0]
    torch.testing.assert_close(Exponential(4.0)(q), torch.exp(-4 * q))


@given(rules, st.integers(1, 6), seeds, st.floats(0.1, 9), st.sampled_from([0.0, 0.5]))
def test_charge_is_conserved_when_a_letter_is_worth_theta(rule, k, seed, theta0, start):
    xs = torch.randn(24, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    conserves_charge(Neuron(threshold=rule, alphabet=burst(k)), base(theta0, start), xs)


@each_inverse
def test_charge_is_not_conserved_when_a_letter_is_worth_theta0_and_the_bias_stays(inverse):
    neuron = Neuron(threshold=DTIF(inverse=inverse, graded=False))
    with pytest.raises(AssertionError, match="charge"):
        conserves_charge(neuron, base(1.0), dyadic(24, 30, seed=1).double())
    x = torch.linspace(0, 1, 101, dtype=torch.float64).reshape(1, -1)
    ys, _ = rb.scan(neuron, base(1.0), rb.constant(x, 256))
    assert (ys.mean(0) - x).mean() > 0.1


@given(inverses, st.floats(0.1, 9), st.integers(1, 64), st.sampled_from([(0.2, 5), (0.5, 2), (0.25, 5), (1.0, 1)]))
def test_with_enough_letters_a_constant_drive_leaves_less_than_one_threshold(inverse, theta0, steps, capacity):
    rho, k = capacity
    rule = DTIF(inverse=inverse, rho=rho)
    x = torch.linspace(0, theta0, 65, dtype=torch.float64).reshape(1, -1)
    ys, m = rb.scan(Neuron(threshold=rule, alphabet=burst(k)), base(theta0), rb.constant(x, steps))
    slack, bound = 1e-9 * theta0, theta(rule, theta0, x)
    assert (m.v >= -slack).all()
    assert (m.v <= bound + slack).all()
    assert ((ys.mean(0) - x).abs() <= (bound + slack) / steps).all()


def test_with_too_few_letters_a_constant_drive_piles_up():
    x = torch.tensor([[0.9]], dtype=torch.float64)
    _, m = rb.scan(Neuron(threshold=DTIF()), base(1.0), rb.constant(x, 64))
    assert m.v > 10


def test_the_squared_error_falls_as_one_over_steps_squared():
    x = torch.linspace(0, 1, 2001, dtype=torch.float64).reshape(1, -1)
    neuron = Neuron(threshold=DTIF(), alphabet=burst(5))
    errors = []
    for steps in (8, 32, 128):
        ys, _ = rb.scan(neuron, base(1.0), rb.constant(x, steps))
        errors.append(float((ys.mean(0) - x).square().mean()))
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.15)


@pytest.mark.parametrize(("letters", "rms"), [(1, 0.374), (2, 0.228), (5, 0.0079)])
def test_the_error_by_number_of_letters_is_that_of_the_design(letters, rms):
    x = torch.linspace(0, 1, 2001, dtype=torch.float64).reshape(1, -1)
    ys, _ = rb.scan(Neuron(threshold=DTIF(), alphabet=burst(letters)), base(1.0), rb.constant(x, 32))
    assert (ys.mean(0) - x).square().mean().sqrt() == pytest.approx(rms, rel=0.03)


@given(rules, st.floats(0.1, 9), st.sampled_from([1, 2, 5]))
def test_it_fires_no_later_and_no_less_than_integrate_and_fire_at_constant_drive(rule, theta0, k):
    x = theta0 * (torch.arange(200, dtype=torch.float64) + 0.37).reshape(1, -1) / 160
    moving, still = counts(rule, k, theta0, x, 40), counts(rb.Fixed(), k, theta0, x, 40)
    assert (moving >= still).all()
    assert ((moving > 0) | (still == 0)).all()


@each_inverse
def test_it_fires_strictly_more_often_than_integrate_and_fire_somewhere(inverse):
    x = torch.linspace(0.01, 1, 100, dtype=torch.float64).reshape(1, -1)
    moving, still = (counts(rule, 5, 1.0, x, 16)[-1] for rule in (DTIF(inverse=inverse), rb.Fixed()))
    assert moving.sum() > 2 * still.sum()


@pytest.mark.parametrize("rho", [0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1.0])
def test_the_named_method_has_just_enough_letters_to_carry_a_drive_of_theta0(rho):
    method = rb.methods.dtif(DTIF(rho=rho))
    assert method.alphabet.ceiling * rho >= 1 - 1e-12
    assert (method.alphabet.ceiling - 1) * rho < 1


@pytest.mark.parametrize("wrong", [{"rho": 0.0}, {"rho": 1.1}, {"inverse": Reciprocal(-1.0)}], ids=str)
def test_what_is_no_inverse_relation_is_refused(wrong):
    with pytest.raises(rb.SpecError, match="DTIF"):
        DTIF(**wrong)
