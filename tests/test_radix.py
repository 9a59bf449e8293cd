"""Spikes as digits: the sum of a run is written down exactly, costs its digits, and runs for as many steps only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase import Neuron, Radix, Tensors, ops, recompute, testing
from rheobase.fold import fold_theta
from rheobase.kernels import cpu
from rheobase.neuron import emissions, received
from rheobase.state import Visit

seeds, bits, digits = st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4)


def neuron(steps: int, base: int = 2) -> Neuron:
    return Neuron(threshold=Radix(steps=steps, base=base), alphabet=rb.burst(base - 1), gate=rb.Wait())


def parts(steps: int, base: int = 2) -> Tensors:
    """Of a neuron whose last digit is worth 1/4, with the start that rounds."""
    rule = Radix(steps=steps, base=base)
    theta0 = torch.tensor(0.25 * rule.levels / (rule.steps * (rule.base - 1)), dtype=torch.float64)
    return Tensors(theta0, torch.tensor(0.125, dtype=torch.float64))


@given(seeds, digits, bits)
def test_the_digits_of_a_run_are_its_sum_rounded_to_the_last_digit(seed, steps, bits):
    xs = testing.dyadic(steps, 2, 7, seed=seed).double()
    cell = neuron(steps, 2**bits)
    tensors = parts(steps, 2**bits)
    ys, m = rb.scan(cell, tensors, xs)
    whole = ((xs.sum(0) + 0.125) / 0.25).floor().clamp(0, 2 ** (bits * steps) - 1)
    assert torch.allclose(ys.sum(0), 0.25 * whole, rtol=1e-12)
    assert torch.allclose(ys.sum(0) + m.v, xs.sum(0) + 0.125, rtol=1e-12)
    emission, _ = emissions(cell, tensors, xs)
    for step, letters in enumerate(emission.letters):
        place = (2**bits) ** (steps - 1 - step)
        assert torch.equal(letters, whole // place % 2**bits), "not the digit of its place"


@given(seeds, digits)
def test_when_the_input_comes_makes_no_difference(seed, steps):
    xs, cell = testing.dyadic(steps, 2, 7, seed=seed).double(), neuron(steps)
    assert torch.equal(rb.scan(cell, parts(steps), xs)[0], rb.scan(cell, parts(steps), xs.flip(0))[0])


@given(seeds, digits)
def test_binary_digits_are_one_letter_of_as_many_levels_spread_over_the_steps(seed, steps):
    """The digits(n) of one step and n binary spikes of a run carry the same number."""
    x, cell = testing.dyadic(1, 2, 7, seed=seed).double(), neuron(steps)
    one = Neuron(alphabet=rb.digits(steps))
    at_once, _ = rb.scan(one, Tensors(torch.tensor(0.25).double(), torch.tensor(0.125).double()), x)
    spread, _ = rb.scan(cell, parts(steps), (x / steps).expand(steps, -1, -1))
    assert torch.allclose(spread.sum(0), at_once[0], rtol=1e-12)


def test_theta0_is_the_largest_mean_of_a_step_as_of_a_rate():
    for steps, base in ((1, 2), (4, 2), (3, 4)):
        cell = neuron(steps, base)
        ys, _ = rb.scan(cell, Tensors(torch.tensor(2.0), torch.tensor(0.0)), torch.full((steps, 1, 1), 100.0))
        assert float(ys.mean()) == pytest.approx(2.0 * cell.threshold.saturation(base - 1))


@pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)
@pytest.mark.parametrize("shape", [(2, 7), (3, 5, 9, 4), (2, 64, 40, 40)])
@pytest.mark.parametrize(("steps", "base"), [(1, 2), (4, 2), (3, 8)])
def test_the_kernel_writes_the_digits_of_the_reference(shape, steps, base):
    """Bit for bit, with one threshold or one for each channel."""
    xs, cell = torch.randn(steps, *shape, generator=torch.Generator().manual_seed(1)), neuron(steps, base)
    for theta0 in (torch.tensor(0.37), 0.3 + torch.rand(shape[1], *(1,) * (len(shape) - 2))):
        tensors = Tensors(theta0, cell.threshold.rest(theta0) / 2)
        with rb.kernels.use("cpu"):
            (letters, worth), m = recompute.run(cell, tensors, xs, None)
        (expected, amplitude), after = emissions(cell, tensors, xs, None)
        assert torch.equal(letters, expected)
        assert torch.equal(letters * worth, expected * amplitude)
        assert torch.equal(m.v, after.v)


def test_a_run_of_other_steps_is_refused():
    for steps in (3, 8):
        with pytest.raises(rb.InputError, match=f"{steps} steps for neurons that count in 4 digits"):
            rb.scan(neuron(4), parts(4), torch.ones(steps, 1, 1).double())


@pytest.mark.parametrize(
    ("rule", "why"), [({"base": 3}, "power of two"), ({"steps": 0}, "no digit"), ({"steps": 9, "base": 8}, "float32")]
)
def test_a_radix_that_cannot_count_is_refused(rule, why):
    with pytest.raises(rb.SpecError, match=why):
        Radix(**({"steps": 4} | rule))


@pytest.mark.parametrize(
    "part",
    [
        {"gate": rb.Open()},
        {"alphabet": rb.burst(2)},
        {"reset": rb.ToValue()},
        {"leak": rb.Leak(0.9)},
        {"rehearsal": rb.Residual(2)},
    ],
    ids=lambda part: next(iter(part)),
)
def test_a_method_whose_parts_write_no_digits_is_refused(part):
    method = replace(rb.methods.radix(4, 1), initial=rb.Zero())  # which is one
    with pytest.raises(rb.SpecError):
        replace(method, **part)


class Small(nn.Module):
    """A residual sum, a pool and channels of their own scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b, self.out = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6 * 9, 4)
        self.act = nn.ModuleList(nn.ReLU() for _ in range(2))
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act[0](self.a(x))
        return self.out(self.pool(self.act[1](self.b(y) + y)).flatten(1))


