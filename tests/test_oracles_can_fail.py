"""Every oracle catches a neuron that is wrong in the way it looks for. An oracle that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import rheobase as rb
from rheobase import DTIF, MSAT, Alphabet, Fixed, Leak, Membrane, Neuron, SpikeConfidence, Tensors, burst
from rheobase.testing import (
    Run,
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


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law written out a second time, each line replaceable by a wrong one. `Law()` is right, and a `Run`."""

    birth: Callable[[Neuron, Tensors, Tensor], Membrane] = rb.init
    carried: Callable[[Membrane, Neuron, Tensors, Tensor], Membrane] = lambda m, neuron, parts, x: m
    charge: Callable[[Neuron, Tensor, Tensor], Tensor] = lambda neuron, v, x: neuron.leak.charge(v, x)
    theta: Callable[[Neuron, Tensor, Tensor, Membrane], Tensor] = lambda neuron, theta0, x, m: neuron.threshold.theta(
        theta0, x, m
    )
    fire: Callable[[Neuron, Tensor, Tensor], Tensor] = lambda neuron, u, theta: neuron.alphabet.fire(u / theta)
    reset: Callable[[Neuron, Tensor, Tensor], Tensor] = lambda neuron, u, removed: neuron.reset(u, removed)
    gate: Callable[[Neuron, Tensor, Tensors, Membrane], Tensor] = lambda neuron, s, parts, m: neuron.gate(s, parts, m)
    after_gate: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda v, stopped, theta: v
    emit: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda s, theta, theta0: s * theta

    def __call__(self, neuron: Neuron, parts: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Tensor, Membrane]:
        m = self.birth(neuron, parts, xs[0]) if m is None else self.carried(m, neuron, parts, xs[0])
        ys = []
        for x in xs:
            x = x.to(m.v.dtype)
            u = self.charge(neuron, m.v, x)
            theta = self.theta(neuron, parts.theta0, x, m)
            s = self.fire(neuron, u, theta)
            passed = self.gate(neuron, s, parts, m)
            taken = neuron.gate(s, parts, m) if neuron.gate.keeps else s
            v = self.after_gate(self.reset(neuron, u, taken * theta), s - passed, theta)
            ys.append(self.emit(passed, theta, parts.theta0).to(xs.dtype))
            m = Membrane(v, m.t + 1, neuron.threshold.remember(m.threshold, v), neuron.gate.remember(m.gate, passed))
        return torch.stack(ys), m


def up(theta: Tensor) -> Tensor:
    return torch.nextafter(theta, torch.full_like(theta, torch.inf))


def born_at(share: float) -> Callable[[Neuron, Tensors, Tensor], Membrane]:
    return lambda neuron, parts, x: rb.init(neuron, parts._replace(v0=share * parts.theta0), x)


def in_place(neuron: Neuron, parts: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Tensor, Membrane]:
    ys, after = rb.scan(neuron, parts, xs, m)
    if m is not None:
        m.v.copy_(after.v)
    return ys, after


def drives_as_buffer(neuron: Neuron, parts: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Tensor, Membrane]:
    ys, m = rb.scan(neuron, parts, xs.clone(), m)
    xs.zero_()
    return ys, m


calls = 0


def remembers_calls(neuron: Neuron, parts: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Tensor, Membrane]:
    global calls
    calls += 1
    return rb.scan(neuron, parts, xs + calls, m)


def short(neuron: Neuron, parts: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Tensor, Membrane]:
    """A kernel that handles whole blocks of four and leaves the tail unwritten."""
    ys, m = rb.scan(neuron, parts, xs, m)
    out = torch.empty_like(ys)
    whole = ys.shape[-1] // 4 * 4
    out[..., :whole] = ys[..., :whole]
    return out, m


def first_step_only(gate: SpikeConfidence) -> Callable[[Neuron, Tensor, Tensors, Membrane], Tensor]:
    def wrong(neuron: Neuron, s: Tensor, parts: Tensors, m: Membrane) -> Tensor:
        return gate(s, parts, m._replace(t=torch.zeros_like(m.t)))

    return wrong


