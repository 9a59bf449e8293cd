"""The law: charge, threshold, fire, gate, reset, emit. The file to read first.

Everything is `(input, memory) -> (output, memory)`: nothing here has hidden state, nothing needs a reset.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .alphabet import Alphabet, binary
from .errors import InputError
from .gate import Gate, Open, Wait
from .leak import Charge, Leak
from .link import Link, Rate
from .membrane import Membrane, Tensors
from .rehearsal import Rehearsal, Unrehearsed
from .reset import Reset, Subtract
from .spec import require, spec
from .surrogate import Compared, Surrogate
from .threshold import Fixed, Radix, Threshold


@spec
class Neuron:
    """What a neuron does in one step, one part an axis. `Neuron()` is the binary integrate-and-fire neuron."""

    threshold: Threshold = Fixed()
    alphabet: Alphabet = binary
    reset: Reset = Subtract()
    gate: Gate = Open()
    leak: Charge = Leak()
    surrogate: Surrogate | None = None
    link: Link = Rate()
    rehearsal: Rehearsal = Unrehearsed()


class Emission(NamedTuple):
    """What leaves: `y = letters * amplitude`. The amplitude is what one letter is worth, in activation units."""

    letters: Tensor
    amplitude: Tensor


def init(neuron: Neuron, tensors: Tensors, x: Tensor) -> Membrane:
    """The memory at t = 0 for drives like `x` `[N, ...]`: v = v0, no step done.

    The potential is kept in float32 at least, whatever the dtype of the drive.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    return born(neuron, torch.empty_like(x, dtype=dtype).copy_(tensors.v0))  # in the memory format of the drives


def born(neuron: Neuron, v: Tensor) -> Membrane:
    """The memory at t = 0 of neurons with the potentials `v` `[N, ...]`."""
    t = torch.zeros((), dtype=torch.int64)
    return Membrane(v, t, neuron.threshold.born(v), neuron.gate.born(v), neuron.link.born(v))