def images(n: int = 64) -> torch.Tensor:
    return torch.rand(n, 2, 6, 6, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("steps", "letters"), [(1, 1), (4, 1), (8, 1), (4, 3), (2, 15)])
def test_a_converted_network_is_the_one_of_its_staircases_whatever_the_scale(steps, letters):
    ann, x = Small().eval(), images()
    net, _ = rb.convert(ann, rb.methods.radix(steps, letters), [x])

    def error(found: rb.SpikingNet) -> float:
        """Relative squared error of the answers."""
        wrong = found(rb.constant(x, steps))[0][-1] - ann(x)
        return float((wrong.square().mean() / ann(x).square().mean()).detach())

    assert error(net) < max(0.5 / (letters + 1) ** (2 * steps - 2), 1e-6)
    if steps > 2:
        rate, _ = rb.convert(ann, rb.methods.fitted(steps, letters), [x])
        assert error(net) < 0.5 * error(rate)


def test_a_spike_costs_an_addition_whatever_its_place():
    """No multiplication, and as many spikes as neurons have sent."""
    ann, x = Small().eval(), images(16)
    net, _ = rb.convert(ann, rb.methods.radix(4, 1), [x])
    labels = torch.zeros(16, dtype=torch.int64)
    curve = rb.evaluate(net, [(x, labels)], 4, ann=ann)
    assert float(curve.graded[-1]) == 0
    assert float(curve.acs[-1]) > 0
    seen: dict[str, float] = {}

    def see(visit: Visit) -> None:
        if visit.emission is not None:
            seen[visit.node.name] = float(visit.emission.letters.detach().sum()) / 16

    for _ in net.present(x, 4, see):
        pass
    assert float(curve.spikes[-1]) == pytest.approx(sum(seen.values()))


def test_digits_by_their_place_times_theta0_are_what_unfolded_readers_receive():
    cell, theta0 = neuron(4, 4), 0.3 + torch.arange(6.0).reshape(6, 1, 1)
    emission, _ = emissions(cell, Tensors(theta0, cell.threshold.rest(theta0) / 2), torch.rand(4, 2, 6, 3, 3))
    assert emission.letters.any()
    assert torch.allclose(received(cell, emission, None, letters=True) * theta0, received(cell, emission, None))


def test_theta0_moves_into_the_weights_once():
    net, _ = rb.convert(Small().eval(), rb.methods.radix(4, 3), [images(16)])
    assert all(node.op.letters for node in net.graph.of(ops.Spike))
    assert fold_theta(net.graph).nodes == net.graph.nodes


def test_it_is_kept_in_a_file_and_lowered_to_single_spikes(tmp_path):
    ann, x = Small().eval(), images(8)
    net, _ = rb.convert(ann, rb.methods.radix(3, 3), [x])
    rb.save(tmp_path / "net.safetensors", net)
    xs = rb.constant(x, 3)
    assert torch.equal(rb.load(tmp_path / "net.safetensors")(xs)[0], net(xs)[0])
    assert torch.allclose(rb.lower(net)(rb.constant(x, 9))[0][2::3], net(xs)[0], atol=1e-5)


def test_layers_of_different_digits_are_refused():
    method = {"act.0": rb.methods.radix(2), "": rb.methods.radix(4)}
    with pytest.raises(rb.ConversionError, match="2 and 4 digits"):
        rb.convert(Small().eval(), method, [images()])


def test_an_activation_of_both_signs_has_as_many_levels_of_either():
    method = rb.methods.radix(4, 1).two_sided
    assert method.alphabet == rb.signed(4, floor=True)
    assert method.levels == 16
    assert method.threshold == rb.Fixed()


def test_what_looks_at_a_network_runs_it_for_as_many_steps_as_it_has_digits():
    ann, x = Small().eval(), images()
    net, report = rb.convert(ann, rb.methods.radix(4, 1), [x])
    assert (net.clock, report.steps) == (4, 4)
    assert all(layer.unevenness == 0 for layer in report.layers)
    found = rb.diagnose(net, ann, [x], samples=16)
    for layer in found.layers:
        assert abs(layer.parts["folding"].rms) < 1e-3
        assert abs(layer.parts["pooling"].rms) < 1e-3
    assert all(proposal.error < found.error for proposal in found.proposals), "digits of base 4"
    fast = rb.compile(net, x, "fp32")
    assert torch.allclose(fast(rb.constant(x, 4))[0][-1], net(rb.constant(x, 4))[0][-1], atol=1e-4)
    assert set(rb.kernels.explain(net, x)) == {"act.0", "act.1"}
    with pytest.raises(rb.InputError, match="digits"):
        rb.verify(net, ann, [x])
    assert rb.convert(ann, rb.methods.opi(), [x])[0].clock == 0
