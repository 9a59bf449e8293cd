"""The parts one by one: histogram, scales, starts, alphabets, the gate's random numbers, the activations, specs."""

from __future__ import annotations

import json
import math
from dataclasses import is_dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase.gate import uniform
from rheobase.histogram import Histogram
from rheobase.spec import _KINDS, from_json, to_json

seeds = st.integers(0, 2**32 - 1)
BIN = 2.0**-8  # relative width of a bin


def activations(channels: int, count: int, seed: int = 0) -> Tensor:
    """Rectified normal numbers, half of them zero, of another scale in each channel."""
    values = torch.randn(channels, count, generator=torch.Generator().manual_seed(seed))
    return values.relu() * torch.logspace(-1, 1, channels)[:, None]


def counted(*batches: Tensor) -> Histogram:
    histogram = Histogram(len(batches[0]))
    for batch in batches:
        histogram.add(batch)
    return histogram


def same(a: Histogram, b: Histogram) -> bool:
    return torch.equal(a.counts, b.counts) and torch.equal(a.maximum, b.maximum)


# Histogram


@given(seeds, st.integers(1, 4), st.integers(2, 300), st.data())
def test_a_histogram_knows_neither_the_order_nor_the_batches_nor_the_process(seed, channels, count, data):
    values = activations(channels, count, seed)
    whole = counted(values)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    cut = data.draw(st.integers(1, count - 1))
    assert same(whole, counted(values[:, order]))
    assert same(whole, counted(*values.split(cut, 1)))
    assert same(whole, counted(*reversed(values[:, order].split(cut, 1))))
    merged = counted(values[:, :cut])
    merged.merge(counted(values[:, cut:]))
    assert same(whole, merged)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_a_histogram_of_another_dtype_is_that_of_its_numbers(dtype):
    values = activations(3, 500).to(dtype)
    assert same(counted(values), counted(values.float()))


def test_a_histogram_of_device_tensors_is_that_of_the_host(device):
    assert same(counted(activations(3, 5000).to(device)), counted(activations(3, 5000)))


@pytest.mark.parametrize("p", [0.5, 10.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99])
def test_a_quantile_is_that_of_torch_within_the_width_of_a_bin(p):
    values = torch.rand(3, 100_000, generator=torch.Generator().manual_seed(1)) * torch.tensor([[0.1], [1.0], [300.0]])
    got, expected = counted(values).quantile(p), torch.quantile(values, p / 100, dim=1)
    gap = values.amax(1) * 2e-4  # and of the gaps between neighbours, which the two place half a rank apart
    assert ((got - expected).abs() <= BIN * expected + gap).all()


@given(seeds, st.floats(0.1, 100), st.integers(1, 60))
def test_a_quantile_lies_within_a_bin_of_the_value_of_its_rank(seed, p, count):
    values = torch.rand(1, count, generator=torch.Generator().manual_seed(seed)) + 0.01
    ranked = values.sort().values[0]
    rank = max(0, math.ceil(count * (p / 100)) - 1)
    assert float(counted(values).quantile(p)) == pytest.approx(float(ranked[rank]), rel=BIN)


def test_a_quantile_rises_with_p_and_ends_at_the_exact_maximum():
    values = activations(2, 10_000, 5)
    histogram = counted(values)
    quantiles = torch.stack([histogram.quantile(float(p)) for p in (1, 10, 49, 51, 60, 80, 99, 99.9, 99.999, 100)])
    assert (quantiles.diff(dim=0) >= 0).all()
    assert torch.equal(quantiles[-1], values.amax(1))
    assert (quantiles <= values.amax(1)).all()


def test_a_quantile_among_zeros_is_zero():
    values = torch.cat([torch.zeros(1, 900), torch.ones(1, 100)], 1)
    histogram = counted(values)
    assert float(histogram.quantile(95.0)) == pytest.approx(1, rel=BIN)
    assert float(histogram.quantile(50.0)) == 0


