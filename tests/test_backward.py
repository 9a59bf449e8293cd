"""The C++ gradient of a neuron is that of autograd through the law: every letter, leak, reset, surrogate and layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rheobase as rb
from gradients import ALPHABETS, LEAKS, LEARNED, RESETS, SURROGATES, agree, gradients, tensors
from rheobase import Decay, Leak, LearnedDecay, Neuron, Rectangular, Subtract, ToValue, kernels
from rheobase.kernels import cpu
from rheobase.kernels.law import law, rule, slope
from rheobase.recompute import run
from rheobase.testing import dyadic

pytestmark = pytest.mark.skipif(bool(cpu.MISSING), reason=cpu.MISSING)


@settings(max_examples=100)
@given(
    surrogate=st.sampled_from(SURROGATES),
    alphabet=st.sampled_from(ALPHABETS),
    leak=st.sampled_from(LEAKS),
    reset=st.sampled_from(RESETS),
    shape=st.sampled_from([(1,), (7,), (33,), (130,), (3, 5, 7), (16, 4, 4)]),
    batch=st.integers(1, 3),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1000),
    per=st.sampled_from(["layer", "channel", "neuron"]),
    gain=st.sampled_from([1.0, 0.5]),
    learned=st.sampled_from([LEARNED, ("bias",), ("v0",)]),
)
def test_gradients_are_those_of_the_law(
    surrogate, alphabet, leak, reset, shape, batch, steps, seed, per, gain, learned
):
    size = {"layer": (), "channel": (shape[0], *(1 for _ in shape[1:])), "neuron": shape}[per]
    theta0 = dyadic(*size, seed=seed, low=0.25, high=3.0)
    bias = dyadic(2, *shape, seed=seed, low=-0.5, high=0.5) if seed % 2 else None
    neuron = Neuron(threshold=rb.Fixed(gain), alphabet=alphabet, leak=leak, reset=reset, surrogate=surrogate)
    xs = dyadic(steps, batch, *shape, seed=seed, low=-2, high=4)
    agree(neuron, tensors(leak, theta0, bias), xs, cut=seed % steps, learned=learned)


EXACT = [Rectangular(), Rectangular(0.5)]


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
def test_on_dyadic_numbers_the_rectangle_gives_the_same_bits(alphabet, reset, instructions):
    """Powers of two and few digits, so that no order of a sum matters: but a threshold's under a hard reset, whose
    gradient is multiplied by a potential in each step."""
    exact = ("xs", "v0") if isinstance(reset, ToValue) else ("xs", "v0", "theta0")
    for surrogate, leak in itertools.product(EXACT, (Leak(), Leak(0.5), Decay(2.0))):
        neuron = Neuron(alphabet=alphabet, leak=leak, reset=reset, surrogate=surrogate)
        xs = torch.floor(dyadic(3, 2, 150, seed=5, low=-2, high=4) * 8) / 8
        for learned in (LEARNED, ("v0",)):
            agree(neuron, tensors(leak, torch.tensor(1.0)), xs, exact=exact, learned=learned)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
def test_every_instruction_set_has_the_gradient(surrogate, instructions):
    for alphabet, leak in itertools.product(ALPHABETS, (Leak(0.5), LearnedDecay(3.0))):
        neuron = Neuron(alphabet=alphabet, leak=leak, surrogate=surrogate)
        theta0 = dyadic(3, 7, 11, seed=3, low=0.25, high=3.0)
        xs = torch.randn(4, 2, 3, 7, 11, generator=torch.Generator().manual_seed(1))
        for learned in (LEARNED, ()):
            agree(neuron, tensors(leak, theta0), xs, learned=learned)


WRONG: dict[str, Callable[[Neuron], Neuron]] = {
    "detached": lambda n: replace(n, reset=replace(cast(Any, n.reset), detach=True)),
    "wide": lambda n: replace(n, surrogate=Rectangular(1.25)),
    "another surrogate": lambda n: replace(n, surrogate=rb.ATan()),
    "fewer letters": lambda n: replace(n, alphabet=rb.burst(3)),
    "leaks less": lambda n: replace(n, leak=Leak(0.5078125)),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("reset", [Subtract(), ToValue(0.25)], ids=str)
def test_a_wrong_gradient_is_caught(name, reset):
    """A kernel that has the letters of the neuron and the gradient of another one."""
    neuron = Neuron(alphabet=rb.burst(4), leak=Leak(0.5), reset=reset, surrogate=Rectangular())
    t, xs = tensors(neuron.leak, torch.tensor(1.0)), dyadic(5, 2, 60, seed=2, low=-1, high=5)
    agree(neuron, t, xs)
    with pytest.raises(AssertionError):
        agree(neuron, t, xs, wrong=WRONG[name](neuron))


@pytest.mark.parametrize("name", ["detached", "wide", "another surrogate"])
def test_a_wrong_gradient_is_caught_where_the_letters_are_right(name):
    neuron = Neuron(alphabet=rb.burst(4), leak=Leak(0.5), surrogate=Rectangular())
    t, xs = tensors(neuron.leak, torch.tensor(1.0)), dyadic(5, 2, 60, seed=2, low=-1, high=5)
    ours, theirs = gradients("cpu", WRONG[name](neuron), t, xs), gradients("reference", neuron, t, xs)
    assert torch.equal(ours["ys"], theirs["ys"])
    with pytest.raises(AssertionError):
        agree(neuron, t, xs, wrong=WRONG[name](neuron))


def test_many_neurons_sum_up_the_same_on_any_number_of_threads():
    """More than a piece, thresholds shared, per channel and per neuron, samples that meet in one threshold."""
    threads = torch.get_num_threads()
    neuron = Neuron(alphabet=rb.burst(2), leak=LearnedDecay(2.0), surrogate=rb.ATan())
    xs = torch.randn(3, 5, 6, 40, 50, generator=torch.Generator().manual_seed(3))
    for size in ((), (6, 1, 1), (6, 40, 50)):
        t = tensors(neuron.leak, dyadic(*size, seed=3, low=0.5, high=2.0))
        agree(neuron, t, xs)
        once = gradients("cpu", neuron, t, xs)
        torch.set_num_threads(2)
        again = gradients("cpu", neuron, t, xs)
        torch.set_num_threads(threads)
        assert all(torch.equal(once[name], again[name]) for name in ("ys", "v", "xs", "theta0", "leak"))


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 5])
def test_letters_and_gradients_that_are_more_than_the_caches_hold(size, instructions):
    """They are written past them, where that meets whole vectors."""
    xs = dyadic(3, 1, size, seed=5, low=-1, high=2)
    for learned in (LEARNED, ()):
        agree(Neuron(leak=Leak(0.5), surrogate=rb.ATan()), tensors(Leak(), torch.tensor(1.0)), xs, learned=learned)


def test_layouts_and_constant_drives():
    """Channels last, a drive that is constant in time, gradients that come in expanded or only by the potential."""
    x = dyadic(3, 5, 6, 7, seed=2).contiguous(memory_format=torch.channels_last)
    theta0 = dyadic(5, 1, 1, seed=3, low=0.5, high=2.0)
    neuron = Neuron(alphabet=rb.burst(3), leak=Leak(0.5), surrogate=rb.ATan())
    for drive in (x, x.contiguous()):
        agree(neuron, tensors(neuron.leak, theta0), torch.stack([drive, drive / 2]))
        found = []
        for kernel in ("cpu", "reference"):
            held = drive.clone().requires_grad_(True)
            with kernels.use(kernel):
                (letters, _), m = run(neuron, tensors(neuron.leak, theta0), rb.constant(held, 4), None)
            losses = letters.sum(), letters.square().sum() + m.v.sum(), m.v.sum()
            found += [torch.autograd.grad(loss, held, retain_graph=True)[0] for loss in losses]
        for ours, theirs in zip(found[:3], found[3:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_neuron_that_waits_and_drives_in_half_precision():
    xs = dyadic(4, 3, 20, seed=4, high=3)
    waits = Neuron(alphabet=rb.burst(2), gate=rb.Wait(), surrogate=rb.ATan())
    agree(waits, tensors(waits.leak, torch.tensor(1.0)), xs)
    neuron = Neuron(alphabet=rb.burst(2), surrogate=Rectangular())
    ours, theirs = (
        gradients(k, neuron, tensors(Leak(), torch.tensor(1.0)), xs.bfloat16()) for k in ("cpu", "reference")
    )
    assert ours["xs"].dtype == torch.bfloat16
    assert ours["ys"].dtype == theirs["ys"].dtype == torch.float32
    assert all(torch.equal(ours[name], theirs[name]) for name in ("ys", "v", "xs"))


def test_the_forward_run_of_leaks_that_a_learning_net_has(instructions):
    """Decay and LearnedDecay without a gradient: the bits of the reference, moving thresholds too."""
    for leak, threshold in itertools.product(LEAKS[2:], (rb.Fixed(0.5), rb.DTIF())):
        neuron = Neuron(threshold=threshold, leak=leak, alphabet=rb.burst(3), surrogate=rb.ATan())
        t, xs = tensors(leak, dyadic(37, seed=1, low=0.5, high=2.0)), torch.randn(6, 3, 37)
        assert kernels.choose(neuron, t, xs).name == "cpu"
        (ours, _), m = cpu.run(neuron, t, xs, None)
        (theirs, _), n = rb.kernels.reference.run(neuron, t, xs, None)
        assert torch.equal(ours, theirs)
        assert torch.equal(m.v, n.v)


# What has no gradient here


class Own:
    """A surrogate that no kernel knows."""

    def derivative(self, r: Tensor) -> Tensor:
        return torch.ones_like(r)


NONE = {
    "without a surrogate": Neuron(),
    "by Own": Neuron(surrogate=Own()),  # pyright: ignore[reportArgumentType]
    "of MSAT": Neuron(threshold=rb.MSAT(), surrogate=rb.ATan()),
    "through SentCharge": Neuron(alphabet=rb.ternary, gate=rb.SentCharge(), surrogate=rb.ATan()),
}


@pytest.mark.parametrize("why", NONE)
def test_what_has_no_gradient_here_is_run_again_by_the_law(why):
    neuron, t = NONE[why], tensors(Leak(), torch.tensor(1.0))
    xs = dyadic(3, 2, 9, seed=1).requires_grad_(True)
    assert cpu.declines(neuron) == ""
    assert why in cpu.backward_declines(neuron)
    assert cpu.declines(neuron, t, xs) == cpu.backward_declines(neuron)
    (letters, worth), m = run(neuron, t, xs, None)
    assert m.v.requires_grad
    torch.autograd.grad((letters * worth).sum() + m.v.sum(), xs)
    with kernels.use("cpu"), pytest.raises(rb.KernelError, match=why):
        run(neuron, t, xs, None)


def test_memory_that_is_learned_is_seen():
    """Neither drives nor thresholds have a gradient, only the memory that is handed on."""
    neuron, t, xs = Neuron(), tensors(Leak(), torch.tensor(1.0)), dyadic(3, 2, 9, seed=1)
    m = rb.init(neuron, t, xs[0])
    m = m._replace(v=m.v.requires_grad_(True))
    assert kernels.choose(neuron, t, xs, m).name == "reference"
    assert kernels.choose(replace(neuron, surrogate=rb.ATan()), t, xs, m).name == "cpu"
    assert "float64" in cpu.declines(neuron, t, xs, m._replace(v=m.v.double()))


def test_a_gradient_has_no_gradient_of_its_own():
    xs = dyadic(3, 2, 9, seed=1).requires_grad_(True)
    (letters, _), _ = run(Neuron(surrogate=rb.ATan()), tensors(Leak(), torch.tensor(1.0)), xs, None)
    (once,) = torch.autograd.grad(letters.square().sum(), xs, create_graph=True)
    with pytest.raises(NotImplementedError, match="no gradient of its own"):
        once.sum().backward()


def test_training_goes_the_same_way_with_and_without_the_kernels():
    def trained(kernel: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(2, 6, 3), rb.PLIF(), torch.nn.Flatten(), torch.nn.Linear(96, 10), rb.MultiThresholdLIF(2)
        )
        snn = rb.spiking(net, torch.rand(1, 2, 6, 6)).train()
        optimiser, xs = torch.optim.SGD(snn.parameters(), 0.1), rb.constant(2 * torch.rand(8, 2, 6, 6), 4)
        with kernels.use(kernel):
            for _ in range(3):
                optimiser.zero_grad()
                snn(xs)[0][-1].square().sum().backward()
                optimiser.step()
        return [p.detach() for p in snn.parameters()]

    for a, b in zip(trained("cpu"), trained("reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# The operators as PyTorch sees them


def checked(name: str, args: tuple[Any, ...]) -> None:
    found = torch.library.opcheck(getattr(torch.ops.rheobase, name).default, args)
    assert set(found.values()) == {"SUCCESS"}, found


@pytest.mark.parametrize(("leak", "reset"), [(Leak(0.5), Subtract()), (LearnedDecay(2.0), ToValue(0.25))], ids=str)
def test_opcheck_of_the_neuron_and_its_gradient(leak, reset):
    neuron = Neuron(alphabet=rb.burst(2), leak=leak, reset=reset, surrogate=rb.ATan())
    xs, v = dyadic(3, 2, 5, 4, seed=1), dyadic(2, 5, 4, seed=2)
    share = None if leak.learned is None else torch.tensor(0.5)
    for theta in (torch.ones(1), dyadic(1, 5, 4, seed=3, low=0.5, high=2.0)):
        given, numbers = (xs, v, theta, share), (*law(neuron), *slope(neuron))
        learned = [None if part is None else part.clone().requires_grad_(True) for part in given]
        checked("neuron_forward", (*learned, *numbers))
        checked("neuron_backward", (dyadic(3, 2, 5, 4, seed=4), None, True, True, *given, *numbers))
        checked("neuron_backward", (None, dyadic(2, 5, 4, seed=5), False, False, *given, *numbers))
        checked("neuron_forward", (xs, torch.tensor(0.25).expand(2, 5, 4), theta, share, *numbers))
        out = (
            torch.empty_like(xs),
            torch.empty_like(v),
            torch.empty_like(theta),
            share if share is None else theta.new_empty(1),
        )
        checked("neuron_back", (dyadic(3, 2, 5, 4, seed=4), None, *given, *out, *numbers))


def test_opcheck_of_the_operators_that_write():
    neuron, xs, v = Neuron(threshold=rb.MSAT()), dyadic(3, 2, 9, seed=1), dyadic(2, 9, seed=2)
    out = (torch.zeros_like(v), None, torch.empty_like(xs), torch.empty_like(xs))
    checked("neuron", (xs, v.clone(), v, *out, torch.ones(1), None, 0, *rule(neuron), *law(neuron)))
    x, weight = dyadic(2, 5, 5, 3, seed=1), dyadic(4, 3, 3, 3, seed=2)
    checked("event_conv", (x, weight, torch.ones(4), [1, 1], [1, 1], 1, torch.empty(2, 5, 5, 4)))
    checked("event_conv_weight", (x, False, x.clone(), False, [0, 0], 1, torch.empty(5, 5, 1, 1)))
    checked("instruction_set", (-1,))
