"""The law: charge, threshold, fire, gate, reset, emit. The file to read first.

Everything is `(input, memory) -> (output, memory)`: nothing here has hidden state, nothing needs a reset.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .alphabet import Alphabet, binary
from .errors import InputError
from .gate import Gate, Open
from .leak import Leak
from .membrane import Membrane, Tensors
from .reset import Reset, Subtract
from .spec import require, spec
from .threshold import Fixed, Threshold


@spec
class Neuron:
    """What a neuron does in one step, one part an axis. `Neuron()` is the binary integrate-and-fire neuron."""

    threshold: Threshold = Fixed()
    alphabet: Alphabet = binary
    reset: Reset = Subtract()
    gate: Gate = Open()
    leak: Leak = Leak()


class Emission(NamedTuple):
    """What leaves: `y = letters * amplitude`. The amplitude is what one letter is worth, in activation units."""

    letters: Tensor
    amplitude: Tensor


def init(neuron: Neuron, tensors: Tensors, x: Tensor) -> Membrane:
    """The memory at t = 0 for drives like `x` `[N, ...]`: v = v0, no step done.

    The potential is kept in float32 at least, whatever the dtype of the drive.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    v = tensors.v0.to(dtype).expand(x.shape).clone()
    t = torch.zeros((), dtype=torch.int64, device=x.device)
    return Membrane(v, t, neuron.threshold.born(v), neuron.gate.born(v))


def fire(neuron: Neuron, tensors: Tensors, x: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """One step of the law. Drive `x` `[N, ...]` in activation units; letters and potential of the same shape.

    charge      u      = leak * v + x
    threshold   theta  = dynamics(theta0, x, m)
    fire        s      = alphabet(u / theta)
    gate        s'     = gate(s, m)
    reset       v'     = reset(u, s' * theta)   (s * theta behind a gate that loses what it stops)
    emit        y      = s' * theta             (here still as the pair of s' and theta)
    """
    x = x.to(m.v.dtype)
    u = neuron.leak.charge(m.v, x)
    theta0 = tensors.theta0.to(m.v.dtype)
    theta = neuron.threshold.theta(theta0, x, m)
    s = neuron.alphabet.fire(u / theta)
    amplitude = neuron.threshold.amplitude(theta0, theta)
    unit = amplitude if neuron.threshold.graded else 1.0
    passed = neuron.gate(s, tensors, m, unit)
    v = neuron.reset(u, (passed if neuron.gate.keeps else s) * theta)
    memory = neuron.threshold.remember(m.threshold, v), neuron.gate.remember(m.gate, passed * unit)
    return Emission(passed, amplitude), Membrane(v, m.t + 1, *memory)


def step(neuron: Neuron, tensors: Tensors, x: Tensor, m: Membrane) -> tuple[Tensor, Membrane]:
    """`(y, m')`: one step, its emission in activation units and in the dtype of the drive."""
    (letters, amplitude), m = fire(neuron, tensors, tensors.corrected(x[None], m.t)[0], m)
    return (letters * amplitude).to(x.dtype), m


def scan(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None = None) -> tuple[Tensor, Membrane]:
    """`(ys, m')`: a run of T steps over drives `[T, N, ...]`, from `m` or from birth.

    A run in pieces with the memory carried is the run, bit for bit.

    >>> ys, m = scan(Neuron(), Tensors(torch.tensor(1.0), torch.tensor(0.5)), torch.full((4, 1), 0.25))
    >>> ys.flatten().tolist(), m.v.item()
    ([0.0, 1.0, 0.0, 0.0], 0.5)
    """
    (letters, amplitude), m = emissions(neuron, tensors, xs, m)
    return (letters * amplitude).to(xs.dtype), m


def emissions(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None = None) -> tuple[Emission, Membrane]:
    """The run of `scan`, its letters `[T, N, ...]` apart from their amplitude, both in the dtype of the memory.

    The amplitude is `[T, N, ...]` where the threshold rule is graded, otherwise the constant that broadcasts.
    """
    m = begin(neuron, tensors, xs, m)
    letters, amplitudes = [], []
    for x in tensors.corrected(xs, m.t).unbind(0):
        emission, m = fire(neuron, tensors, x, m)
        letters.append(emission.letters)
        amplitudes.append(emission.amplitude)
    amplitude = in_time(amplitudes) if neuron.threshold.graded else amplitudes[0]
    return Emission(in_time(letters), amplitude), m


def begin(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> Membrane:
    """The memory with which a run over `xs` begins: `m`, or a fresh one. Refuses what is no run."""
    if xs.ndim < 2 or len(xs) == 0:
        raise InputError(
            f"a run needs drives [T, N, ...] with T >= 1, got shape {tuple(xs.shape)}",
            why="the first axis is time",
            instead="rheobase.constant(x, steps) repeats x [N, ...] for `steps` steps",
        )
    m = init(neuron, tensors, xs[0]) if m is None else m
    if m.v.shape != xs.shape[1:]:
        raise InputError(
            f"the memory is for {tuple(m.v.shape)}, the drive of a step is {tuple(xs.shape[1:])}",
            why="memory belongs to the samples it was made with",
            instead="pass no memory to start new samples",
        )
    return m


def in_time(steps: list[Tensor]) -> Tensor:
    """Steps `[N, ...]` one after the other as `[T, N, ...]`, each in the memory format it has."""
    return steps[0].unsqueeze(0) if len(steps) == 1 else torch.cat(steps).unflatten(0, (len(steps), -1))


def rest(neuron: Neuron, theta0: Tensor) -> Tensor:
    """The threshold of a neuron at t = 0 that nothing drives yet: what `Half` is half of."""
    still = torch.zeros_like(theta0)
    return neuron.threshold.theta(theta0, still, init(neuron, Tensors(theta0, still), still))


def rheobase(neuron: Neuron, theta0: Tensor) -> Tensor:
    """The smallest constant drive that ever makes the neuron fire from v = 0: `theta * (1 - beta)`, 0 for IF."""
    require(isinstance(neuron.threshold, Fixed), "the rheobase has a closed form for a Fixed threshold only")
    return rest(neuron, theta0) * neuron.alphabet.levels[0] * (1 - neuron.leak.beta)