def test_negative_numbers_and_zeros_lie_below_every_positive_one():
    histogram = counted(torch.tensor([[-3.0, -torch.inf, -0.0, 0.0, 2.0**-30, 1.0, 1.0, 1.0]]))
    assert int(histogram.counts[0, 0]) == 5
    assert int(histogram.counts.sum()) == 8
    assert float(histogram.share_above(torch.tensor([0.5]))) == 3 / 8
    assert float(counted(torch.tensor([[-3.0, -1.0]])).quantile(100.0)) == -1


def test_an_infinite_activation_is_counted_and_is_the_maximum():
    histogram = counted(torch.tensor([[1.0, torch.inf, 1.0, 1.0]]))
    assert float(histogram.quantile(100.0)) == math.inf
    assert float(histogram.quantile(50.0)) == pytest.approx(1, rel=BIN)
    assert float(histogram.share_above(torch.tensor([100.0]))) == 0.25


@pytest.mark.parametrize("value", [2.0**-24, 1e-3, 1.0, 1.5, 2.0, 1000.0])
def test_a_number_lies_in_a_bin_that_holds_it(value):
    histogram = counted(torch.tensor([[value, value, 2e4 * value]]))
    assert float(histogram.quantile(50.0)) == pytest.approx(value, rel=BIN)
    assert float(histogram.share_above(torch.tensor([value * (1 + 2 * BIN)]))) == pytest.approx(1 / 3)
    assert float(histogram.share_above(torch.tensor([value * (1 - 2 * BIN)]))) == pytest.approx(1)


def test_a_number_beyond_the_last_bin_is_still_above_what_it_is_above():
    histogram = counted(torch.tensor([[1.0, 1e9, 1e9, 1e10]]))
    assert float(histogram.share_above(torch.tensor([1e7]))) == pytest.approx(0.75)
    assert float(histogram.share_above(torch.tensor([1e8]))) == pytest.approx(0.75, rel=0.02)
    assert float(histogram.quantile(70.0)) >= 1e9


@given(seeds, st.floats(0.05, 3))
def test_the_share_above_a_threshold_is_the_count_to_within_one_bin(seed, theta):
    values = activations(2, 4000, seed)
    got = counted(values).share_above(torch.tensor([theta]))
    low, high = ((values > theta * factor).double().mean(1) for factor in (1 + BIN, 1 - BIN))
    assert ((got >= low - 1e-6) & (got <= high + 1e-6)).all()


def test_nothing_lies_above_the_maximum():
    values = activations(3, 1000)
    histogram = counted(values)
    assert (histogram.share_above(values.amax(1)) == 0).all()
    assert (histogram.share_above(0.99 * values.amax(1)) > 0).all()


def test_a_layer_is_its_channels_together():
    values = activations(4, 300)
    assert same(counted(values).layer(), counted(values.reshape(1, -1)))


def test_more_than_two_to_the_24_numbers_are_counted_one_by_one():
    """torch.quantile stops at 2^24, and float32 counters do at the same number."""
    values = torch.ones(1, 2**22)
    histogram = counted(*[values] * 5, torch.full((1, 3), 3.0))
    assert int(histogram.counts.sum()) == 5 * 2**22 + 3
    assert float(histogram.share_above(torch.tensor([2.0]))) == pytest.approx(3 / (5 * 2**22 + 3), rel=1e-6)
    assert float(histogram.quantile(99.0)) == pytest.approx(1, rel=BIN)


# Scales


def test_max_is_the_largest_activation_of_the_layer_or_of_each_channel():
    values = activations(4, 200)
    assert float(rb.Max().fit(counted(values).layer(), None, 0)) == values.max()
    assert torch.equal(rb.Max(channelwise=True).fit(counted(values), None, 0), values.amax(1))
    assert torch.equal(rb.Percentile(100.0).fit(counted(values), None, 0), values.amax(1))


def test_a_silent_channel_takes_the_largest_threshold_of_its_layer():
    values = activations(4, 200)
    values[1] = 0
    theta0 = rb.Max(channelwise=True).fit(counted(values), None, 0)
    assert theta0.tolist() == [values[0].max(), values.max(), values[2].max(), values[3].max()]


