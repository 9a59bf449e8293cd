"""What flows back through a threshold: sums of surrogates, beside finite differences of the smoothed law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from rheobase import (
    ATan,
    Decay,
    Gaussian,
    Leak,
    LearnedDecay,
    Neuron,
    Polynomial,
    Rectangular,
    Sigmoid,
    Subtract,
    Tensors,
    ToValue,
    burst,
    cascade,
    parallel,
    signed,
)  # fmt: skip
from rheobase.surrogate import Compared
from rheobase.testing import dyadic

SURROGATES = [
    Rectangular(),
    Rectangular(0.5),
    Polynomial(),
    Polynomial(4.0),
    Gaussian(),
    Gaussian(0.3),
    ATan(),
    Sigmoid(),
]
ALPHABETS = [
    rb.binary, burst(4), signed(2), signed(3, floor=True), rb.digits(2), rb.ternary, parallel(3, "binary"), cascade(4),
    cascade(3, "binary"), rb.Alphabet(levels=(0.5, 1.5, 3.0), heights=(0.5, 2.0, 1.0)),
]  # fmt: skip
each_surrogate = pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
each_alphabet = pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
seeds = st.integers(0, 2**20)


def slope(alphabet: Any, surrogate: Any, r: Tensor, attached: bool = True) -> Tensor:
    """The gradient of the letters that training sees."""
    r = r.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(Compared(r, alphabet, surrogate, attached).letters().sum(), r)
    return found


# One surrogate


@each_surrogate
def test_a_surrogate_is_even_of_area_one_and_the_derivative_of_its_integral(surrogate):
    r = (torch.arange(-400_000, 400_000, dtype=torch.float64) + 0.5) / 100
    h = surrogate.derivative(r)
    assert float(h.sum()) / 100 == pytest.approx(1, abs=2e-3)
    assert torch.allclose(h, surrogate.derivative(-r))
    assert (h >= 0).all()
    near = torch.linspace(-3, 3, 1001, dtype=torch.float64) + 1e-4
    rise = (surrogate.integral(near + 1e-6) - surrogate.integral(near - 1e-6)) / 2e-6
    torch.testing.assert_close(rise, surrogate.derivative(near), atol=1e-5, rtol=1e-5)
    assert float(surrogate.integral(torch.tensor(0.0))) == pytest.approx(0.5)
    assert float(surrogate.integral(torch.tensor(1e4))) == pytest.approx(1, abs=1e-4)


def test_a_surrogate_without_width_is_refused():
    for kind in (Rectangular, Polynomial, Gaussian, ATan, Sigmoid):
        with pytest.raises(rb.SpecError, match="width"):
            kind(0.0)


# Oracle 8: the gradient of a letter is the sum of the surrogates of its levels


@each_surrogate
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_gradient_is_the_sum_of_the_surrogates_and_its_area_the_number_of_levels(surrogate, k):
    r = (torch.arange(-300_000, 300_000, dtype=torch.float64) + 0.5) / 300
    found = slope(burst(k), surrogate, r)
    expected = torch.stack([surrogate.derivative(r - level) for level in range(1, k + 1)]).sum(0)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert float(found.sum()) / 300 == pytest.approx(k, rel=2e-3)
    both = slope(signed(k), surrogate, r)
    torch.testing.assert_close(both, expected + expected.flip(0), atol=1e-12, rtol=1e-12)


@each_surrogate
@each_alphabet
def test_the_letters_are_those_of_the_alphabet_bit_for_bit(alphabet, surrogate):
    r = torch.cat([dyadic(500, seed=3, low=-6, high=12), torch.tensor(alphabet.levels)])
    assert torch.equal(Compared(r, alphabet, surrogate, True).letters(), alphabet.fire(r))


@each_surrogate
@each_alphabet
def test_the_slope_is_the_derivative_of_the_smoothed_letter(alphabet, surrogate):
    if alphabet.greedy:
        return  # its smoothed letter takes smoothed parts: test_a_cascade_is_the_chain_of_its_comparators
    r = torch.linspace(-4.321, 9.123, 2000, dtype=torch.float64)

    def smoothed(r: Tensor) -> Tensor:
        heights = torch.tensor(alphabet.heights, dtype=r.dtype)
        return (heights[:, None] * alphabet.comparators(r, surrogate.integral)).sum(0)

    rise = (smoothed(r + 1e-6) - smoothed(r - 1e-6)) / 2e-6
    torch.testing.assert_close(slope(alphabet, surrogate, r), rise, atol=1e-5, rtol=1e-5)


@each_alphabet
def test_the_letter_is_the_sum_of_its_comparators(alphabet):
    r = torch.cat([dyadic(500, seed=5, low=-6, high=20), torch.tensor(alphabet.levels)])
    s = alphabet.comparators(r)
    assert torch.equal((torch.tensor(alphabet.heights)[:, None] * s).sum(0), alphabet.fire(r) + 0.0)
    assert set(s.unique().tolist()) <= {-1.0, 0.0, 1.0}
    if not alphabet.greedy and not alphabet.signed:
        assert (s[:-1] >= s[1:]).all()  # nested


@each_surrogate
@pytest.mark.parametrize("alphabet", [cascade(3), cascade(3, "binary")], ids=str)
def test_a_cascade_is_the_chain_of_its_comparators(alphabet, surrogate):
    """Each comparator an autograd function of its own, chained by autograd: the same slope, attached and detached."""
    unit = rb.binary
    for attached in (True, False):
        r = torch.linspace(-1.5, 9.0, 300, dtype=torch.float64).requires_grad_(True)
        left, total = r, torch.zeros_like(r)
        for part in reversed(alphabet.levels):
            s = Compared(left / part, unit, surrogate, True).letters()
            total = total + part * s
            left = left - part * (s if attached else s.detach())
        assert torch.equal(total, alphabet.fire(r))
        (expected,) = torch.autograd.grad(total.sum(), r)
        torch.testing.assert_close(slope(alphabet, surrogate, r.detach(), attached), expected)


# Parallel and cascade


@given(seeds, st.integers(1, 6), st.integers(1, 12))
def test_an_equal_ladder_with_subtract_is_one_neuron_in_both_modes(seed, n, steps):
    xs = dyadic(steps, 50, seed=seed, high=4)
    tensors = Tensors(torch.tensor(0.25), torch.tensor(0.0))
    ys, m = rb.scan(Neuron(alphabet=parallel(n)), tensors, xs)
    chained: Any = Chain(cascade(n))
    other, m_other = rb.scan(Neuron(alphabet=chained), tensors, xs)
    assert torch.equal(ys, other)
    assert torch.equal(m.v, m_other.v)
    assert parallel(n) == burst(n)
    assert cascade(1) == rb.binary


@dataclass(frozen=True)
class Chain:
    """An alphabet by its comparators alone, not by the short form of its letters."""

    of: rb.Alphabet

    def fire(self, r: Tensor) -> Tensor:
        return sum((h * s for h, s in zip(self.of.heights, self.of.comparators(r), strict=True)), torch.zeros_like(r))


@given(seeds, st.integers(1, 6))
def test_the_binary_cascade_is_a_quantiser_of_two_to_the_n_levels(seed, n):
    """algorithms.md 6.7.3: y = floor(V 2^n) / 2^n on [0, threshold)."""
    layer = rb.MultiThresholdLIF(n, mode="cascade", ladder="binary")
    x = dyadic(1, 200, seed=seed, low=0.0, high=63 / 64)
    ys, _ = layer(x)
    assert torch.equal(ys, torch.floor(x * 2**n) / 2**n)
    assert torch.equal(ys, rb.MultiThresholdLIF(2**n - 1, threshold=1 - 2.0**-n)(x)[0])


def test_modes_differ_under_a_hard_reset_and_with_unequal_ladders():
    xs = dyadic(6, 200, seed=4, low=0.0)
    for reset, ladder in ((ToValue(0.0), "equal"), (Subtract(), "binary")):
        a, b = (rb.MultiThresholdLIF(4, mode=m, reset=reset, ladder=ladder)(xs)[0] for m in ("parallel", "cascade"))
        assert not torch.equal(a, b)


def test_ladders_that_ascend_and_take_cumulatively_are_no_quantiser():
    """The count of the literal reading switches at cumulative sums, 6.2: ours does not."""
    x = torch.tensor([[0.25, 0.5, 0.75, 1.0]])
    assert rb.MultiThresholdLIF(4, mode="cascade")(x)[0].tolist() == [[0.25, 0.5, 0.75, 1.0]]


def test_a_cascade_has_no_negative_letters_and_takes_what_it_adds():
    with pytest.raises(rb.SpecError, match="negative"):
        rb.Alphabet(levels=(1.0,), heights=(1.0,), signed=True, greedy=True)
    with pytest.raises(rb.SpecError, match="takes what it adds"):
        rb.Alphabet(levels=(1.0, 2.0), heights=(1.0, 1.0), greedy=True)
    with pytest.raises(rb.SpecError, match="did you mean 'binary'"):
        cascade(3, "binry")


# Through time, beside finite differences


@dataclass(frozen=True)
class Smooth:
    """An alphabet that fires the smoothed letter: a law whose true derivative is the surrogate's."""

    of: rb.Alphabet
    surrogate: Any
    signed: bool = False
    uniform: bool = False

    @property
    def levels(self) -> tuple[float, ...]:
        return self.of.levels

    @property
    def full(self) -> float:
        return self.of.full

    def fire(self, r: Tensor) -> Tensor:
        heights = torch.tensor(self.of.heights, dtype=r.dtype).reshape(-1, *(1,) * r.ndim)
        return (heights * self.of.comparators(r, self.surrogate.integral)).sum(0)

    def slope(self, r: Tensor, h: Callable[[Tensor], Tensor], attached: bool = True) -> Tensor:
        return self.of.slope(r, h, attached)


