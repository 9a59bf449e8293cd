"""Letters that are small floats: their numbers, their cuts, thresholds for uneven levels, and the method of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase import Neuron, Tensors, testing
from rheobase.histogram import Histogram

exponents, mantissas = st.integers(1, 3), st.integers(0, 4)
seeds = st.integers(0, 10_000)


def value(code: int, mantissa: int) -> float:
    """What a code stands for, as IEEE 754 has it: an exponent field of 0 is a number without the leading 1."""
    e, m = code >> mantissa, code & (2**mantissa - 1)
    return m / 2**mantissa if e == 0 else (1 + m / 2**mantissa) * 2 ** (e - 1)


@given(exponents, mantissas)
def test_the_letters_are_the_codes_of_the_format(exponent, mantissa):
    codes = [value(code, mantissa) * 2**mantissa for code in range(1, 2 ** (exponent + mantissa))]
    letters = rb.minifloat(exponent, mantissa).letters
    assert list(letters) == [code for code in codes if code > 0]


def test_four_bits_with_a_sign_are_fp4():
    """OCP Microscaling Formats: 0, 0.5, 1, 1.5, 2, 3, 4, 6."""
    assert [letter / 2 for letter in rb.minifloat(2, 1, signed=True).letters] == [0.5, 1, 1.5, 2, 3, 4, 6]


@given(exponents, mantissas, st.booleans(), st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30))
def test_no_other_letter_is_nearer(exponent, mantissa, both, r):
    alphabet, r = rb.minifloat(exponent, mantissa, signed=both), torch.tensor(r)
    letters = torch.tensor([0.0, *alphabet.letters, *(-a for a in alphabet.letters if both)])
    sent = alphabet.fire(r)
    assert torch.equal((r - sent).abs(), (r[:, None] - letters).abs().amin(1))
    assert set(sent.tolist()) <= set(letters.tolist())


@given(st.sets(st.floats(0.25, 40), min_size=3, max_size=9), st.integers(0, 2), seeds)
def test_one_search_finds_what_a_comparator_for_each_level_finds(levels, kind, seed):
    heights = tuple(torch.rand(len(levels), generator=torch.Generator().manual_seed(seed)).add(0.1).tolist())
    alphabet = rb.Alphabet(levels=tuple(sorted(levels)), heights=heights, signed=kind > 0, floor=kind == 2)
    at = torch.tensor([0.0, *alphabet.levels, *alphabet.letters, float("inf"), float("nan")])
    r = torch.cat([at, -at, torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 20])
    slow = torch.zeros(())
    for height, s in zip(alphabet.heights, alphabet.comparators(r), strict=True):
        slow = slow + height * s
    assert torch.equal(alphabet.fire(r), slow)


@given(seeds, exponents, st.integers(0, 2), st.integers(1, 6))
def test_every_law_of_a_signed_neuron_holds(seed, exponent, mantissa, steps):
    alphabet = rb.minifloat(exponent, mantissa, signed=True)
    neuron = Neuron(alphabet=alphabet, gate=rb.SentCharge(alphabet.letters))
    parts, xs = Tensors(torch.tensor(0.5), torch.tensor(0.0)), testing.dyadic(steps + 2, 2, 7, seed=seed)
    ys, m = rb.scan(neuron, parts, xs)
    assert torch.equal(ys.sum(0) + m.v, xs.sum(0))
    assert (ys.cumsum(0) >= 0).all()
    testing.carries_memory(neuron, parts, xs, [1, steps + 1])
    testing.keeps_scale(neuron, parts, xs, 0.25)


@pytest.mark.parametrize("levels", [(1.0, 2.0, 4.0), rb.minifloat(2, 2).letters])
def test_the_threshold_is_the_one_of_least_squared_error_for_uneven_levels(levels):
    values = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)).relu() * torch.tensor([[1.0], [5.0]])
    histogram = Histogram(2)
    histogram.add(values)
    top = rb.MinMSE(levels).fit(histogram, None, 0, levels[-1]) * levels[-1]

    def error(top: torch.Tensor) -> torch.Tensor:
        table = torch.tensor([0.0, *levels]) / levels[-1]
        return ((values[..., None] - table * top[..., None]).abs().amin(2) ** 2).mean(1)

    found = error(top.float()[:, None])
    for share in torch.linspace(0.05, 1, 40):
        assert (found <= error(values.amax(1, keepdim=True) * share) * 1.05).all()
    assert (found < 0.9 * error(1.5 * values.amax(1, keepdim=True))).all()


@given(st.integers(1, 40), seeds)
def test_even_levels_given_one_by_one_are_as_many_even_levels(levels, seed):
    histogram = Histogram(3)
    histogram.add(torch.randn(3, 500, generator=torch.Generator().manual_seed(seed)).relu())
    one = rb.MinMSE(levels).fit(histogram, None, 0)
    assert torch.equal(rb.MinMSE(tuple(range(1, levels + 1))).fit(histogram, None, 0), one)


@pytest.mark.parametrize("levels", [(), (0.0, 1.0), (2.0, 1.0), (1.0, 1.0), 0])
def test_levels_that_do_not_ascend_are_refused(levels):
    with pytest.raises(rb.SpecError, match="MinMSE"):
        rb.MinMSE(levels)


@pytest.mark.parametrize("bits", [(0, 2), (4, 1), (2, 5), (2, -1)])
def test_formats_out_of_range_are_refused(bits):
    with pytest.raises(rb.SpecError, match="minifloat"):
        rb.minifloat(*bits)


def net() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)]
    return nn.Sequential(*layers).eval(), torch.randn(64, 1, 8, 8)


def error(method: rb.Method, steps: int) -> float:
    ann, x = net()
    snn, _ = rb.convert(ann, method, [x])
    with torch.no_grad():
        answer, target = snn(rb.constant(x, steps=steps))[0][-1], ann(x)
    return float((answer - target).square().mean() / target.square().mean())


def test_few_large_activations_among_many_small_ones_lose_less_than_with_as_many_even_letters():
    values = -torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0)).clamp(min=1e-6).log()  # exponential
    histogram = Histogram(4)
    histogram.add(values)

    def lost(alphabet: rb.Alphabet) -> torch.Tensor:
        shift = 0.0 if alphabet.rounds else 0.5
        theta = rb.MinMSE(alphabet.levels_of(1)).fit(histogram, None, 0, alphabet.ceiling).float()[:, None]
        return (alphabet.fire(values / theta + shift) * theta - values).square().mean(1)

    assert (lost(rb.minifloat(2, 2)) < 0.75 * lost(rb.burst(15))).all()
    assert (lost(rb.minifloat(2, 2)) < 0.75 * lost(rb.minifloat(2, 1))).all()


@pytest.mark.parametrize("steps", [2, 4])
def test_more_steps_are_nearer(steps):
    assert error(rb.methods.minifloat(steps), steps) < 0.7 * error(rb.methods.minifloat(1), 1)


@pytest.mark.parametrize("letters", [rb.minifloat(2, 2), rb.power_of_two(4)])
def test_activations_of_both_signs_round_to_the_nearest_letter_at_the_first_step(letters):
    """Letters that round need no start: half a threshold before a GELU sent a letter where nothing came."""
    two = rb.Method(alphabet=letters).two_sided
    theta = torch.tensor(1.0)
    v0 = two.initial.fit(theta, (), torch.Generator())
    x = torch.linspace(-1.2, 1.2, 97)[None] * letters.ceiling
    ys, _ = rb.scan(two.neuron, Tensors(theta, v0), x)
    table = torch.tensor([0.0, *letters.letters, *(-a for a in letters.letters)])
    nearest = (x - table[:, None]).abs().amin(0)
    outside = x[0].abs() < letters.levels[0]  # powers of two: below the smallest cut nothing is sent
    assert torch.equal((x - ys).abs()[0].where(~outside, torch.zeros(())), nearest.where(~outside, torch.zeros(())))
    assert (ys[0][outside] == 0).all()


def test_distillation_asks_for_even_levels():
    with pytest.raises(rb.SpecError, match="even levels"):
        rb.Method(scale=rb.MinMSE((1.0, 2.0, 4.0)), initial=rb.Matched())
