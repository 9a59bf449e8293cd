"""The law's own tests, for whoever writes a neuron or a kernel: inputs that do not round, and oracles that fail loudly.

An oracle takes a neuron, its tensors, drives `[T, N, ...]` and a `run` with the signature of `rheobase.scan`, which is
the default; it returns nothing and raises AssertionError where the identity in its docstring does not hold:

    from rheobase import testing
    testing.conserves_charge(neuron, tensors, xs, my_kernel)

Rounding flips whole letters, so closeness is never asked of spikes: oracles demand equal bits, and `dyadic` inputs with
dyadic thresholds make that fair. Elsewhere `same_spikes` excuses what sat at a level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from .gate import Open
from .membrane import Membrane, Tensors
from .neuron import Neuron, rheobase, scan

Run = Callable[[Neuron, Tensors, Tensor, Membrane | None], tuple[Tensor, Membrane]]
"""`(ys, m') = run(neuron, tensors, xs, m)`: a kernel seen from outside, `m=None` at birth."""


def dyadic(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Tensor:
    """Multiples of 1/64 in [low, high], float32 `shape`: their sums do not round, nor do they in bfloat16 up to 4.

    >>> x = dyadic(2, 3, seed=1)
    >>> bool((x * 64 == (x * 64).round()).all()), x.shape
    (True, torch.Size([2, 3]))
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(round(64 * low), round(64 * high) + 1, shape, generator=generator) / 64