def test_a_channel_that_is_silent_up_to_the_percentile_takes_that_of_its_layer():
    values = torch.rand(3, 1000, generator=torch.Generator().manual_seed(1)) + 0.5
    values[1, 20:] = 0
    values[2] = 0
    scale = rb.Percentile(90.0, channelwise=True)
    theta0 = scale.fit(counted(values), None, 0)
    layer = counted(values).layer().quantile(90.0)
    assert float(theta0[0]) == pytest.approx(1.4, rel=0.02)
    assert torch.equal(theta0[1:], layer.expand(2))


def test_a_layer_that_is_silent_up_to_the_percentile_has_no_percentile_to_scale_by():
    """Its 50th percentile is 0, and no threshold is 0: an error, never a threshold of 1e-8."""
    values = torch.cat([torch.zeros(1, 90), torch.ones(1, 10)], 1)
    with pytest.raises(rb.ConversionError, match="try:"):
        rb.Percentile(50.0).fit(counted(values), None, 0)


@pytest.mark.parametrize("scale", [rb.Max(), rb.Percentile(99.0), rb.Learned(), rb.Max(channelwise=True)], ids=str)
def test_a_dead_layer_has_no_scale(scale):
    with pytest.raises(rb.ConversionError, match="Given"):
        scale.fit(counted(torch.zeros(2, 10)), None, 0)


def test_a_given_threshold_is_the_same_everywhere_or_one_for_each_activation():
    histogram = counted(activations(1, 10))
    assert rb.Given(2.5).fit(histogram, None, 7).tolist() == [2.5]
    assert [rb.Given((1.0, 2.0)).fit(histogram, None, i).item() for i in (0, 1)] == [1.0, 2.0]
    with pytest.raises(rb.ConversionError, match="2 thresholds"):
        rb.Given((1.0, 2.0)).fit(histogram, None, 2)


def test_a_learned_threshold_is_the_bound_and_otherwise_what_was_said():
    histogram = counted(activations(1, 1000))
    assert rb.Learned().fit(histogram, 6.0, 0).tolist() == [6.0]
    assert torch.equal(rb.Learned(otherwise=rb.Max()).fit(histogram, None, 0), rb.Max().fit(histogram, None, 0))
    assert rb.Learned(otherwise=rb.Max(channelwise=True)).channelwise
    assert not rb.Learned(otherwise=rb.Given(1.0)).channelwise


# Starts


def test_a_uniform_start_is_drawn_for_each_neuron_between_zero_and_its_theta():
    theta = torch.tensor([0.5, 3.0]).reshape(2, 1, 1)
    draw = rb.Uniform().fit(theta, (2, 50, 50), torch.Generator().manual_seed(1))
    assert draw.shape == (2, 50, 50)
    assert (draw >= 0).all()
    assert (draw < theta).all()
    for channel, top in zip(draw, (0.5, 3.0), strict=True):
        assert channel.mean() == pytest.approx(top / 2, rel=0.05)
        assert channel.std() == pytest.approx(top / math.sqrt(12), rel=0.05)
    assert torch.equal(draw, rb.Uniform().fit(theta, (2, 50, 50), torch.Generator().manual_seed(1)))
    assert not torch.equal(draw, rb.Uniform().fit(theta, (2, 50, 50), torch.Generator().manual_seed(2)))


# Alphabets


@pytest.mark.parametrize(
    ("levels", "heights"),
    [((), ()), ((1.0,), (1.0, 1.0)), ((2.0, 1.0), (1.0, 1.0)), ((0.0,), (1.0,)), ((1.0, 1.0), (1.0, 1.0)),
     ((1.0,), (0.0,)), ((1.0,), (-1.0,)), ((math.nan,), (1.0,)), ((-1.0, 1.0), (1.0, 1.0))],
)  # fmt: skip
def test_a_table_that_is_no_alphabet_is_refused(levels, heights):
    with pytest.raises(rb.SpecError):
        rb.Alphabet(levels=levels, heights=heights)


