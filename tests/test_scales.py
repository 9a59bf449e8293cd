"""Scales for few steps, Gaussian and clip balance: what each is the optimum or the limit of, and their symmetries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase.histogram import Histogram
from rheobase.scale import normal_top

ONE = torch.ones(1, dtype=torch.float64)
ratios, deviations, levels = st.floats(-2, 3), st.floats(0.1, 5), st.integers(1, 24)
SCALES = [rb.GaussianMSE(4), rb.Balance(), rb.Balance(updates=20, rate=0.5)]


def normal(mean: float, deviation: float, count: int = 200_001) -> Tensor:
    """Evenly spaced quantiles: a sample of a normal number without chance, float64."""
    p = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return mean + deviation * torch.special.ndtri(p)


def error(z: Tensor, top: float, count: int) -> float:
    rounded = (z * count / top + 0.5).floor().clamp(0, count) * top / count
    return float((rounded - z.clamp(min=0)).square().mean())


@given(ratios, deviations, levels)
def test_the_gaussian_top_is_where_the_squared_error_is_least_nearby(ratio, deviation, count):
    mean = ratio * deviation
    top = float(normal_top(mean * ONE, deviation * ONE, count))
    z = normal(mean, deviation)
    least = error(z, top, count)
    for other in (0.9, 0.97, 1.03, 1.1):
        assert least <= error(z, other * top, count) * 1.001


@pytest.mark.parametrize("top", [1.0, 3.0])
def test_another_top_than_the_gaussian_one_is_caught(top):
    z, best = normal(0.0, 1.0), float(normal_top(0 * ONE, ONE, 4))
    assert error(z, top, 4) > 1.05 * error(z, best, 4)


def test_one_level_of_a_centred_normal_number_has_a_closed_form():
    """`top = E[z; z > top / 2] / P(z > top / 2)`: the mean of the tail beyond half of itself."""
    top = float(normal_top(0 * ONE, ONE, 1))
    density = math.exp(-(top**2) / 8) / math.sqrt(2 * math.pi)
    assert top == pytest.approx(density / (math.erfc(top / 2 / math.sqrt(2)) / 2), rel=1e-9)


@given(ratios, deviations, levels, st.integers(-8, 8))
def test_the_gaussian_top_scales_with_its_numbers(ratio, deviation, count, power):
    mean = ratio * deviation
    top = normal_top(mean * ONE, deviation * ONE, count)
    scaled = normal_top(2.0**power * mean * ONE, 2.0**power * deviation * ONE, count)
    torch.testing.assert_close(scaled, 2.0**power * top, rtol=1e-6, atol=0)


def test_more_levels_reach_farther():
    tops = [float(normal_top(0 * ONE, ONE, count)) for count in (1, 2, 4, 8, 64)]
    assert tops == sorted(tops)


def test_moments_are_those_of_the_numbers_and_know_neither_order_nor_batches():
    z = torch.randn(3, 9000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [1.0], [9.0]]) + 0.5
    histogram, pieces, merged = Histogram(3), Histogram(3), Histogram(3)
    histogram.add_both(z)
    for piece in reversed(z.split(1234, 1)):
        pieces.add_both(piece)
        other = Histogram(3)
        other.add_both(piece)
        merged.merge(other)
    mean, deviation = histogram.moments()
    torch.testing.assert_close(mean.float(), z.mean(1), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(deviation.float(), z.std(1), rtol=2e-3, atol=0)
    for other in (pieces, merged):
        assert all(torch.equal(a, b) for a, b in zip(histogram.moments(), other.moments(), strict=True))
    assert torch.equal(histogram.layer().moments()[0].float(), mean.mean()[None].float())


def test_a_gaussian_scale_reads_the_pre_activation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    x = torch.randn(4000, 6)
    snn, _ = rb.convert(net, rb.Method(scale=rb.GaussianMSE(4), alphabet=rb.burst(2), initial=rb.Half()), [x])
    z = net[0](x).detach().double()
    expected = normal_top(z.mean(0), z.std(0), 4) / 2
    torch.testing.assert_close(snn.tensors("1").theta0.double(), expected, rtol=5e-3, atol=0)
    rectified = normal_top(z.clamp(min=0).mean(0), z.clamp(min=0).std(0), 4) / 2
    assert not torch.allclose(expected, rectified, rtol=0.05)  # so the statistics before the rectifier were read


def updated(values: Tensor, updates: int, rate: float) -> float:
    """The source's own update on all data at once, in steps small enough to follow the equation."""
    theta, small = 0.0, 50
    for _ in range(updates * small):
        theta += 2 * rate / small * float((values - theta).clamp(min=0).mean())
    return theta


@pytest.mark.parametrize("updates", [1, 7, 100])
@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_balance_is_where_small_updates_arrive(updates, rate):
    values = torch.randn(3000, generator=torch.Generator().manual_seed(2)).relu()
    histogram = Histogram(1)
    histogram.add(values[None])
    found = float(rb.Balance(updates=updates, rate=rate).fit(histogram, None, 0))
    assert found == pytest.approx(updated(values, updates, rate), rel=0.01)


def test_balance_of_two_values_has_a_closed_form():
    """Half zeros and half ones: `E[(a - theta)+] = (1 - theta) / 2`, so `theta = 1 - exp(-rate k)`."""
    histogram = Histogram(1)
    histogram.add(torch.tensor([[0.0, 1.0]]))
    for updates in (1, 2, 5):
        found = float(rb.Balance(updates=updates, rate=0.5).fit(histogram, None, 0))
        assert found == pytest.approx(1 - math.exp(-0.5 * updates), rel=4e-3)


def test_more_updates_come_nearer_to_the_maximum_and_never_beyond():
    histogram = Histogram(2)
    histogram.add(torch.rand(2, 5000, generator=torch.Generator().manual_seed(3)) * torch.tensor([[1.0], [7.0]]))
    thetas = torch.stack([rb.Balance(updates=n).fit(histogram, None, 0) for n in (1, 10, 100, 10_000, 10**9)])
    assert (thetas.diff(dim=0) >= 0).all()
    assert (thetas <= histogram.maximum).all()
    assert (thetas[-1] > 0.999 * histogram.maximum).all()


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_scale_divides_by_the_ceiling_and_fills_silent_channels(scale):
    values = torch.randn(3, 4000, generator=torch.Generator().manual_seed(4))
    values[1] = -1.0
    histogram = Histogram(3)
    histogram.add_both(values)
    theta0 = scale.fit(histogram, None, 0)
    assert torch.equal(scale.fit(histogram, None, 0, 4.0) * 4, theta0)
    assert theta0[1] == theta0.max()
    for power in (-3, 5):
        scaled = Histogram(3)
        scaled.add_both(values * 2.0**power)
        torch.testing.assert_close(scale.fit(scaled, None, 0), theta0 * 2.0**power, rtol=1e-6, atol=0)
    silent = Histogram(1)
    silent.add_both(torch.zeros(1, 5))
    with pytest.raises(rb.ConversionError, match="every activation is 0"):
        scale.fit(silent, None, 0)


@pytest.mark.parametrize(
    "nonsense", [lambda: rb.GaussianMSE(0), lambda: rb.Balance(updates=0), lambda: rb.Balance(rate=0.0)]
)
def test_scales_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(rb.SpecError):
        nonsense()