@dataclass(frozen=True)
class SmoothToValue:
    """A hard reset that looks at the smoothed comparator too."""

    surrogate: Any
    level: float
    detach: bool = False

    def __call__(self, u: Tensor, removed: Tensor, compared: Any = None) -> Tensor:
        alone: Any = Smooth(rb.Alphabet(levels=(self.level,), heights=(1.0,)), self.surrogate)
        hit = Compared(compared.r, alone, self.surrogate, True).letters()
        return (1 - hit) * u + hit * 0.125


LEAKS = [Leak(), Leak(0.5), Decay(2.0), LearnedDecay(3.0), LearnedDecay(2.0, rest=0.25)]
SMOOTH = [Gaussian(), ATan(), Sigmoid(), Polynomial()]


@pytest.mark.parametrize("leak", LEAKS, ids=str)
@pytest.mark.parametrize("surrogate", SMOOTH, ids=str)
def test_gradients_through_time_are_finite_differences_of_the_smoothed_law(surrogate, leak):
    for letters in (rb.binary, burst(3), signed(2)):
        alphabet: Any = Smooth(letters, surrogate)
        checked(Neuron(alphabet=alphabet, leak=leak, surrogate=surrogate), leak)
    alphabet, hard = Smooth(burst(2), surrogate), SmoothToValue(surrogate, 1.0)
    checked(Neuron(alphabet=alphabet, leak=leak, surrogate=surrogate, reset=hard), leak)