def test_a_burst_of_nothing_is_refused_and_the_ceiling_is_the_largest_letter():
    with pytest.raises(rb.SpecError, match=r"burst\(1\)"):
        rb.burst(0)
    table = rb.Alphabet(levels=(0.5, 2.0), heights=(0.25, 1.5))
    for alphabet in (rb.burst(4), table):
        assert alphabet.fire(torch.tensor([1e30, math.inf])).tolist() == [alphabet.ceiling] * 2
        assert alphabet.fire(torch.tensor([-1e30, -math.inf, 0.0])).tolist() == [0, 0, 0]


@given(st.integers(1, 6), seeds)
def test_a_letter_never_falls_as_the_potential_rises(k, seed):
    r = torch.randn(100, generator=torch.Generator().manual_seed(seed)).mul(4).sort().values
    for alphabet in (rb.burst(k), rb.Alphabet(levels=(0.3, 0.9, 4.0), heights=(0.1, 2.0, 1.0))):
        assert (alphabet.fire(r).diff() >= 0).all()


# The gate's random numbers


def splitmix(key: int, t: int, position: int) -> float:
    """The same numbers in Python's own integers."""
    mask = 2**64 - 1
    z = ((position + 1) * 0x9E3779B97F4A7C15 + (t + 1) * 0xD1B54A32D192ED03 + key) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 40) / 2**24


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6))
def test_random_numbers_are_splitmix_of_key_step_and_position(key, t):
    got = uniform(torch.tensor(key), torch.tensor(t), torch.Size((3, 4)), torch.device("cpu"))
    assert got.flatten().tolist() == [splitmix(key, t, position) for position in range(12)]


def test_random_numbers_are_the_same_on_every_device(device):
    shape, key, t = torch.Size((7, 33)), torch.tensor(-5), torch.tensor(3)
    got = uniform(key.to(device), t.to(device), shape, device).cpu()
    assert torch.equal(got, uniform(key, t, shape, torch.device("cpu")))


@pytest.mark.parametrize("key", [0, 1, -1, 2**62, 123456789])
def test_random_numbers_are_uniform_and_unrelated_between_keys_steps_and_neighbours(key):
    n = 100_000
    draws = torch.stack(
        [
            uniform(torch.tensor(k), torch.tensor(t), torch.Size((n,)), torch.device("cpu"))
            for k, t in ((key, 0), (key, 1), (key, 2), (key + 1, 0))
        ]
    ).double()
    assert (draws >= 0).all()
    assert (draws < 1).all()
    for row in draws:
        counts = torch.histc(row, 100, 0, 1)
        assert 40 < float(((counts - n / 100) ** 2 / (n / 100)).sum()) < 190  # chi squared with 99 degrees of freedom
    related = torch.corrcoef(torch.cat([draws, draws[:1].roll(1, 1), draws[:1].roll(32, 1)])) - torch.eye(6)
    assert related.abs().max() < 5 / math.sqrt(n)


# The activations


def bounded(bound: float = 2.0) -> list[rb.Clip | rb.QCFS]:
    return [rb.Clip(bound), rb.QCFS(4, bound), rb.QCFS(1, bound)]


def grad(leaf: Tensor) -> list[float]:
    assert leaf.grad is not None
    return leaf.grad.flatten().tolist()


@pytest.mark.parametrize("bound", [1e-3, 0.1, 1.0, 4.0, 8.0, 100.0])
def test_the_bound_is_the_one_that_was_asked_for(bound):
    for module in bounded(bound):
        assert float(module.bound.detach()) == pytest.approx(bound, rel=1e-5)


def test_clip_is_clip_and_its_gradients_are_one_below_the_bound_and_the_count_above():
    clip = rb.Clip(2.0).double()
    bound = float(clip.bound.detach())
    z = torch.tensor([-3.0, -0.1, 0.1, 1.0, 1.9, 2.1, 5.0], dtype=torch.float64, requires_grad=True)
    a = clip(z)
    torch.testing.assert_close(a, z.clamp(0, bound))
    a.sum().backward()
    assert grad(z) == [0, 0, 1, 1, 1, 0, 0]
    assert grad(clip.raw) == pytest.approx([2 * torch.sigmoid(clip.raw).item()])


