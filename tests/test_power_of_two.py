"""One signed event worth a power of two: it rounds, it takes back what was sent, it lowers to binary spikes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import Neuron, Tensors, testing

seeds, sizes, steps = st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 12)


def neuron(n: int) -> Neuron:
    alphabet = rb.power_of_two(n)
    return Neuron(alphabet=alphabet, gate=rb.SentCharge(alphabet.letters))


def parts(theta0: float = 1.0) -> Tensors:
    return Tensors(torch.tensor(theta0), torch.tensor(0.0))


@given(sizes, st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=30))
def test_a_letter_is_the_power_of_two_whose_cut_was_reached(n, r):
    letters = rb.power_of_two(n).fire(torch.tensor(r))
    for value, letter in zip(r, letters.tolist(), strict=True):
        expected = max((2.0**-i for i in range(n) if abs(value) >= 0.75 * 2.0**-i), default=0.0)
        assert abs(letter) == expected
        assert letter == 0 or (letter > 0) == (value > 0)


@given(sizes)
def test_no_other_letter_is_nearer(n):
    alphabet = rb.power_of_two(n)
    r = torch.arange(-160, 161) / 128
    nearest = torch.tensor([0.0, *alphabet.letters, *(-a for a in alphabet.letters)])
    least = (r[:, None] - nearest).abs().amin(1)
    got = (r - alphabet.fire(r)).abs()
    least = least.where(r.abs() >= 0.75 * alphabet.unit, r.abs())  # below the smallest cut nothing is sent
    assert torch.equal(got, least)


@pytest.mark.parametrize("wrong", [0.5, 1.0])
def test_another_cut_is_not_the_nearest(wrong):
    alphabet = rb.power_of_two(3)
    other = rb.Alphabet(levels=tuple(wrong * a for a in alphabet.letters), heights=alphabet.heights, signed=True)
    r = torch.arange(25, 161) / 128
    assert (r - alphabet.fire(r)).abs().sum() < (r - other.fire(r)).abs().sum()


@given(seeds, sizes, steps)
def test_every_law_of_a_signed_neuron_holds(seed, n, t):
    xs = testing.dyadic(t + 2, 2, 7, seed=seed)
    ys, m = rb.scan(neuron(n), parts(), xs)
    assert torch.equal(ys.sum(0) + m.v, xs.sum(0))
    assert (ys.cumsum(0) >= 0).all()
    assert torch.equal(ys.sum(0), m.gate[0])
    assert set(ys.abs().unique().tolist()) <= {0.0, *rb.power_of_two(n).letters}
    testing.carries_memory(neuron(n), parts(), xs, [1, t + 1])
    testing.keeps_scale(neuron(n), parts(), xs, 0.25)


def test_a_gate_without_the_letters_sends_what_is_no_letter_and_is_caught():
    """The floor of what was sent lets a letter of 1/2 take back 1/2, but stops one of 1 only to a whole number."""
    xs = torch.tensor([0.5, -2.0]).reshape(2, 1, 1)
    wrong = Neuron(alphabet=rb.power_of_two(2), gate=rb.SentCharge())
    ys, _ = rb.scan(wrong, parts(), xs)
    assert float(ys.sum()) == 0.5
    assert float(rb.scan(neuron(2), parts(), xs)[0].sum()) == 0.0


@given(seeds, sizes)
def test_lowered_to_spikes_of_one_size_a_letter_is_the_same_charge(seed, n):
    """Each letter as `letter / unit` spikes of either sign worth theta * unit: the same sum after the same steps."""
    alphabet = rb.power_of_two(n)
    xs = testing.dyadic(6, 2, 9, seed=seed)
    ys, _ = rb.scan(neuron(n), parts(), xs)
    spikes = ys / alphabet.unit
    assert torch.equal(spikes, spikes.round())
    most = round(alphabet.ceiling / alphabet.unit)
    unrolled = torch.stack([spikes.sign() * (spikes.abs() > k) for k in range(most)], 1).flatten(0, 1)
    assert set(unrolled.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert torch.equal(unrolled.unflatten(0, (len(xs), most)).sum(1) * alphabet.unit, ys)


@given(st.integers(1, 6))
def test_the_unit_divides_every_letter(n):
    for alphabet in (
        rb.burst(n),
        rb.power_of_two(n),
        rb.signed(n),
        rb.Alphabet(levels=(1.0, 2.0), heights=(0.75, 0.5)),
    ):
        multiples = torch.tensor(alphabet.letters) / alphabet.unit
        assert torch.equal(multiples, multiples.round())
    assert rb.burst(n).unit == 1.0
    assert rb.power_of_two(n).unit == 2.0 ** (1 - n)


def made() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 4)).eval(), torch.randn(20, 1, 8, 8)


def test_the_ledger_prices_a_letter_by_the_smallest_and_an_event_as_one():
    net, x = made()
    alphabet = rb.power_of_two(4)
    method = rb.Method(scale=rb.Max(), alphabet=alphabet, gate=rb.SentCharge(alphabet.letters))
    snn, _ = rb.convert(net, method, [x])
    spikes = events = 0.0

    def see(seen) -> None:
        nonlocal spikes, events
        if seen.emission is not None:
            spikes += float(seen.emission.letters.abs().sum()) * 8
            events += float((seen.emission.letters != 0).sum())

    with torch.no_grad():
        snn.run(rb.constant(x, 6), None, see)
    curve = rb.evaluate(snn, [(x, torch.zeros(20, dtype=torch.long))], 6)
    assert curve.spikes[-1] * 20 == pytest.approx(spikes)
    assert curve.events[-1] * 20 == pytest.approx(events)
    assert curve.graded[-1] == 0
    assert curve.acs[-1] >= curve.spikes[-1]
    ys, _ = snn(rb.constant(x, 256))
    torch.testing.assert_close(ys[-1], net(x), atol=0.02, rtol=0.02)