def checked(neuron: Any, leak: Any) -> None:
    """torch's own finite differences, of ys and of the last potential, by drives, threshold, start and leak."""
    xs = 2 * torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.tensor(leak.learned or 0.3, dtype=torch.float64)
    theta, v0 = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    inputs = [t.requires_grad_(True) for t in (xs, theta, v0, start)]

    def law(xs: Tensor, theta: Tensor, v0: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        ys, m = rb.scan(neuron, Tensors(theta, v0, leak=None if leak.learned is None else w), xs)
        return ys + 0 * w, m.v

    assert torch.autograd.gradcheck(law, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("surrogate", SMOOTH, ids=str)
def test_a_detached_reset_holds_what_was_taken(surrogate):
    """Finite differences of the law in which what each step takes is held at its value."""
    alphabet: Any = Smooth(burst(3), surrogate)
    neuron: Any = Neuron(alphabet=alphabet, leak=Leak(0.5), surrogate=surrogate, reset=Subtract(detach=True))
    tensors = Tensors(torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    base = 2 * torch.rand(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    taken, _ = rb.scan(neuron, tensors, base)

    def held(xs: Tensor) -> Tensor:
        v, ys = torch.zeros(5, dtype=torch.float64), []
        for x, y in zip(xs, taken, strict=True):
            u = 0.5 * v + x
            ys.append(alphabet.fire(u / 0.7) * 0.7)
            v = u - y
        return torch.stack(ys)

    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    xs = base.clone().requires_grad_(True)
    (found,) = torch.autograd.grad((rb.scan(neuron, tensors, xs)[0] * weights).sum(), xs)
    for t in range(4):
        for n in range(5):
            nudge = torch.zeros_like(base)
            nudge[t, n] = 1e-6
            rise = ((held(base + nudge) - held(base - nudge)) * weights).sum() / 2e-6
            assert found[t, n].item() == pytest.approx(rise.item(), abs=1e-5)
    attached: Any = replace(neuron, reset=Subtract())
    (other,) = torch.autograd.grad((rb.scan(attached, tensors, xs)[0] * weights).sum(), xs)
    assert not torch.allclose(found, other)


def test_the_gradient_is_that_of_the_papers_recursion():
    """algorithms.md 5.4: dL/du(t) = dL/ds g + dL/du(t+1) k (1 - V g), the second V g dropped if detached."""
    neuron = Neuron(alphabet=burst(3), leak=Leak(0.5), surrogate=Rectangular())
    tensors = Tensors(torch.tensor(1.0), torch.tensor(0.0))
    xs = dyadic(5, 40, seed=2, high=4).requires_grad_(True)
    weights = dyadic(5, 40, seed=3)
    for detach in (False, True):
        one = replace(neuron, reset=Subtract(detach=detach))
        (found,) = torch.autograd.grad((rb.scan(one, tensors, xs)[0] * weights).sum(), xs)
        m, g = rb.init(one, tensors, xs[0]), []
        for x in xs.detach():
            u = 0.5 * m.v + x
            g.append(sum(((u - k >= -0.5) & (u - k < 0.5)).float() for k in (1, 2, 3)))
            _, m = rb.step(one, tensors, x, m)
        assert torch.equal(found, torch.stack(recursion(weights, g, detach)))


def recursion(weights: Tensor, g: list[Any], detach: bool) -> list[Tensor]:
    """dL/du of every step, the last first, in order."""
    steps: list[Tensor] = []
    for t in range(len(g) - 1, -1, -1):
        ahead = steps[0] * 0.5 * (1 - g[t] * (not detach)) if steps else torch.zeros_like(weights[0])
        steps.insert(0, weights[t] * g[t] + ahead)
    return steps


@pytest.mark.parametrize("at", ["first", "full"])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
def test_the_gradient_of_a_hard_reset_is_that_of_its_comparator(surrogate, detach, at):
    """dL/du(t) = dL/ds g + dL/dv (1 - r + (value - u) h(u - level)), r at the first or at the full threshold."""
    reset, level = ToValue(0.25, at=at, detach=detach), 1.0 if at == "first" else 3.0
    neuron = Neuron(alphabet=burst(3), leak=Leak(0.5), surrogate=surrogate, reset=reset)
    tensors = Tensors(torch.tensor(1.0), torch.tensor(0.0))
    xs = dyadic(5, 40, seed=2, high=4).requires_grad_(True)
    weights = dyadic(5, 40, seed=3)
    (found,) = torch.autograd.grad((rb.scan(neuron, tensors, xs)[0] * weights).sum(), xs)
    m, us = rb.init(neuron, tensors, xs[0]), []
    for x in xs.detach():
        us.append(0.5 * m.v + x)
        _, m = rb.step(neuron, tensors, x, m)
        assert torch.equal(m.v, torch.where(us[-1] >= level, 0.25, us[-1]))
    back, expected = torch.zeros(40), []
    for u, w in zip(reversed(us), weights.flip(0), strict=True):
        through = (u < level).float() + (0.25 - u) * surrogate.derivative(u - level) * (not detach)
        back = w * burst(3).slope(u, surrogate.derivative) + 0.5 * back * through
        expected.insert(0, back)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


# Recomputation


@pytest.mark.parametrize("reset", [Subtract(), Subtract(detach=True), ToValue(0.0), ToValue(0.25, at="full")], ids=str)
@pytest.mark.parametrize("alphabet", [rb.binary, burst(4), signed(2), cascade(3, "binary")], ids=str)
def test_running_a_neuron_again_backward_gives_the_same_gradients(alphabet, reset):
    grads = []
    for recompute in (True, False):
        neuron = Neuron(alphabet=alphabet, reset=reset, leak=LearnedDecay(2.0), surrogate=ATan())
        layer = rb.Population(neuron, threshold=0.75, start=0.25, learn_threshold=True, recompute=recompute)
        xs = dyadic(5, 3, 40, seed=6).requires_grad_(True)
        with rb.kernels.use("reference"):
            first, memory = layer(xs[:2])
            second, memory = layer(xs[2:], memory)
        loss = (torch.cat([first, second]) * dyadic(5, 3, 40, seed=7)).sum() + memory.v.square().sum()
        loss.backward()
        grads.append((first, second, xs.grad, *(p.grad for p in layer.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert torch.equal(grads[0][2], grads[1][2])


def test_running_again_keeps_the_drives_only():
    def kept(recompute: bool) -> int:
        total = 0

        def pack(t: Tensor) -> Tensor:
            nonlocal total
            total += t.numel()
            return t

        layer = rb.MultiThresholdLIF(4, leak=LearnedDecay(), learn_threshold=True, recompute=recompute)
        xs = dyadic(8, 1, 1000).requires_grad_(True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            layer(xs)
        return total

    with rb.kernels.use("reference"):
        assert kept(True) < 18_000 < 30_000 < kept(False)  # drives, start, and the letters for their threshold
    if not rb.kernels.cpu.MISSING:
        assert kept(True) == kept(False) < 18_000


def test_mixed_precision_compares_in_float32():
    xs = dyadic(3, 50, seed=8).bfloat16().requires_grad_(True)
    layer = rb.MultiThresholdLIF(4)
    with torch.autocast("cpu", torch.bfloat16):
        ys, memory = layer(xs)
        ys.float().square().sum().backward()
    whole, _ = layer(xs.detach().float())
    assert memory.v.dtype == torch.float32
    assert ys.dtype == torch.bfloat16
    assert torch.equal(ys.float(), whole)
    assert xs.grad is not None
    assert xs.grad.abs().sum() > 0


def test_without_a_surrogate_no_gradient_passes_a_threshold():
    xs = dyadic(3, 5).requires_grad_(True)
    ys, _ = rb.scan(Neuron(), Tensors(torch.tensor(1.0), torch.tensor(0.0)), xs)
    assert not ys.requires_grad or torch.autograd.grad(ys.sum(), xs)[0].abs().sum() == 0