TO_ZERO = Law(reset=lambda neuron, u, removed: torch.where(removed != 0, torch.zeros_like(u), u))
NEVER_RESET = Law(reset=lambda neuron, u, removed: u)
AT_ZERO = Law(birth=born_at(0.0))
HALF_EVERY_CALL = Law(birth=born_at(0.5))
ONE_ULP_UP = Law(theta=lambda neuron, theta0, x, m: up(neuron.threshold.theta(theta0, x, m)))
ONE_INPUT_DOWN = Law(fire=lambda neuron, u, theta: neuron.alphabet.fire((u + 1 / 64) / theta))
STRICTLY_ABOVE = Law(
    fire=lambda neuron, u, theta: neuron.alphabet.fire((u / theta).nextafter(torch.tensor(-torch.inf)))
)
ONE_LEVEL_OFF = Law(fire=lambda neuron, u, theta: neuron.alphabet.fire(u / theta + 1))
NO_CEILING = Law(fire=lambda neuron, u, theta: (u / theta).floor().clamp(min=0))
NEGATIVE_LETTERS = Law(fire=lambda neuron, u, theta: (u / theta).floor().clamp(max=neuron.alphabet.ceiling))
DROPS = Law(gate=lambda neuron, s, parts, m: s * (m.t != 3))
GIVES_BACK = Law(after_gate=lambda v, stopped, theta: v + stopped * theta)
DOUBLES = Law(gate=lambda neuron, s, parts, m: 2 * neuron.gate(s, parts, m))
WORTH_THETA0 = Law(emit=lambda s, theta, theta0: s * theta0)
FORGETS_ALL = Law(carried=lambda m, neuron, parts, x: rb.init(neuron, parts, x))
FORGETS_V = Law(carried=lambda m, neuron, parts, x: m._replace(v=rb.init(neuron, parts, x).v))
FORGETS_T = Law(carried=lambda m, neuron, parts, x: m._replace(t=torch.zeros_like(m.t)))
FORGETS_SUM = Law(carried=lambda m, neuron, parts, x: m._replace(threshold=neuron.threshold.born(m.v)))
DOUBLES_WHAT_PASSES = Law(
    gate=lambda neuron, s, parts, m: s if neuron.gate == rb.Open() else 2 * neuron.gate(s, parts, m)
)
NO_LEAK = Law(charge=lambda neuron, v, x: v + x)
LEAKS_INPUT = Law(charge=lambda neuron, v, x: neuron.leak.charge(v + x, torch.zeros_like(x)))
LEAKS = Law(charge=lambda neuron, v, x: 0.99 * v + x)
BIASED = Law(charge=lambda neuron, v, x: v + x + 1 / 64)
FIXED_CHARGE = Law(charge=lambda neuron, v, x: neuron.leak.charge(v, x) + 1e-2)

XS = dyadic(16, 4, 7, seed=11)
GATED = Neuron(alphabet=burst(3), gate=SpikeConfidence(steps=8))


def parts(theta0: float = 0.75, start: float = 0.5) -> Tensors:
    return Tensors(torch.tensor(theta0), torch.tensor(theta0 * start), torch.tensor(0.6), torch.tensor(5))


def charge(neuron: Neuron) -> Callable[[Run], None]:
    return lambda run: conserves_charge(neuron, parts(), XS, run)


def staircase(neuron: Neuron) -> Callable[[Run], None]:
    return lambda run: is_clip_floor_shift(neuron, parts(1.0), torch.arange(-64, 321).div(64).reshape(1, -1), 12, run)


def scale(neuron: Neuron) -> Callable[[Run], None]:
    return lambda run: keeps_scale(neuron, parts(), XS, 0.25, run)


def weights(neuron: Neuron) -> Callable[[Run], None]:
    generator = torch.Generator().manual_seed(1)
    matrices = [torch.randn(7, 7, generator=generator) for _ in range(2)]
    return lambda run: scales_like_weights(neuron, matrices, [4.0, 0.5], 0.5, XS, run)


def chunks(neuron: Neuron) -> Callable[[Run], None]:
    return lambda run: carries_memory(neuron, parts(), XS.clone(), (3, 5), run)


def leaky(run: Run) -> None:
    has_rheobase(Neuron(leak=Leak(0.9)), torch.tensor([1.0, 2.0]), run)


def gate(run: Run) -> None:
    only_stops_spikes(GATED, parts(), XS, run)


