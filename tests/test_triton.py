"""The Triton kernels do what the law does, on a GPU; without one, TRITON_INTERPRET=1 pytest tests/test_triton.py."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from gradients import ALPHABETS, LEAKS, RESETS, SURROGATES, agree, gradients, tensors
from rheobase import Leak, Neuron, Rectangular, Subtract, kernels
from rheobase.kernels import triton as kernel
from rheobase.kernels.law import law, slope
from rheobase.testing import dyadic

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
here = pytest.mark.skipif(bool(kernel.MISSING) or not (INTERPRETED or DEVICE == "cuda"), reason="no Triton, or no GPU")
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # numpy stands for the GPU


def on(*parts: Tensor) -> list[Tensor]:
    return [part.to(DEVICE) for part in parts]


@here
@settings(max_examples=40)
@given(
    surrogate=st.sampled_from(SURROGATES),
    alphabet=st.sampled_from(ALPHABETS),
    leak=st.sampled_from(LEAKS),
    reset=st.sampled_from(RESETS),
    shape=st.sampled_from([(7,), (33,), (3, 5, 7)]),
    steps=st.integers(1, 5),
    seed=st.integers(0, 1000),
    per=st.sampled_from(["layer", "channel", "neuron"]),
    gain=st.sampled_from([1.0, 0.5]),
)
def test_letters_and_gradients_are_those_of_the_law(surrogate, alphabet, leak, reset, shape, steps, seed, per, gain):
    size = {"layer": (), "channel": (shape[0], *(1 for _ in shape[1:])), "neuron": shape}[per]
    neuron = Neuron(threshold=rb.Fixed(gain), alphabet=alphabet, leak=leak, reset=reset, surrogate=surrogate)
    theta0, xs = on(dyadic(*size, seed=seed, low=0.25, high=3.0), dyadic(steps, 2, *shape, seed=seed, low=-2, high=4))
    agree(neuron, tensors(leak, theta0), xs, cut=seed % steps, by="triton")


@here
@pytest.mark.parametrize("size", [(), (6, 1, 1), (6, 20, 25)])
def test_several_blocks_and_channels_last(size):
    neuron = Neuron(alphabet=rb.burst(2), leak=rb.LearnedDecay(2.0), surrogate=rb.ATan())
    xs, theta0 = on(dyadic(3, 5, 20, 25, 6, seed=3).permute(0, 1, 4, 2, 3), dyadic(*size, seed=3, low=0.5, high=2.0))
    agree(neuron, tensors(neuron.leak, theta0), xs, by="triton")


@here
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(), (20,)])
def test_drives_of_16_bits(dtype, size):
    neuron = Neuron(alphabet=rb.burst(2), leak=Leak(0.5), surrogate=Rectangular())
    theta0, xs = torch.ones(size, device=DEVICE), dyadic(4, 3, 20, seed=4, high=3).to(DEVICE, dtype)
    ours, theirs = (gradients(name, neuron, tensors(neuron.leak, theta0), xs) for name in ("triton", "reference"))
    assert ours["xs"].dtype == dtype
    assert all(torch.equal(ours[name], theirs[name]) for name in ("ys", "v", "xs", "theta0"))


@here
@pytest.mark.parametrize("theta0", [1.0, 0.3])
@pytest.mark.parametrize(
    ("alphabet", "narrow"),
    [
        (rb.binary, True),
        (rb.burst(256), True),
        (rb.burst(257), False),
        (rb.signed(3, floor=True), True),
        (rb.Alphabet(levels=(0.1, 1.0), heights=(0.1, 0.9)), False),
    ],
    ids=str,
)
def test_letters_are_as_narrow_as_the_drives_where_they_are_numbers_of_16_bits(alphabet, narrow, theta0):
    neuron, xs = Neuron(alphabet=alphabet), (dyadic(2, 3, 40, seed=5, low=-2, high=2) * 160).to(DEVICE, torch.bfloat16)
    t = tensors(neuron.leak, torch.tensor(theta0, device=DEVICE))
    expected, _ = rb.neuron.emissions(neuron, t, xs)
    answers = []
    for name in ("triton", "reference"):
        with torch.no_grad(), kernels.use(name):
            answers.append(rb.neuron.received(neuron, kernels.choose(neuron, t, xs).run(neuron, t, xs, None)[0], None))
            letters = kernels.choose(neuron, t, xs).run(neuron, t, xs, None)[0].letters
        assert torch.equal(letters.float(), expected.letters)
        assert letters.dtype == (torch.bfloat16 if narrow and name == "triton" else torch.float32)
    assert torch.equal(answers[0].to(xs.dtype), answers[1].to(xs.dtype))


@here
@pytest.mark.parametrize("last", [False, True])
def test_what_a_gate_remembers_is_carried_on(last):
    neuron = Neuron(alphabet=rb.signed(3, floor=True), gate=rb.SentCharge())
    xs = dyadic(6, 4, 9, 5, seed=6, low=-3, high=3).to(DEVICE)
    xs = xs.permute(0, 1, 3, 2) if last else xs
    t, m = tensors(neuron.leak, torch.tensor(0.75, device=DEVICE)), None
    (expected, _), end = rb.neuron.emissions(neuron, t, xs)
    parts: list[Tensor] = []
    with torch.no_grad(), kernels.use("triton"):
        for piece in (xs[:2], xs[2:]):
            before = None if m is None else m.gate[0].clone()
            (letters, _), after = kernels.choose(neuron, t, piece, m).run(neuron, t, piece, m)
            assert m is None or before is None or torch.equal(m.gate[0], before)  # the caller keeps its memory
            parts, m = [*parts, letters], after
    assert torch.equal(torch.cat(parts), expected)
    assert m
    assert torch.equal(m.v, end.v)
    assert torch.equal(m.gate[0], end.gate[0])
    assert not torch.equal(expected, rb.neuron.emissions(replace(neuron, gate=rb.Open()), t, xs)[0].letters)
    with pytest.raises(rb.KernelError, match="gradient"), kernels.use("triton"):
        kernels.choose(replace(neuron, surrogate=Rectangular()), t, xs.clone().requires_grad_())


@here
def test_what_is_counted_in_a_network_of_16_bits_is_what_the_law_counts():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6272, 3)
    )
    x, y = torch.rand(6, 2, 32, 32), torch.zeros(6, dtype=torch.int64)
    net = rb.convert(ann.eval(), rb.methods.opi(), [x])[0].to(DEVICE, torch.bfloat16)
    curves = []
    for name in ("triton", "reference"):
        with kernels.use(name):
            curves.append(rb.evaluate(net, [(x.to(torch.bfloat16), y)], 3).to_json())
    ours, theirs = ({name: found for name, found in curve.items() if name != "provenance"} for curve in curves)
    assert ours == theirs
    assert ours["rate"][-1] > 0


@here
def test_a_wrong_gradient_is_caught():
    neuron, wrong = (Neuron(leak=Leak(0.5), reset=Subtract(detach=d), surrogate=Rectangular()) for d in (False, True))
    t, xs = tensors(neuron.leak, torch.tensor(1.0, device=DEVICE)), dyadic(5, 2, 60, seed=2, low=-1, high=5).to(DEVICE)
    with pytest.raises(AssertionError):
        agree(neuron, t, xs, wrong=wrong, by="triton")


@here
def test_a_run_without_a_gradient_needs_no_surrogate():
    neuron = Neuron(alphabet=rb.ternary)
    t, xs = tensors(neuron.leak, torch.tensor(0.75, device=DEVICE)), dyadic(4, 2, 30, seed=1).to(DEVICE)
    (expected, _), n = rb.neuron.emissions(neuron, t, xs)
    with torch.no_grad(), kernels.use("triton"):
        (letters, _), m = kernels.choose(neuron, t, xs).run(neuron, t, xs, None)
    assert torch.equal(letters, expected)
    assert torch.equal(m.v, n.v)


def test_what_triton_does_not_take(monkeypatch):
    monkeypatch.setattr(kernel, "MISSING", "")
    t, xs = tensors(Leak(), torch.tensor(1.0)), dyadic(3, 2, 9)
    assert "on a GPU, not torch.float32 on cpu" in kernel.declines(Neuron(), t, xs)
    assert kernels.choose(Neuron(), t, xs).name != "triton"
    for neuron, why in (
        (Neuron(threshold=rb.MSAT()), "MSAT"),
        (Neuron(gate=rb.SpikeConfidence()), "gate"),
        (Neuron(alphabet=rb.power_of_two(3), gate=rb.SentCharge(rb.power_of_two(3).letters)), "whole letters"),
        (Neuron(alphabet=rb.Alphabet(levels=(1.0, 3.0), heights=(1.0, 3.0), greedy=True)), "cascade"),
    ):
        assert why in kernel.declines(neuron)
        with kernels.use("triton"), pytest.raises(rb.KernelError, match=why):
            kernels.choose(neuron)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None or INTERPRETED, reason="needs Triton, not its interpreter")
@pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
def test_the_programs_compile_for_a_gpu_that_is_not_here(alphabet):
    """To a binary of compute capability 9.0, without fused multiplications."""
    triton, backends = pytest.importorskip("triton"), pytest.importorskip("triton.backends.compiler")
    gpu: Any = pytest.importorskip("rheobase.kernels.gpu")
    neuron = Neuron(alphabet=alphabet, leak=rb.LearnedDecay(3.0), surrogate=rb.Gaussian())
    numbers = (*law(neuron), *slope(neuron))
    for program, arguments in ((gpu.forward, kernel.arguments), (gpu.backward, kernel.backward_arguments)):
        _, known = arguments(torch.zeros(3, 2, 4), torch.ones(1), numbers)
        known |= {"GATED": True} if program is gpu.forward else {}
        options = {"enable_fp_fusion": known.pop("enable_fp_fusion")}
        kinds = dict.fromkeys(("steps", "stride", "size", "period"), "i32") | dict.fromkeys(known, "constexpr")
        narrow = "xs", "to_xs", "letters", "by_letters"
        kinds |= dict.fromkeys(("leak", "rest", "value"), "fp32") | dict.fromkeys(narrow, "*bf16")
        signature = {name: kinds.get(name, "*fp32") for name in program.arg_names}
        constants = {(program.arg_names.index(name),): value for name, value in known.items()}
        source = triton.compiler.ASTSource(fn=program, signature=signature, constexprs=constants)
        built = triton.compile(source, target=backends.GPUTarget("cuda", 90, 32), options=options)
        assert len(built.asm["cubin"]) > 0
        assert "fma.rn.f32" not in built.asm["ptx"] or program is gpu.backward