@contextmanager
def poisoned() -> Iterator[None]:
    """Inside, memory that nobody has written reads NaN: a kernel that skips a corner of its output is caught.

    >>> with poisoned():
    ...     torch.empty(2)
    tensor([nan, nan])
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def same_spikes(a: Tensor, b: Tensor, r: Tensor, levels: Sequence[float], eps: float = 0.0) -> int:
    """Letters `b` `[T, N, ...]` are the reference's `a`, except where its `r = u / theta` lies within eps of a level.

    Only the first difference of a neuron is judged: a letter more or less changes its memory, and what follows is
    another run. Returns how many neurons were excused, never any at eps = 0.

    >>> a, r = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [1.0001]])
    >>> same_spikes(a, a, r, [1.0]), same_spikes(a, torch.zeros(2, 1), r, [1.0], eps=1e-3)
    (0, 1)
    """
    assert a.shape == b.shape == r.shape, f"shapes differ: {tuple(a.shape)}, {tuple(b.shape)}, {tuple(r.shape)}"
    differs = a != b
    first = differs & (differs.cumsum(0) == 1)
    at_a_level = torch.stack([(r - level).abs() < eps for level in levels]).any(0)
    wrong = first & ~at_a_level
    if wrong.any():
        where = tuple(wrong.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(wrong.sum())} neurons go another way with no level within {eps} of u/theta; the first at "
            f"{where}: letter {a[where].item()} became {b[where].item()} at u/theta = {r[where].item()}"
        )
    return int(first.sum())


def conserves_charge(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = scan) -> None:
    """`sum y + v(T) = sum x + v0` for every neuron with Subtract, leak 1, a gate that keeps and theta as its payload.

    x with its bias, if there is one. To the rounding of T additions in the dtype of the potential and of y in the dtype
    of the drive.
    """
    ys, m = run(neuron, tensors, xs, None)
    xs, v0 = tensors.corrected(xs, torch.tensor(0)), tensors.v0.double()
    gap = ys.double().sum(0) + m.v.double() - xs.double().sum(0) - v0
    sent = ys.double().abs().sum(0)
    moved = xs.double().abs().sum(0) + v0.abs() + sent
    slack = len(xs) * torch.finfo(m.v.dtype).eps * moved + torch.finfo(xs.dtype).eps * sent
    _all(gap.abs() <= slack, "charge is not conserved: sum y + v(T) - sum x - v0", gap)


def is_clip_floor_shift(neuron: Neuron, tensors: Tensors, x: Tensor, steps: int, run: Run = scan) -> None:
    """At constant drive `x` `[N, ...]`, after each t: `sum y = theta * clip(floor((x t + v0) / theta), 0, k t)`.

    For Subtract, leak 1, v0 in [0, theta), a Fixed threshold and `burst(k)`. With v0 = theta / 2 and k = 1 it is the
    activation QCFS with t levels; with t = 1 the one with k levels. Bit for bit, so give it dyadic numbers.
    """
    ys, _ = run(neuron, tensors, x.expand(steps, *x.shape), None)
    theta, v0 = neuron.threshold.rest(tensors.theta0).double(), tensors.v0.double()
    t = torch.arange(1, steps + 1, dtype=torch.float64, device=x.device).reshape(-1, *(1,) * x.ndim)
    letters = torch.floor((x.double() * t + v0) / theta).clamp(min=0).minimum(neuron.alphabet.ceiling * t)
    _same(ys.double().cumsum(0), theta * letters, "the sum of y is not clip-floor-shift")


def keeps_scale(neuron: Neuron, tensors: Tensors, xs: Tensor, by: float, run: Run = scan) -> None:
    """`run(c x; c theta0, c v0) = c run(x; theta0, v0)`, bit for bit, for a power of two c.

    True of Fixed, DTIF and normalised MSAT; MSAT in absolute units is another neuron at another scale.
    """
    assert by > 0, "a scale is positive"
    assert math.frexp(by)[0] == 0.5, f"scaling by {by} rounds: it is no power of two"
    ys, m = run(neuron, tensors, xs, None)
    scaled = tensors._replace(theta0=by * tensors.theta0, v0=by * tensors.v0)
    ys_scaled, m_scaled = run(neuron, scaled, by * xs, None)
    _same(ys_scaled, by * ys, f"the emission does not scale by {by}")
    _same(m_scaled.v, by * m.v, f"the potential does not scale by {by}")


def scales_like_weights(
    neuron: Neuron, weights: Sequence[Tensor], thetas: Sequence[float], start: float, xs: Tensor, run: Run = scan
) -> None:
    """A net with thresholds theta_l is the net with thresholds 1 and `W_l theta_(l-1) / theta_l`: the same letters.

    Layers `[out, in]` on drives `[T, N, in]`, theta before the first layer 1, v0 = start * theta. Bit for bit, so the
    thetas are powers of two.
    """

    def letters(weights: Sequence[Tensor], thetas: Sequence[float]) -> list[Tensor]:
        ys, layers = xs, []
        for weight, theta in zip(weights, thetas, strict=True):
            theta0 = xs.new_tensor(theta)
            ys, _ = run(neuron, Tensors(theta0, start * theta0), ys @ weight.T, None)
            layers.append(ys / theta)
        return layers

    moved = [w * (before / after) for w, before, after in zip(weights, (1.0, *thetas[:-1]), thetas, strict=True)]
    pairs = zip(letters(weights, thetas), letters(moved, [1.0] * len(thetas)), strict=True)
    for layer, (by_threshold, by_weight) in enumerate(pairs):
        _same(by_weight, by_threshold, f"layer {layer}: scaling weights is not scaling thresholds")


def is_same_neuron(a: Neuron, b: Neuron, tensors: Tensors, xs: Tensor, run: Run = scan) -> None:
    """`run(a) = run(b)`, bit for bit: two ways to write one neuron, `burst(1)` and `binary` for instance."""
    (ys, m), (ys_b, m_b) = run(a, tensors, xs, None), run(b, tensors, xs, None)
    _same(ys_b, ys, f"the emissions of {a} and {b} differ")
    _same(m_b.v, m.v, f"the potentials of {a} and {b} differ")


def carries_memory(neuron: Neuron, tensors: Tensors, xs: Tensor, cuts: Sequence[int], run: Run = scan) -> None:
    """`run(xs[:c]), run(xs[c:], memory) = run(xs)`, bit for bit, at every cut c in ascending order.

    Also: a second call gives the same answer, and neither the drives nor the memory that came in are written to.
    """
    kept = xs.clone()
    ys, m = run(neuron, tensors, xs, None)
    again, _ = run(neuron, tensors, xs, None)
    _same(again, ys, "a second call gives another answer")
    memory, pieces = None, []
    for low, high in zip((0, *cuts), (*cuts, len(xs)), strict=True):
        before = {name: leaf.clone() for name, leaf in _leaves(memory)}
        piece, after = run(neuron, tensors, xs[low:high], memory)
        for name, leaf in _leaves(memory):
            _same(leaf, before[name], f"the memory that came in was written to, in {name}")
        memory = after
        pieces.append(piece)
    _same(torch.cat(pieces), ys, f"a run cut at {list(cuts)} emits something else")
    for (name, part), (_, whole) in zip(_leaves(memory), _leaves(m), strict=True):
        _same(part, whole, f"a run cut at {list(cuts)} ends with another {name}")
    _same(xs, kept, "the drives were written to")


def has_rheobase(neuron: Neuron, theta0: Tensor, run: Run = scan) -> None:
    """A leaky neuron at rest fires at 1.01 and never at 0.99 of its rheobase, for `Leak` theta level_1 (1 - beta)."""
    assert not neuron.leak.lossless, "the rheobase of a neuron that does not leak is 0"
    one = torch.ones((), dtype=torch.float64)
    start = None if neuron.leak.learned is None else torch.tensor(neuron.leak.learned)
    beta = float(neuron.leak.charge(2 * one, one, start) - neuron.leak.charge(one, one, start))
    steps = 2 + math.ceil(math.log(0.009) / math.log(beta)) if beta > 0 else 2
    drive, tensors = rheobase(neuron, theta0), Tensors(theta0, torch.zeros_like(theta0), leak=start)
    above, _ = run(neuron, tensors, (1.01 * drive).expand(steps, 1, *theta0.shape), None)
    below, _ = run(neuron, tensors, (0.99 * drive).expand(4 * steps, 1, *theta0.shape), None)
    _all((above != 0).any(0), "it does not fire above its rheobase; its drive was", 1.01 * drive.expand(above[0].shape))
    _all((below == 0).all(0), "it fires below its rheobase; it sent", below.sum(0))


def only_stops_spikes(neuron: Neuron, tensors: Tensors, xs: Tensor, run: Run = scan) -> None:
    """A gate acts after the reset: each y is that of the open gate or 0, and v(T) does not know of it.

    So `sum x + v0 - v(T) - sum y` is exactly the sum of what was stopped.
    """
    ys, m = run(neuron, tensors, xs, None)
    ys_open, m_open = run(replace(neuron, gate=Open()), tensors, xs, None)
    _same(m.v, m_open.v, "the gate changes the potential")
    _all((ys == ys_open) | (ys == 0), "the gate emits what an open gate does not", ys)


def _leaves(m: Membrane | None) -> list[tuple[str, Tensor]]:
    if m is None:
        return []
    return [("v", m.v), ("t", m.t), *((f"threshold[{i}]", leaf) for i, leaf in enumerate(m.threshold))]


def _same(got: Tensor, expected: Tensor, what: str) -> None:
    assert got.shape == expected.shape, f"{what}: shape {tuple(got.shape)} for {tuple(expected.shape)}"
    equal = (got == expected) | (got.isnan() & expected.isnan())
    if not equal.all():
        where = tuple((~equal).nonzero()[0].tolist())
        raise AssertionError(
            f"{what}: {int((~equal).sum())} of {equal.numel()} numbers, the first at {where}: "
            f"{got[where].item()} instead of {expected[where].item()}"
        )


def _all(holds: Tensor, what: str, value: Tensor) -> None:
    if not holds.all():
        where = tuple((~holds).nonzero()[0].tolist())
        raise AssertionError(f"{what} is {value[where].item():.6g} at {where}, one of {int((~holds).sum())} places")