IF, BURST = Neuron(), Neuron(alphabet=burst(3))
MSAT_IF, DTIF_BURST, LIF = Neuron(threshold=MSAT()), Neuron(threshold=DTIF(), alphabet=burst(5)), Neuron(leak=Leak(0.9))

CAUGHT: dict[str, tuple[Callable[[Run], None], Run]] = {
    "charge: reset to zero": (charge(IF), TO_ZERO),
    "charge: no reset": (charge(IF), NEVER_RESET),
    "charge: starts at zero": (charge(IF), AT_ZERO),
    "charge: a gate drops the spikes of one step": (charge(BURST), DROPS),
    "charge: every spike sent twice": (charge(IF), DOUBLES),
    "charge: leaks one percent": (charge(IF), LEAKS),
    "charge: a bias of 1/64": (charge(IF), BIASED),
    "charge: an MSAT letter worth theta0": (charge(MSAT_IF), WORTH_THETA0),
    "charge: a DTIF letter worth theta0": (charge(DTIF_BURST), WORTH_THETA0),
    "staircase: theta one ulp up": (staircase(IF), ONE_ULP_UP),
    "staircase: fires 1/64 below theta": (staircase(IF), ONE_INPUT_DOWN),
    "staircase: fires above theta, not at it": (staircase(IF), STRICTLY_ABOVE),
    "staircase: one level off": (staircase(IF), ONE_LEVEL_OFF),
    "staircase: a burst without its ceiling": (staircase(BURST), NO_CEILING),
    "staircase: negative letters": (staircase(IF), NEGATIVE_LETTERS),
    "staircase: starts at zero": (staircase(IF), AT_ZERO),
    "staircase: reset to zero": (staircase(IF), TO_ZERO),
    "staircase: leaks one percent": (staircase(IF), LEAKS),
    "staircase: drops the spikes of one step": (staircase(BURST), DROPS),
    "scale: a level in absolute units": (scale(IF), ONE_INPUT_DOWN),
    "scale: a bias of 1/64": (scale(DTIF_BURST), BIASED),
    "scale: MSAT in absolute units": (scale(MSAT_IF), rb.scan),
    "weights: a bias of 1/64": (weights(IF), BIASED),
    "weights: MSAT in absolute units": (weights(MSAT_IF), rb.scan),
    "chunks: memory not carried": (chunks(IF), FORGETS_ALL),
    "chunks: potential not carried": (chunks(IF), FORGETS_V),
    "chunks: starts at half in every chunk": (chunks(BURST), Law(carried=lambda m, n, p, x: born_at(0.5)(n, p, x))),
    "chunks: step index not carried, MSAT": (chunks(MSAT_IF), FORGETS_T),
    "chunks: step index not carried, gate": (chunks(GATED), FORGETS_T),
    "chunks: MSAT's sum not carried": (chunks(MSAT_IF), FORGETS_SUM),
    "chunks: memory written in place": (chunks(IF), in_place),
    "chunks: drives written in place": (chunks(IF), drives_as_buffer),
    "chunks: hidden state between calls": (chunks(IF), remembers_calls),
    "rheobase: no leak": (leaky, NO_LEAK),
    "rheobase: the drive leaks too": (leaky, LEAKS_INPUT),
    "rheobase: a small bias": (leaky, FIXED_CHARGE),
    "rheobase: reset never, level one off": (leaky, ONE_LEVEL_OFF),
    "gate: stopped charge given back": (gate, GIVES_BACK),
    "gate: passes twice the spike": (gate, DOUBLES_WHAT_PASSES),
}
ORACLES = {
    "charge": [charge(n) for n in (IF, BURST, MSAT_IF, DTIF_BURST)],
    "staircase": [staircase(n) for n in (IF, BURST)],
    "scale": [scale(n) for n in (IF, LIF, DTIF_BURST, Neuron(threshold=MSAT(normalised=True)))],
    "weights": [weights(n) for n in (IF, LIF, BURST, DTIF_BURST)],
    "chunks": [chunks(n) for n in (IF, LIF, MSAT_IF, DTIF_BURST, GATED)],
    "rheobase": [leaky],
    "gate": [gate],
}


@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES.keys())
def test_the_law_written_twice_passes_every_oracle(oracle):
    for holds in oracle:
        holds(rb.scan)
        holds(Law())