def test_at_the_bound_itself_the_gradient_of_clip_goes_to_the_bound():
    clip = rb.Clip(2.0).double()
    z = clip.bound.detach().clone().requires_grad_()
    clip(z).backward()
    assert grad(z) == [0]
    assert grad(clip.raw) == pytest.approx([torch.sigmoid(clip.raw).item()])


@given(seeds, st.floats(0.2, 5))
def test_the_gradients_of_clip_are_its_finite_differences(seed, bound):
    clip = rb.Clip(bound).double()
    z = 2 * bound * torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for kink in (0.0, float(clip.bound.detach())):
        z = z[(z - kink).abs() > 1e-3]
    z.requires_grad_()

    def moved(z: Tensor, raw: Tensor) -> Tensor:
        return torch.func.functional_call(clip, {"raw": raw}, (z,))

    raw = clip.raw.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(moved, (z, raw), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("levels", [1, 2, 4, 7])
def test_qcfs_is_a_staircase_that_is_right_to_half_a_step_and_clips(levels):
    qcfs = rb.QCFS(levels, 2.0).double()
    bound, z = float(qcfs.bound.detach()), torch.linspace(-1, 3, 999, dtype=torch.float64)
    a = qcfs(z).detach()
    torch.testing.assert_close(a * levels / bound, (a * levels / bound).round(), rtol=0, atol=1e-12)
    assert ((a - z.clamp(0, bound)).abs() <= bound / levels / 2 + 1e-12).all()
    assert (a[z < 0] == 0).all()
    torch.testing.assert_close(a[z > bound], torch.full_like(a[z > bound], bound))
    assert len(a.unique()) >= levels + 1


@pytest.mark.parametrize("levels", [1, 4, 7])
def test_the_gradient_of_qcfs_passes_its_floor_straight_and_moves_the_bound_by_what_it_rounds(levels):
    """`da/dz = 1` inside and 0 outside; `da/dlambda = (a - z) / lambda` inside, 1 above, 0 below."""
    qcfs = rb.QCFS(levels, 2.0).double()
    bound = float(qcfs.bound.detach())
    for at in (-1.0, -0.01, 0.3, 0.77, 1.3, 1.99, 2.01, 7.0):
        z = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        qcfs.zero_grad()
        a = qcfs(z)
        a.backward()
        inside = 0 <= at <= bound
        assert grad(z) == pytest.approx([1.0 if inside else 0.0])
        by_bound = (a.item() - at) / bound if inside else float(at > bound)
        assert grad(qcfs.raw) == pytest.approx([by_bound * torch.sigmoid(qcfs.raw).item()], abs=1e-12)


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam, torch.optim.Adagrad])
@pytest.mark.parametrize("rate", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_bound_stays_positive_and_the_answer_finite_after_any_optimiser_step(optimiser, rate, sign):
    z = torch.linspace(-1, 9, 2000)
    for module in bounded():
        steps = optimiser(module.parameters(), lr=rate)
        for _ in range(5):
            steps.zero_grad()
            (sign * module(z).sum()).backward()
            steps.step()
            assert float(module.bound.detach()) > 0
            assert module(z).isfinite().all()


@given(st.floats(-1e6, 1e6, width=32))
def test_the_bound_is_positive_whatever_the_parameter(raw):
    for module in bounded():
        with torch.no_grad():
            module.raw.fill_(raw)
        assert float(module.bound.detach()) > 0
        assert module(torch.tensor([-1.0, 0.0, 0.5, 1e3])).isfinite().all()


def test_printing_an_activation_does_not_warn():
    torch.set_warn_always(True)
    try:
        for module in bounded():
            assert "bound=2" in repr(module)
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("make", [rb.Clip, lambda b: rb.QCFS(4, b)], ids=["clip", "qcfs"])
@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_that_is_not_positive_is_refused(make, bound):
    with pytest.raises(rb.SpecError, match="bound"):
        make(bound)


def test_qcfs_without_levels_is_refused():
    with pytest.raises(rb.SpecError, match="level"):
        rb.QCFS(levels=0)


# Specs

positive = st.floats(1e-3, 1e3)
share = st.floats(0, 1)
inverses = st.builds(rb.Reciprocal, positive) | st.builds(rb.Exponential, positive) | st.builds(rb.Ramp, positive)
plain = st.one_of(
    st.builds(rb.Max, channelwise=st.booleans()),
    st.builds(rb.Percentile, st.floats(0.1, 100), st.booleans()),
    st.builds(rb.Given, positive | st.lists(positive, min_size=1, max_size=4).map(tuple)),
)
plain |= st.builds(rb.GaussianMSE, st.integers(1, 64), st.booleans()) | st.builds(rb.Balance)
plain |= st.builds(rb.Fitted, st.integers(1, 64), st.booleans())
scales = plain | st.builds(rb.Learned, plain) | st.builds(rb.MinMSE, st.integers(1, 64), st.booleans())
scales |= st.builds(rb.MinMSE, st.sets(positive, min_size=1).map(sorted).map(tuple))
msat = st.builds(
    rb.MSAT, alpha=share, k_a=share, k_i=positive, C=positive, tau_mp=positive, tau_rd=share, normalised=st.booleans(),
    guard=st.floats(1e-6, 0.5),
)  # fmt: skip
thresholds = st.one_of(
    st.builds(rb.Fixed, positive),
    msat,
    st.builds(rb.DTIF, inverse=inverses, rho=st.floats(0.01, 1), graded=st.booleans()),
)
starts = st.sampled_from([rb.Zero(), rb.Half(), rb.Uniform()])
alphabets = st.integers(1, 6).map(rb.burst) | st.builds(
    lambda levels, height: rb.Alphabet(levels=tuple(sorted(levels)), heights=(height,) * len(levels)),
    st.sets(positive, min_size=1, max_size=4),
    positive,
)
alphabets |= st.builds(rb.signed, st.integers(1, 6), floor=st.booleans())
alphabets |= st.builds(rb.parallel, st.integers(1, 4), st.sampled_from(["equal", "binary"]))
alphabets |= st.builds(rb.codebook, st.integers(2, 31), signed=st.booleans())
alphabets |= st.builds(rb.minifloat, st.integers(1, 3), st.integers(0, 4), signed=st.booleans())
alphabets |= st.builds(rb.power_of_two, st.integers(1, 10))
alphabets |= st.builds(rb.cascade, st.integers(1, 4), st.sampled_from(["equal", "binary"]), hard=st.booleans())
resets = st.builds(rb.Subtract, detach=st.booleans())
resets |= st.builds(rb.ToValue, st.floats(-5, 5), st.sampled_from(["first", "full"]), st.booleans())
gates = st.sampled_from([rb.Open()]) | st.builds(rb.SpikeConfidence, steps=st.integers(1, 99), last_only=st.booleans())
leaks = st.builds(rb.Leak, share)
leaks |= st.builds(rb.Decay, st.floats(1, 9), share) | st.builds(rb.LearnedDecay, st.floats(1.01, 9), share)
surrogates = st.one_of(
    *[st.builds(kind, positive) for kind in (rb.Rectangular, rb.Polynomial, rb.Gaussian, rb.ATan, rb.Sigmoid)]
)
neurons = st.builds(
    rb.Neuron, threshold=thresholds, alphabet=alphabets, reset=resets, gate=gates, leak=leaks,
    surrogate=st.none() | surrogates,
)  # fmt: skip
neurons |= st.just(rb.Neuron(alphabet=rb.ternary, gate=rb.SentCharge()))
methods = st.builds(
    rb.Method, scale=scales, threshold=thresholds, initial=starts, alphabet=alphabets, reset=st.just(rb.Subtract()),
    gate=gates, leak=st.just(rb.Leak()),
)  # fmt: skip
corrections = st.just(rb.Uncorrected()) | st.builds(rb.StepBias, st.integers(1, 9))
corrections |= st.builds(rb.ChannelBias, st.integers(1, 9)) | st.builds(rb.NeuronStart, st.integers(1, 9))
methods |= st.builds(
    rb.Method, scale=scales, alphabet=st.builds(rb.signed, st.integers(1, 6), floor=st.booleans()),
    gate=st.just(rb.SentCharge()), correction=corrections,
)  # fmt: skip
tunings = st.just(rb.Untuned()) | st.builds(
    rb.Distilled, st.integers(1, 99), positive, share, st.integers(1, 99), share
)
methods |= st.builds(
    rb.Method, scale=st.builds(rb.Fitted, st.integers(1, 9)), initial=st.just(rb.Matched()), tuning=tunings
)
rehearsals = (
    st.just(rb.Unrehearsed()) | st.builds(rb.Residual, st.integers(1, 9)) | st.builds(rb.COS, st.integers(1, 9))
)
thresholds |= st.sampled_from([rb.Radix(steps=4), rb.Radix(steps=2, base=16)])
methods |= st.builds(rb.methods.radix, st.integers(1, 6), st.sampled_from([1, 3, 7, 15]))
links = st.sampled_from([rb.Rate(), rb.Differential(), rb.Wait()])
searches = st.sampled_from([rb.Candidate(), rb.Candidate(letters=1), rb.Goal(), rb.Goal(max_drop=0.02), rb.Delayed(3)])
costs = st.builds(rb.Costs, mac=positive, ac=positive, graded=positive, source=st.text(max_size=9))
exits = st.builds(rb.EarlyExit, confidence=st.floats(0.01, 1), first=st.integers(1, 9))
NAMES = ("Curve", "ConversionReport", "Preflight", "Certificate", "Diagnosis", "Prediction", "Choice")
RESULTS = [getattr(rb, name) for name in NAMES]  # records of what came out, not choices
PUBLIC = [c for c in map(vars(rb).get, rb.__all__) if isinstance(c, type) and is_dataclass(c) and c not in RESULTS]
EVERY = [
    scales, inverses, thresholds, starts, alphabets, resets, gates, leaks, neurons, methods, corrections, costs, exits,
    surrogates, rehearsals, links, searches, tunings,
]  # fmt: skip


@given(st.one_of(EVERY))
@example(rb.Neuron(threshold=rb.DTIF(inverse=rb.Ramp(2.0))))
def test_every_spec_round_trips_through_json_and_its_print_is_the_line_to_write(spec):
    assert from_json(json.loads(json.dumps(to_json(spec)))) == spec
    assert eval(repr(spec), dict(vars(rb))) == spec
    assert hash(from_json(to_json(spec))) == hash(spec)


def test_these_are_all_public_specs():
    """Whoever adds a spec adds it to EVERY."""
    drawn = (
        rb.Max, rb.Percentile, rb.Given, rb.Learned, rb.Reciprocal, rb.Exponential, rb.Ramp, rb.Fixed, rb.MSAT,
        rb.DTIF, rb.Zero, rb.Half, rb.Uniform, rb.Alphabet, rb.Subtract, rb.ToValue, rb.Open, rb.SpikeConfidence,
        rb.Leak, rb.Neuron, rb.Method, rb.Costs, rb.MinMSE, rb.SentCharge, rb.Uncorrected, rb.ChannelBias, rb.StepBias,
        rb.Wait, rb.Rate, rb.Differential, rb.Unrehearsed, rb.Residual, rb.COS, rb.GaussianMSE, rb.Balance, rb.Delayed,
        rb.Candidate, rb.Goal, rb.Fitted, rb.Matched, rb.Untuned, rb.Distilled, rb.Radix, rb.NeuronStart,
        rb.EarlyExit, rb.Rectangular, rb.Polynomial, rb.Gaussian, rb.ATan, rb.Sigmoid, rb.Decay, rb.LearnedDecay,
    )  # fmt: skip
    assert set(PUBLIC) == set(drawn)


@pytest.mark.parametrize("public", PUBLIC, ids=lambda c: c.__name__)
def test_the_name_of_a_spec_is_its_own(public):
    assert _KINDS[public.__name__] is public


@pytest.mark.parametrize("name", sorted(rb.methods.NAMED))
def test_every_named_method_round_trips_and_prints_the_line_to_write(name):
    method = rb.methods.named(name)
    assert from_json(json.loads(json.dumps(to_json(method)))) == method
    assert eval(repr(method), dict(vars(rb))) == method


@given(st.one_of(EVERY), st.data())
def test_a_misspelt_kind_or_field_says_what_was_meant(spec, data):
    written = to_json(spec)
    with pytest.raises(rb.SpecError, match=f"did you mean.*{written['kind']}"):
        from_json(written | {"kind": written["kind"] + "x"})
    fields = [name for name in written if name != "kind"]
    if fields:
        name = data.draw(st.sampled_from(fields))
        with (
            pytest.raises(rb.SpecError, match=f"did you mean.*{name}") if len(name) > 1 else pytest.raises(rb.SpecError)
        ):
            from_json({k: v for k, v in written.items() if k != name} | {name + "x": 1})


def test_a_misspelt_method_says_what_was_meant():
    with pytest.raises(rb.SpecError, match="did you mean 'opi'"):
        rb.methods.named("opy")


@pytest.mark.parametrize(
    "data",
    [{}, {"kind": None}, {"kind": ["Fixed"]}, {"p": 3}, {"kind": "Alphabet", "levels": [1.0]}, {"kind": "os.system"},
     {"kind": "Fixed", "gain": -1}, {"kind": "Percentile", "p": 0}, {"kind": "Given", "theta0": []}],
    ids=str,
)  # fmt: skip
def test_what_is_no_spec_is_refused(data):
    with pytest.raises(rb.SpecError):
        from_json(data)


@pytest.mark.parametrize(
    "data",
    [{"kind": "Fixed", "gain": "big"}, {"kind": "Percentile", "p": None}, {"kind": "Given", "theta0": "2"}],
    ids=str,
)
def test_a_value_of_another_type_is_refused_as_every_bad_value_is(data):
    with pytest.raises(rb.RheobaseError):
        from_json(data)


@pytest.mark.parametrize(
    "value", [np.float32(1.0), torch.tensor(1.0), {"a": 1}, object()], ids=lambda v: type(v).__name__
)
def test_a_value_that_json_does_not_know_is_refused(value):
    with pytest.raises(rb.SpecError, match="cannot be part of a spec"):
        to_json(rb.ToValue(value))


def test_a_spec_is_frozen_and_has_no_other_attributes():
    spec = rb.Percentile(99.0)
    with pytest.raises(AttributeError):
        spec.p = 50.0  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        spec.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wrong",
    [lambda: rb.Fixed(0.0), lambda: rb.Fixed(math.nan), lambda: rb.Percentile(0.0), lambda: rb.Percentile(101.0),
     lambda: rb.Given(()), lambda: rb.Given((1.0, 0.0)), lambda: rb.Leak(1.1), lambda: rb.Leak(-0.1),
     lambda: rb.SpikeConfidence(steps=0), lambda: rb.MSAT(k_i=0.0), lambda: rb.MSAT(alpha=-1.0),
     lambda: rb.MSAT(guard=0.0),
     lambda: rb.Costs(mac=-1.0, ac=0.0, graded=0.0, source=""), lambda: rb.methods.constant(0.0),
     lambda: rb.Method(reset=rb.ToValue(), initial=rb.Half()),
     lambda: rb.Method(gate=rb.SpikeConfidence(), leak=rb.Leak(0.5))],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_with_a_reason(wrong):
    with pytest.raises(rb.SpecError):
        wrong()


@pytest.mark.parametrize("name", rb.methods.NAMED)
def test_a_method_takes_every_part_of_a_neuron(name):
    method = rb.methods.named(name)
    assert rb.Method(scale=method.scale, initial=method.initial).of(method.neuron).neuron == method.neuron
