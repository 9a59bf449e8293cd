"""Gradients of a neuron by one kernel beside those of the law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import rheobase as rb
from rheobase import Decay, Leak, LearnedDecay, Neuron, Rectangular, Subtract, Tensors, ToValue, kernels, testing
from rheobase.recompute import run
from rheobase.testing import dyadic

SURROGATES = [Rectangular(), Rectangular(0.5), rb.Polynomial(), rb.Polynomial(4.0), rb.Gaussian(), rb.Gaussian(0.3)]
SURROGATES += [rb.ATan(), rb.ATan(3.0), rb.Sigmoid(), rb.Sigmoid(0.5)]
ALPHABETS = [
    rb.binary, rb.burst(4), rb.signed(2), rb.signed(3, floor=True), rb.ternary, rb.digits(2), rb.parallel(3, "binary"),
    rb.cascade(4), rb.cascade(3, "binary"), rb.Alphabet(levels=(0.5, 1.5, 3.0), heights=(0.5, 2.0, 1.0)),
    rb.Alphabet(levels=(0.5, 2.0), heights=(0.5, 2.0), signed=True),
    rb.Alphabet(levels=(0.5, 2.0), heights=(0.5, 2.0), signed=True, floor=True),
]  # fmt: skip
LEAKS = [Leak(), Leak(0.5), Decay(2.0), Decay(3.0, rest=0.25), LearnedDecay(3.0), LearnedDecay(2.0, rest=-0.5)]
RESETS = [Subtract(), ToValue(0.25), ToValue(0.5, at="full")]
RESETS += [replace(reset, detach=True) for reset in RESETS]


LEARNED = ("theta0", "v0", "bias", "leak")


def gradients(
    kernel: str, neuron: Neuron, t: Tensors, xs: Tensor, cut: int = 0, learned: tuple[str, ...] = LEARNED
) -> dict[str, Tensor]:
    """What a run emits and leaves, and the gradients of a weighted sum of both; at `cut` the memory is handed on."""
    xs = xs.detach().requires_grad_(True)
    sources = {"xs": xs}
    for name in learned:
        if (held := getattr(t, name)) is not None:
            sources[name] = held.detach().clone().requires_grad_(True)
    t = t._replace(**{name: source for name, source in sources.items() if name != "xs"})
    with kernels.use(kernel), testing.poisoned():
        parts, m = [], None
        for piece in (xs[:cut], xs[cut:]) if cut else (xs,):
            (letters, worth), m = run(neuron, t, piece, m)
            parts.append(letters * worth)
        assert m is not None
        ys = torch.cat(parts)
        loss = (ys * dyadic(*ys.shape, seed=8)).sum() + (m.v * dyadic(*m.v.shape, seed=9)).sum()
        found = torch.autograd.grad(loss, list(sources.values()))
    return {"ys": ys.detach(), "v": m.v.detach(), **dict(zip(sources, found, strict=True))}


def agree(
    neuron: Neuron,
    t: Tensors,
    xs: Tensor,
    cut: int = 0,
    exact: tuple[str, ...] = (),
    *,
    by: str = "cpu",
    wrong: Neuron | None = None,
    learned: tuple[str, ...] = LEARNED,
) -> None:
    """The same letters and potentials bit for bit, the same gradients to a few roundings, or `exact`, bit for bit."""
    ours, theirs = (
        gradients(kernel, of, t, xs, cut, learned) for kernel, of in ((by, wrong or neuron), ("reference", neuron))
    )
    for name, expected in theirs.items():
        if name in ("ys", "v", *exact):
            assert torch.equal(ours[name], expected), name
        scale = float(expected.abs().max()) + 1
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-5, atol=2e-6 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def tensors(leak: Any, theta0: Tensor, bias: Tensor | None = None) -> Tensors:
    start = None if leak.learned is None else torch.tensor(leak.learned)
    return Tensors(theta0, torch.tensor(0.25), bias=bias, leak=start)
