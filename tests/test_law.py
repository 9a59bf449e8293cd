"""The law: identities that hold for every neuron, whatever its parts. MSAT and DTIF have more in their own files."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase import DTIF, MSAT, Alphabet, Fixed, Leak, Neuron, SpikeConfidence, Tensors, ToValue, binary, burst
from rheobase.neuron import fire
from rheobase.testing import (
    carries_memory,
    conserves_charge,
    dyadic,
    has_rheobase,
    is_clip_floor_shift,
    is_same_neuron,
    keeps_scale,
    only_stops_spikes,
    poisoned,
    same_spikes,
    scales_like_weights,
)

seeds = st.integers(0, 2**32 - 1)
steps = st.integers(1, 24)
dyadics = st.integers(1, 192).map(lambda k: k / 64)
inverses = st.builds(
    lambda g, beta: g(beta), st.sampled_from([rb.Reciprocal, rb.Exponential, rb.Ramp]), st.floats(0, 8)
)
thresholds = st.one_of(
    st.sampled_from([0.25, 0.5, 1.0, 1.5]).map(Fixed),
    st.builds(
        MSAT,
        alpha=st.floats(0, 1),
        k_a=st.floats(0, 2),
        k_i=st.floats(0.1, 2),
        C=st.floats(0.5, 10),
        tau_mp=st.just(0.0) | st.floats(0.1, 1.5),
        tau_rd=st.floats(0.1, 1.5),
        normalised=st.booleans(),
    ),
    st.builds(DTIF, inverse=inverses, rho=st.floats(0.1, 1)),
)
tables = st.builds(
    lambda levels, heights: Alphabet(levels=tuple(sorted(levels)), heights=tuple(heights[: len(levels)])),
    st.sets(dyadics, min_size=1, max_size=5),
    st.lists(dyadics, min_size=5, max_size=5),
)
alphabets = st.integers(1, 6).map(burst) | tables
conservative = st.builds(Neuron, threshold=thresholds, alphabet=alphabets)
every = st.builds(
    Neuron,
    threshold=thresholds,
    alphabet=alphabets,
    reset=st.sampled_from([rb.Subtract(), ToValue(), ToValue(-0.5)]),
    gate=st.just(rb.Open()) | st.builds(SpikeConfidence, steps=st.integers(1, 12)),
    leak=st.sampled_from([Leak(), Leak(0.0), Leak(0.5), Leak(0.9)]),
)

NAMED = {
    "if": Neuron(),
    "half the maximum": Neuron(threshold=Fixed(0.5)),
    "burst": Neuron(alphabet=burst(5)),
    "table": Neuron(alphabet=Alphabet(levels=(0.5, 1.0, 2.0), heights=(0.5, 0.25, 1.25))),
    "msat": Neuron(threshold=MSAT()),
    "msat burst": Neuron(threshold=rb.MSAT_RESNET20, alphabet=burst(4)),
    "msat normalised": Neuron(threshold=MSAT(normalised=True)),
    "dtif": Neuron(threshold=DTIF(), alphabet=burst(5)),
    "dtif binary letters": Neuron(threshold=DTIF()),
}
named = pytest.mark.parametrize("neuron", NAMED.values(), ids=NAMED.keys())


def tensors(theta0: float | Tensor = 1.0, v0: float = 0.0, confidence: float = 0.7, key: int = 7) -> Tensors:
    theta0 = torch.as_tensor(theta0)
    return Tensors(theta0, theta0 * v0, torch.tensor(confidence), torch.tensor(key))


def to(device: torch.device, parts: Tensors) -> Tensors:
    return Tensors(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]


# 1. Charge


@given(conservative, seeds, steps, dyadics, st.sampled_from([0.0, 0.5, 0.9]))
def test_charge_is_conserved_by_every_neuron_with_subtract_no_leak_and_an_open_gate(neuron, seed, steps, theta0, v0):
    conserves_charge(neuron, tensors(theta0, v0), dyadic(steps, 3, 5, seed=seed))


@named
def test_charge_is_conserved_on_every_device_in_every_dtype(neuron, device, dtype):
    xs = dyadic(32, 4, 6, seed=1).to(device, dtype)
    conserves_charge(neuron, to(device, tensors(0.75, 0.5)), xs)


@given(st.sampled_from([burst(1), burst(3), Alphabet(levels=(0.5, 1.5), heights=(0.5, 1.0))]), seeds, steps)
def test_charge_is_conserved_to_the_last_bit_on_dyadic_numbers(alphabet, seed, steps):
    xs, parts = dyadic(steps, 7, seed=seed), tensors(0.75, 0.5)
    ys, m = rb.scan(Neuron(alphabet=alphabet), parts, xs)
    assert torch.equal(ys.sum(0) + m.v, xs.sum(0) + parts.v0)


@given(seeds, st.floats(0, 1), st.sampled_from([Fixed(), MSAT()]), st.integers(1, 12))
def test_a_gate_loses_exactly_the_charge_of_the_spikes_it_stops(seed, confidence, threshold, until):
    neuron = Neuron(threshold=threshold, alphabet=burst(3), gate=SpikeConfidence(steps=until))
    only_stops_spikes(neuron, tensors(0.5, confidence=confidence, key=seed), dyadic(16, 4, 5, seed=seed))


# 2. Clip, floor, shift


@given(seeds, st.integers(1, 40), st.sampled_from([0.5, 0.75, 1.0, 1.25]), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_constant_drive_gives_clip_floor_shift_after_every_step(seed, steps, theta0, v0):
    is_clip_floor_shift(Neuron(), tensors(theta0, v0), dyadic(4, 33, seed=seed), steps)


@given(seeds, st.integers(1, 12), st.integers(1, 6))
def test_burst_letters_give_clip_floor_shift_with_as_many_levels_a_step(seed, steps, k):
    is_clip_floor_shift(Neuron(alphabet=burst(k)), tensors(0.5, 0.5), dyadic(4, 33, seed=seed, high=4), steps)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_clip_floor_shift_holds_on_every_device_in_every_dtype(steps, device, dtype):
    x = torch.arange(-64, 129).to(device, dtype).div(64).reshape(1, -1)
    is_clip_floor_shift(Neuron(), to(device, tensors(1.0, 0.5)), x, steps)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 16, 32])
def test_the_mean_emission_of_a_half_start_is_the_activation_qcfs(steps):
    activation = rb.QCFS(levels=steps, bound=2.0).double()
    z = 4 * torch.rand(1, 2000, generator=torch.Generator().manual_seed(steps), dtype=torch.float64) - 1
    ys, _ = rb.scan(Neuron(), tensors(activation.bound.detach(), 0.5), rb.constant(z, steps))
    torch.testing.assert_close(ys.mean(0), activation(z).detach(), rtol=0, atol=1e-9)  # a letter is at least 0.06


@given(seeds, st.integers(1, 8), st.integers(1, 5))
def test_k_letters_for_t_steps_are_binary_spikes_for_k_times_t_steps(seed, steps, k):
    x = dyadic(50, seed=seed).reshape(1, -1)
    bursts, _ = rb.scan(Neuron(alphabet=burst(k)), tensors(0.5, 0.5), rb.constant(x * k, steps))
    spikes, _ = rb.scan(Neuron(), tensors(0.5, 0.5), rb.constant(x, steps * k))
    assert torch.equal(bursts.sum(0), spikes.sum(0))


# OPI, algorithms.md 3.10

GRID = (torch.arange(4096, dtype=torch.float64) + 0.5).reshape(1, -1) / 4096  # of drives, even on [0, theta]


def opi_error(v0: Tensor, steps: int) -> Tensor:
    """Mean emission minus drive, in units of theta / T."""
    ys, _ = rb.scan(Neuron(), Tensors(torch.tensor(1.0, dtype=torch.float64), v0), rb.constant(GRID, steps))
    return (ys.mean(0) - GRID) * steps


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_a_half_start_has_no_mean_error_and_a_quarter_of_the_squared_error_of_a_start_at_zero(steps):
    half, zero = opi_error(torch.tensor(0.5), steps), opi_error(torch.tensor(0.0), steps)
    assert half.mean().abs() < 1e-3
    assert zero.mean() == pytest.approx(-0.5, abs=5e-3)
    assert half.square().mean() == pytest.approx(1 / 12, rel=0.02)
    assert zero.square().mean() == pytest.approx(4 / 12, rel=0.02)
    assert half.abs().max() <= 0.5
    assert zero.abs().max() > 0.99


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_a_uniform_start_has_twice_the_squared_error_of_a_half_start(steps):
    generator = torch.Generator().manual_seed(3)
    starts = rb.Uniform().fit(torch.tensor(1.0, dtype=torch.float64), (64, GRID.shape[1]), generator)
    xs = GRID.expand(64, -1)
    ys, _ = rb.scan(Neuron(), Tensors(torch.tensor(1.0, dtype=torch.float64), starts), rb.constant(xs, steps))
    error = (ys.mean(0) - xs) * steps
    assert error.mean() == pytest.approx(0, abs=5e-3)
    assert error.square().mean() == pytest.approx(2 / 12, rel=0.02)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.4, 0.45, 0.55, 0.6, 0.75])
def test_no_other_start_has_a_smaller_squared_error_than_half(fraction):
    assert opi_error(torch.tensor(fraction), 4).square().mean() > opi_error(torch.tensor(0.5), 4).square().mean()


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_a_half_start_rounds_half_up_to_the_grid_of_theta_over_t(steps):
    z = torch.arange(-64, 193).double().div(64).reshape(1, -1)
    ys, _ = rb.scan(Neuron(), tensors(2.0, 0.5), rb.constant(z, steps))
    letters = torch.floor(z * steps / 2.0 + 0.5).clamp(0, steps)
    assert torch.equal(ys.sum(0), 2.0 * letters)


def test_one_step_from_a_half_start_fires_at_half_of_theta_ties_included():
    ys, _ = rb.scan(Neuron(), tensors(1.0, 0.5), torch.tensor([[[-1.0, 0.484375, 0.5, 0.515625, 9.0]]]))
    assert ys.flatten().tolist() == [0, 0, 1, 1, 1]


@given(seeds, steps, alphabets)
def test_charge_is_conserved_from_a_half_start_under_arbitrary_drives(seed, steps, alphabet):
    xs = torch.randn(steps, 3, 4, generator=torch.Generator().manual_seed(seed))
    conserves_charge(Neuron(alphabet=alphabet), tensors(0.7, 0.5), xs)


# 5. Scale

scale_free = st.builds(
    Neuron,
    threshold=st.one_of(
        st.sampled_from([0.3, 0.5, 1.0]).map(Fixed),
        st.builds(DTIF, inverse=inverses, rho=st.floats(0.1, 1), graded=st.booleans()),
        st.builds(MSAT, alpha=st.floats(0, 1), tau_mp=st.floats(0, 1), normalised=st.just(True)),
    ),
    alphabet=alphabets,
    gate=st.just(rb.Open()) | st.builds(SpikeConfidence, steps=st.integers(1, 12)),
    leak=st.sampled_from([Leak(), Leak(0.3), Leak(0.9)]),
)


@given(scale_free, seeds, st.integers(-12, 12), st.floats(0.125, 3, width=32))
def test_scaling_drives_thresholds_and_start_by_a_power_of_two_scales_the_answer_bit_for_bit(n, seed, power, theta0):
    xs = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(seed))
    keeps_scale(n, tensors(theta0, 0.5), xs, 2.0**power)


@pytest.mark.parametrize("power", [-3, -1, 1, 3])
def test_msat_in_absolute_units_is_another_neuron_at_another_scale(power):
    with pytest.raises(AssertionError, match="does not scale"):
        keeps_scale(Neuron(threshold=MSAT()), tensors(1.0), dyadic(12, 30, seed=1), 2.0**power)


@given(
    seeds,
    st.lists(st.integers(-4, 4).map(lambda k: 2.0**k), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([Neuron(), Neuron(alphabet=burst(3)), Neuron(threshold=DTIF()), Neuron(leak=Leak(0.9))]),
)
def test_scaling_thresholds_is_scaling_weights(seed, thetas, start, neuron):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(6, 6, generator=generator) for _ in thetas]
    scales_like_weights(neuron, weights, thetas, start, torch.randn(10, 2, 6, generator=generator))


@given(seeds, st.floats(0.1, 9), st.sampled_from([0.0, 0.5]))
def test_any_threshold_is_a_unit_threshold_except_where_rounding_meets_a_level(seed, theta0, start):
    xs = torch.randn(20, 4, 25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theta = torch.tensor(theta0, dtype=torch.float64)
    neuron, unit = Neuron(alphabet=burst(2)), torch.ones_like(theta)
    m, letters, ratios = rb.init(neuron, Tensors(theta, start * theta), xs[0]), [], []
    for x in xs:
        ratios.append((m.v + x) / theta)
        (s, _), m = fire(neuron, Tensors(theta, start * theta), x, m)
        letters.append(s)
    normalised, _ = rb.scan(neuron, Tensors(unit, start * unit), xs / theta)
    assert same_spikes(torch.stack(letters), normalised, torch.stack(ratios), (1.0, 2.0), eps=1e-12) == 0


# 6. One neuron written in two ways


def test_burst_of_one_is_binary():
    assert burst(1) == binary == Alphabet(levels=(1.0,), heights=(1.0,))


@given(seeds, st.integers(1, 6), st.sampled_from([Fixed(), DTIF(), MSAT(normalised=True)]))
def test_a_uniform_alphabet_fires_as_its_table_does(seed, k, threshold):
    """Letters of half a theta twice as large: the same neuron, but not on the fast path of `Alphabet.fire`."""
    halved = Alphabet(levels=tuple(i / 2 for i in range(1, k + 1)), heights=(0.5,) * k)
    xs = torch.randn(12, 40, generator=torch.Generator().manual_seed(seed))
    ys, m = rb.scan(Neuron(alphabet=burst(k), threshold=Fixed(0.5)), tensors(1.5, 0.25), xs)
    ys_table, m_table = rb.scan(Neuron(alphabet=halved), tensors(1.5, 0.25), xs)
    assert torch.equal(ys, ys_table)
    assert torch.equal(m.v, m_table.v)


@given(tables | st.integers(1, 9).map(burst), seeds)
def test_the_letter_is_the_sum_of_the_heights_of_the_levels_reached(alphabet, seed):
    r = torch.cat([dyadic(200, seed=seed, low=-4, high=10), torch.tensor(alphabet.levels), torch.tensor([-0.0])])
    expected = [sum(h for level, h in zip(alphabet.levels, alphabet.heights, strict=True) if q >= level) for q in r]
    assert alphabet.fire(r).tolist() == expected


@given(seeds, inverses, st.floats(0.1, 1))
def test_one_level_or_no_inverse_relation_is_the_integrate_and_fire_neuron(seed, inverse, rho):
    xs = torch.randn(16, 30, generator=torch.Generator().manual_seed(seed))
    parts = tensors(0.6, 0.5)
    is_same_neuron(Neuron(), Neuron(alphabet=Alphabet(levels=(1.0,), heights=(1.0,))), parts, xs)
    is_same_neuron(Neuron(), Neuron(threshold=DTIF(inverse=type(inverse)(0.0), rho=rho)), parts, xs)
    is_same_neuron(Neuron(), Neuron(threshold=DTIF(inverse=inverse, rho=1.0)), parts, xs)


# 7. Memory


@given(every, seeds, st.integers(2, 20), st.data())
def test_a_run_in_pieces_is_the_run_for_every_neuron(neuron, seed, steps, data):
    cuts = data.draw(st.lists(st.integers(1, steps - 1), unique=True, min_size=1, max_size=4).map(sorted))
    xs = torch.randn(steps, 3, 5, generator=torch.Generator().manual_seed(seed))
    with poisoned():
        carries_memory(neuron, tensors(0.7, 0.0, key=seed), xs, cuts)


@pytest.mark.parametrize("gate", [rb.Open(), SpikeConfidence(steps=7)], ids=str)
@named
def test_a_run_in_pieces_is_the_run_on_every_device_in_every_dtype(neuron, gate, device, dtype):
    neuron = Neuron(threshold=neuron.threshold, alphabet=neuron.alphabet, gate=gate)
    carries_memory(neuron, to(device, tensors(0.75, 0.5)), dyadic(16, 3, 4, seed=2).to(device, dtype), (1, 2, 7, 11))


@named
def test_a_run_is_its_steps_in_every_dtype(neuron, device, dtype):
    xs, parts = dyadic(16, 3, 40, seed=4).to(device, dtype), to(device, tensors(0.7, 0.5))
    ys, m = rb.scan(neuron, parts, xs)
    memory, stepped = rb.init(neuron, parts, xs[0]), []
    for x in xs:
        y, memory = rb.step(neuron, parts, x, memory)
        stepped.append(y)
    assert torch.equal(ys, torch.stack(stepped))
    assert torch.equal(m.v, memory.v)


def test_a_run_is_its_steps_where_a_letter_is_no_number_of_bfloat16():
    neuron = Neuron(alphabet=Alphabet(levels=(1.0, 2.0), heights=(0.3, 0.5)))
    xs, parts = dyadic(16, 40, seed=4).bfloat16(), tensors(0.7)
    memory, stepped = rb.init(neuron, parts, xs[0]), []
    for x in xs:
        y, memory = rb.step(neuron, parts, x, memory)
        stepped.append(y)
    assert torch.equal(rb.scan(neuron, parts, xs)[0], torch.stack(stepped))


@named
def test_the_potential_is_kept_in_float32_at_least_and_the_answer_in_the_dtype_of_the_drive(neuron, dtype):
    ys, m = rb.scan(neuron, tensors(0.75, 0.5), dyadic(4, 2, 3).to(dtype))
    assert ys.dtype == dtype
    assert m.v.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert m.t.dtype == torch.int64
    assert int(m.t) == 4


@named
def test_a_sample_does_not_know_the_rest_of_its_batch(neuron):
    xs = torch.randn(12, 6, 64, generator=torch.Generator().manual_seed(5))  # 64: exp rounds otherwise in a SIMD tail
    ys, m = rb.scan(neuron, tensors(0.75, 0.5), xs)
    order = torch.tensor([4, 0, 5, 2])
    ys_few, m_few = rb.scan(neuron, tensors(0.75, 0.5), xs[:, order])
    assert torch.equal(ys_few, ys[:, order])
    assert torch.equal(m_few.v, m.v[order])


def test_a_threshold_of_each_channel_is_the_run_of_each_channel():
    xs = torch.randn(10, 2, 3, 64, generator=torch.Generator().manual_seed(6))
    thetas = torch.tensor([0.3, 0.7, 1.9])
    for neuron in NAMED.values():
        ys, _ = rb.scan(neuron, tensors(thetas.reshape(3, 1), 0.5), xs)
        for channel, theta0 in enumerate(thetas):
            alone, _ = rb.scan(neuron, tensors(theta0, 0.5), xs[:, :, channel].contiguous())
            assert torch.equal(ys[:, :, channel], alone)


def test_a_run_of_no_steps_or_of_another_shape_than_its_memory_is_refused():
    _, m = rb.scan(Neuron(), tensors(), torch.zeros(2, 3))
    for xs, memory in [(torch.zeros(0, 3), None), (torch.zeros(3), None), (torch.zeros(2, 4), m)]:
        with pytest.raises(rb.InputError, match="try:"):
            rb.scan(Neuron(), tensors(), xs, memory)


@named
def test_an_empty_batch_gives_an_empty_answer(neuron):
    ys, m = rb.scan(neuron, tensors(), torch.zeros(3, 0, 4))
    assert ys.shape == (3, 0, 4)
    assert m.v.shape == (0, 4)


# 9. Rheobase


@given(st.floats(0, 0.98), st.floats(0.05, 20), alphabets, st.sampled_from([0.5, 1.0, 1.5]))
def test_a_leaky_neuron_fires_above_its_rheobase_and_never_below(beta, theta0, alphabet, gain):
    neuron = Neuron(leak=Leak(beta), alphabet=alphabet, threshold=Fixed(gain))
    has_rheobase(neuron, torch.tensor([theta0, 2 * theta0], dtype=torch.float64))


def test_a_leaky_neuron_has_its_rheobase_on_every_device(device):
    has_rheobase(Neuron(leak=Leak(0.9)), torch.tensor([0.5, 3.0], device=device))


def test_the_rheobase_of_a_neuron_that_does_not_leak_is_zero_and_msat_has_no_closed_form():
    assert rb.rheobase(Neuron(), torch.tensor(3.0)) == 0
    with pytest.raises(rb.SpecError, match="Fixed"):
        rb.rheobase(Neuron(threshold=MSAT()), torch.tensor(3.0))


# What only some parts do


def test_a_hard_reset_leaves_its_value_where_a_spike_left_and_the_potential_elsewhere():
    ys, m = rb.scan(Neuron(reset=ToValue(0.25)), tensors(1.0), torch.tensor([[[0.5, 1.0, 7.0, -3.0]]]))
    assert ys.flatten().tolist() == [0, 1, 1, 0]
    assert m.v.flatten().tolist() == [0.5, 0.25, 0.25, -3.0]


@given(seeds, st.floats(0, 1, width=32))
def test_a_leak_forgets_by_its_factor_what_no_spike_took(seed, beta):
    assume(beta < 1)
    xs = dyadic(6, 9, seed=seed, high=0)
    _, m = rb.scan(Neuron(leak=Leak(beta)), tensors(100.0), xs.double())
    expected = sum(beta ** (5 - i) * xs[i].double() for i in range(6))
    torch.testing.assert_close(m.v, torch.as_tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gain", [0.2, 0.5, 1.0, 2.0])
def test_the_threshold_at_rest_is_what_half_halves(gain):
    theta0 = torch.tensor([0.5, 2.0])
    assert torch.equal(Fixed(gain).rest(theta0), gain * theta0)
    for rule in (MSAT(), DTIF(), MSAT(normalised=True)):
        assert torch.equal(rule.rest(theta0), theta0)
    assert torch.equal(rb.Half().fit(theta0, (2,), torch.Generator()), theta0 / 2)
    assert torch.equal(rb.Zero().fit(theta0, (2,), torch.Generator()), torch.zeros(2))


def test_a_correction_of_the_last_axis_belongs_to_its_step():
    """A bias `[steps, C]` of a layer `[L, C]` is added by step and channel, however many samples there are."""
    t = Tensors(torch.tensor(1.0), torch.tensor(0.0), bias=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    for samples in (1, 2, 3):
        got = t.corrected(torch.zeros(3, samples, 5, 2), torch.tensor(0))
        assert torch.equal(got[:, 0, 0], torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]))
        assert torch.equal(got, got[:, :1, :1].expand(got.shape))