@pytest.mark.parametrize(("oracle", "wrong"), CAUGHT.values(), ids=CAUGHT.keys())
def test_an_oracle_catches_the_wrong_neuron(oracle, wrong):
    with pytest.raises(AssertionError, match=r"\d"):
        oracle(wrong)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (IF, BURST),
        (IF, Neuron(threshold=Fixed(1 + 2**-20))),
        (IF, Neuron(threshold=DTIF(inverse=rb.Reciprocal(0.01)))),
        (IF, LIF),
        (IF, Neuron(alphabet=Alphabet(levels=(1.0,), heights=(2.0,)))),
        (IF, Neuron(reset=rb.ToValue())),
    ],
)
def test_two_neurons_that_differ_are_not_the_same_neuron(a, b):
    with pytest.raises(AssertionError, match="differ"):
        is_same_neuron(a, b, parts(), XS)


def test_charge_catches_a_wrong_part_as_well_as_a_wrong_run():
    for neuron in (Neuron(reset=rb.ToValue()), LIF, GATED, Neuron(threshold=DTIF(graded=False))):
        with pytest.raises(AssertionError, match="charge is not conserved"):
            conserves_charge(neuron, parts(), XS)


def test_charge_catches_the_loss_of_a_thousandth_in_every_dtype(dtype):
    lossy = Law(emit=lambda s, theta, theta0: s * theta * 0.999) if dtype != torch.bfloat16 else DROPS
    conserves_charge(BURST, parts(), XS.to(dtype))
    with pytest.raises(AssertionError, match="charge is not conserved"):
        conserves_charge(BURST, parts(), XS.to(dtype), lossy)


def test_a_gate_whose_draw_does_not_depend_on_the_step_is_told_apart_by_its_statistics():
    """No identity of one run can tell; `test_parts` counts draws over steps, and this is what it must notice."""
    frozen = Law(gate=first_step_only(SpikeConfidence(steps=8)))
    ys, _ = frozen(replace(IF, gate=SpikeConfidence(steps=8)), parts(1.0), torch.ones(8, 1, 500), None)
    kept = (ys > 0).float().mean(0)
    assert ((kept == 0) | (kept == 1)).all()


def test_same_spikes_excuses_only_the_first_difference_and_only_at_a_level():
    a = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    r = torch.tensor([[0.3, 0.3], [1.0001, 1.4], [0.2, 0.2]])
    b = a.clone()
    b[1, 0], b[2, 0] = 0, 1  # a flip at a level, and its consequence
    assert same_spikes(a, a, r, (1.0, 2.0)) == 0
    assert same_spikes(a, b, r, (1.0, 2.0), eps=1e-3) == 1
    for eps in (0.0, 1e-5):
        with pytest.raises(AssertionError, match="1 neurons go another way"):
            same_spikes(a, b, r, (1.0, 2.0), eps=eps)
    b[1, 1] = 0  # a flip between levels
    with pytest.raises(AssertionError, match=r"letter 1.0 became 0.0 at u/theta = 1.39"):
        same_spikes(a, b, r, (1.0, 2.0), eps=1e-3)
    with pytest.raises(AssertionError, match="shapes"):
        same_spikes(a, b[:2], r, (1.0,))


def test_poisoned_memory_shows_a_kernel_that_skips_its_tail_and_is_gone_afterwards():
    with poisoned(), pytest.raises(AssertionError, match="nan"):
        is_clip_floor_shift(IF, parts(1.0), XS[0], 5, short)
    assert not torch.are_deterministic_algorithms_enabled()


def test_dyadic_inputs_reach_both_ends_and_are_exact_in_bfloat16():
    xs = dyadic(5000, seed=3)
    assert torch.equal(xs.bfloat16().float(), xs)
    assert (xs * 64 == (xs * 64).round()).all()
    assert (float(xs.min()), float(xs.max())) == (-2.0, 2.0)
    assert torch.equal(xs, dyadic(5000, seed=3))
    assert not torch.equal(xs, dyadic(5000, seed=4))


def test_keeps_scale_refuses_a_scale_that_rounds():
    for by in (3.0, -2.0, 0.0):
        with pytest.raises(AssertionError):
            keeps_scale(IF, parts(), XS, by)