def fire(neuron: Neuron, tensors: Tensors, x: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """One step of the law. Drive `x` `[N, ...]` in activation units; letters and potential of the same shape.

    charge      u      = leak * v + x
    threshold   theta  = dynamics(theta0, x, m)
    fire        s      = alphabet(u / theta)
    gate        s'     = gate(s, m)
    reset       v'     = reset(u, s' * theta)   (s * theta behind a gate that loses what it stops)
    emit        y      = s' * theta             (here still as the pair of s' and theta)

    Backward the surrogate stands for the derivative of fire; without one no gradient passes it.
    """
    x = neuron.link.news(x.to(m.v.dtype), m.link)
    u = neuron.leak.charge(m.v, x, tensors.leak)
    theta0 = tensors.theta0.to(m.v.dtype)
    theta = neuron.threshold.theta(theta0, x, m)
    compared = Compared(u / theta, neuron.alphabet, neuron.surrogate, not neuron.reset.detach)
    s = compared.letters()
    amplitude = neuron.threshold.amplitude(theta0, theta)
    unit = amplitude if neuron.threshold.graded else 1.0
    passed = neuron.gate(s, tensors, m, unit)
    v = neuron.reset(u, (passed if neuron.gate.keeps else s) * theta, compared)
    link = neuron.link.remember(m.link, passed, amplitude, m.t)
    gate = neuron.gate.remember(m.gate, neuron.link.stands(passed * unit, link, amplitude))
    return Emission(passed, amplitude), Membrane(v, m.t + 1, neuron.threshold.remember(m.threshold, v), gate, link)


def step(neuron: Neuron, tensors: Tensors, x: Tensor, m: Membrane) -> tuple[Tensor, Membrane]:
    """`(y, m')`: one step, its emission in activation units and in the dtype of the drive."""
    emission, after = fire(neuron, tensors, drives(neuron, tensors, x[None], m.t)[0], m)
    one = Emission(emission.letters[None], emission.amplitude)
    return received(neuron, one, m)[0].to(x.dtype), after


def scan(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None = None) -> tuple[Tensor, Membrane]:
    """`(ys, m')`: a run of T steps over drives `[T, N, ...]`, from `m` or from birth.

    A run in pieces with the memory carried is the run, bit for bit.

    >>> ys, m = scan(Neuron(), Tensors(torch.tensor(1.0), torch.tensor(0.5)), torch.full((4, 1), 0.25))
    >>> ys.flatten().tolist(), m.v.item()
    ([0.0, 1.0, 0.0, 0.0], 0.5)
    """
    emission, after = emissions(neuron, tensors, xs, m)
    return received(neuron, emission, m).to(xs.dtype), after


def emissions(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None = None) -> tuple[Emission, Membrane]:
    """The run of `scan`, its letters `[T, N, ...]` apart from their amplitude, both in the dtype of the memory.

    The amplitude is `[T, N, ...]`, or broadcasts to it, where the threshold rule is graded, else the constant.
    """
    m = begin(neuron, tensors, xs, m)
    return unrolled(neuron, tensors, drives(neuron, tensors, xs, m.t), m)


def unrolled(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """The steps of `emissions` from the memory with which they begin, over drives as the neuron meets them."""
    letters, amplitudes = [], []
    for x in xs.unbind(0):
        emission, m = fire(neuron, tensors, x, m)
        letters.append(emission.letters)
        amplitudes.append(emission.amplitude)
    if not neuron.threshold.graded:
        return Emission(in_time(letters), amplitudes[0]), m
    lead = (None,) * (letters[0].ndim - amplitudes[0].ndim)  # a schedule is the same for all samples
    return Emission(in_time(letters), in_time([amplitude[lead] for amplitude in amplitudes])), m


def begin(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> Membrane:
    """The memory with which a run over `xs` begins: `m`, or a fresh one. Refuses what is no run."""
    fits(neuron, xs, m)
    return init(neuron, tensors, xs[0]) if m is None else m


def fits(neuron: Neuron, xs: Tensor, m: Membrane | None) -> None:
    """Refuse drives that are no run of the neuron, or none that goes on from the memory `m`."""
    if xs.ndim < 2 or len(xs) == 0:
        raise InputError(
            f"a run needs drives [T, N, ...] with T >= 1, got shape {tuple(xs.shape)}",
            why="the first axis is time",
            instead="rheobase.constant(x, steps) repeats x [N, ...] for `steps` steps",
        )
    if isinstance(neuron.gate, Wait) and m is not None and int(m.t) > 0:
        raise InputError(
            "a neuron that waits cannot go on with a run",
            why="all its letters have left: what came later would be the input of another run",
            instead="one run of all steps",
        )
    if isinstance(neuron.threshold, Radix) and len(xs) != neuron.threshold.steps:
        raise InputError(
            f"a run of {len(xs)} steps for neurons that count in {neuron.threshold.steps} digits",
            why="what a spike is worth depends on its step, and every digit must find its own",
            instead=f"{neuron.threshold.steps} steps in one run, or a conversion for {len(xs)}",
        )
    if m is not None and m.v.shape != xs.shape[1:]:
        raise InputError(
            f"the memory is for {tuple(m.v.shape)}, the drive of a step is {tuple(xs.shape[1:])}",
            why="memory belongs to the samples it was made with",
            instead="pass no memory to start new samples",
        )


def drives(neuron: Neuron, tensors: Tensors, xs: Tensor, t: Tensor) -> Tensor:
    """The drives `[T, N, ...]` of the steps from t on as the neuron meets them: corrected, and gathered if it waits."""
    xs = tensors.corrected(xs, t)
    return neuron.gate.gathered(xs) if isinstance(neuron.gate, Wait) else xs


def received(neuron: Neuron, emission: Emission, before: Membrane | None, letters: bool = False) -> Tensor:
    """What the readers of a run that began with the memory `before` receive, `[T, N, ...]`, in activation units.

    letters: in letters instead, where their worth is folded into what reads them; digits by their place.
    """
    ys = emission.letters if letters or _is_one(emission.amplitude) else emission.letters * emission.amplitude
    if letters and isinstance(neuron.threshold, Radix):
        return ys * neuron.threshold.slots(ys)
    if before is None or not before.link:
        return neuron.link.received(ys, None, 0)
    mean = before.link[0]
    return neuron.link.received(ys, mean / emission.amplitude if letters else mean, int(before.t))


def _is_one(amplitude: Tensor) -> bool:
    """Whether every letter is worth 1, so that nothing needs to be multiplied; asked where an answer costs nothing."""
    plain = amplitude.numel() == 1 and amplitude.device.type == "cpu" and not amplitude.requires_grad
    return plain and not torch.compiler.is_compiling() and type(amplitude) is Tensor and float(amplitude) == 1.0


def in_time(steps: list[Tensor]) -> Tensor:
    """Steps `[N, ...]` one after the other as `[T, N, ...]`, each in the memory format it has."""
    return steps[0].unsqueeze(0) if len(steps) == 1 else torch.cat(steps).unflatten(0, (len(steps), -1))


def worth(neuron: Neuron, theta0: Tensor) -> Tensor:
    """What one letter is worth where that is constant in time; of digits what their `slots` multiply."""
    rule = neuron.threshold
    return theta0 if isinstance(rule, Radix) else rule.amplitude(theta0, rule.rest(theta0))


def rheobase(neuron: Neuron, theta0: Tensor) -> Tensor:
    """The smallest constant drive that ever makes the neuron fire from v = 0: `theta * (1 - beta)`, 0 for IF."""
    require(isinstance(neuron.threshold, Fixed), "the rheobase has a closed form for a Fixed threshold only")
    return neuron.leak.rheobase(neuron.threshold.rest(theta0) * neuron.alphabet.levels[0])
