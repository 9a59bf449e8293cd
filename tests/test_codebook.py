"""Letters of a table: where Lloyd's quantiser puts them, their cuts, and the method of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase.lloyd import SHAPE, lloyd
from test_minifloat import error, net

GRID = torch.linspace(0, 12, 120_001, dtype=torch.float64)
DENSITY = torch.exp(-(GRID**SHAPE))
sizes = st.integers(2, 31)


def lost(letters: Tensor) -> float:
    """The mean squared error of rounding to the letters and 0, summed over a grid."""
    table = torch.cat([letters.new_zeros(1), letters])
    cuts = (table[1:] + table[:-1]) / 2
    off = GRID - table[torch.bucketize(GRID, cuts)]
    return float((off.square() * DENSITY).sum() / DENSITY.sum())


def least(letters: tuple[float, ...]) -> tuple[float, Tensor]:
    """The least error of the letters over all units, and the letters in it."""
    table = torch.tensor(letters, dtype=torch.float64)
    errors = {unit: lost(table * unit) for unit in torch.logspace(-2.5, 0.5, 301, dtype=torch.float64).tolist()}
    unit = min(errors, key=errors.__getitem__)
    return errors[unit], table * unit


@pytest.mark.parametrize("k", [2, 3, 7, 15, 31])
def test_no_letter_is_better_anywhere_else(k):
    error, letters = least(lloyd(k))
    quarter = 0.25 * float(letters[0])
    for i in range(k):
        for way in (-1, 1):
            moved = letters.clone()
            moved[i] += way * 2 * quarter
            assert lost(moved) > 0.999 * error


@pytest.mark.parametrize(("k", "share"), [(3, 0.92), (7, 0.85), (15, 0.8)])
def test_less_is_lost_than_with_as_many_even_letters(k, share):
    assert least(lloyd(k))[0] < share * least(tuple(map(float, range(1, k + 1))))[0]


def test_less_is_lost_than_with_small_floats():
    assert least(lloyd(15))[0] < 0.95 * least(rb.minifloat(2, 2).letters)[0]


@given(sizes, st.booleans(), st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30))
def test_no_other_letter_is_nearer(k, both, r):
    alphabet, r = rb.codebook(k, signed=both), torch.tensor(r)
    letters = torch.tensor([0.0, *alphabet.letters, *(-a for a in alphabet.letters if both)])
    sent = alphabet.fire(r)
    assert torch.equal((r - sent).abs(), (r[:, None] - letters).abs().amin(1))
    assert set(sent.tolist()) <= set(letters.tolist())


@given(sizes, st.booleans())
def test_letters_are_quarters_of_the_first_and_say_what_they_are(k, both):
    alphabet = rb.codebook(k, signed=both)
    assert alphabet.letters[0] == 1
    assert all((4 * letter).is_integer() for letter in alphabet.letters)
    assert eval(repr(alphabet), {"codebook": rb.codebook, "minifloat": rb.minifloat}) == alphabet


@pytest.mark.parametrize("k", [0, 1, 32])
def test_sizes_out_of_range_are_refused(k):
    with pytest.raises(rb.SpecError, match="codebook"):
        rb.codebook(k)


def test_a_network_loses_less_than_with_even_letters():
    assert error(rb.methods.codebook(1, 15), 1) < 0.9 * error(rb.methods.best(1, 15), 1)


@pytest.mark.parametrize("steps", [2, 4])
def test_more_steps_are_nearer(steps):
    assert error(rb.methods.codebook(steps, 7), steps) < 0.7 * error(rb.methods.codebook(1, 7), 1)


def test_a_method_without_steps_is_refused():
    with pytest.raises(rb.SpecError, match="step"):
        rb.methods.codebook(0)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_compiled_it_answers_as_the_law(precision):
    ann, x = net()
    snn, _ = rb.convert(ann, rb.methods.codebook(1, 15), [x])
    fast = rb.compile(snn, x, precision=precision)
    with torch.no_grad():
        answer, target = (one(rb.constant(x, steps=1))[0][-1] for one in (fast, fast.net))
    assert (answer - target).abs().max() <= 1e-5 * target.abs().max()


def test_lowered_it_is_the_same_sums():
    ann, x = net()
    snn, _ = rb.convert(ann, rb.methods.codebook(1, 3), [x])
    low = rb.lower(snn)
    with torch.no_grad():
        binary, letters = low(rb.constant(x, steps=low.block))[0][-1], snn(rb.constant(x, steps=1))[0][-1]
    assert (binary - letters).abs().max() <= 1e-4 * letters.abs().max()
