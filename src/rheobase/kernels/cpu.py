"""The C++ kernel of neurons: T steps in one pass. Built at install if there is a compiler.

It runs on PyTorch's own threads, in float32, with the widest instructions the machine has (AVX-512, AVX2 or plain).
It takes every step in the order and rounding of the reference: the same bits, except that exp and ln of MSAT
and of the exponential DTIF are its own, good to two units in the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..gate import Open, SentCharge, SpikeConfidence, Wait
from ..link import Rate
from ..membrane import Membrane, Tensors, differentiated
from ..neuron import Emission, Neuron, drives
from ..reset import Subtract, ToValue
from ..threshold import DTIF, MSAT, Fixed, Radix
from . import fixed
from .fixed import dense, does_not_fit, per_sample, potentials, share
from .fixed import has_no_gradient as backward_declines
from .law import CHARGES, law, rule
from .operators import MISSING, PASSES
from .operators import SETS as SETS
from .operators import instruction_set as instruction_set
from .room import ROOM


def declines(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> str:
    """Why the C++ kernel does not run a neuron on such drives, or an empty string if it does."""
    if MISSING:
        return MISSING
    if not isinstance(neuron.threshold, (Fixed, MSAT, DTIF, Radix)):
        return f"it knows no {type(neuron.threshold).__name__} threshold"
    if not isinstance(neuron.reset, (Subtract, ToValue)) or not isinstance(
        neuron.gate, (Open, SentCharge, SpikeConfidence, Wait)
    ):
        return "it knows no such reset or gate"
    if type(neuron.leak) not in CHARGES:
        return f"it knows no {type(neuron.leak).__name__} leak"
    if neuron.alphabet.greedy and not neuron.alphabet.counts:
        return "it knows no cascade whose letters are no count"
    if isinstance(neuron.gate, SentCharge) and neuron.gate.letters:
        return "it takes back whole letters only"
    if not isinstance(neuron.link, Rate):
        return "it knows rates only"
    if xs is None or tensors is None:
        return ""
    if xs.device.type != "cpu" or xs.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it runs float32 on the CPU, not {xs.dtype} on {xs.device.type}"
    return does_not_fit(tensors, xs, m) or (backward_declines(neuron) if differentiated(xs, tensors, m) else "")


def run(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Emission, Membrane]:
    """`emissions` of the law in one pass over `xs` `[T, N, ...]`, with a gradient where one is wanted."""
    wanted = differentiated(xs, tensors, m)
    m = fixed.begin(neuron, tensors, xs, m)
    xs = drives(neuron, tensors, xs, m.t).float()
    return fixed.run(PASSES, neuron, tensors, xs, m, True) if wanted else _fused(neuron, tensors, xs, m)


def _fused(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane) -> tuple[Emission, Membrane]:
    """A run without a gradient, of every rule and gate."""
    steps, shape, layout, theta0, t = len(xs), xs.shape[1:], dense(xs), tensors.theta0.float(), m.t
    letters = ROOM.strided(xs.shape, layout)
    moves = neuron.threshold.graded and not isinstance(neuron.threshold, Radix)
    amplitude = ROOM.strided(xs.shape, layout) if moves else None
    v = ROOM.strided(shape, layout[1:])
    total, sent = (
        tuple(torch.empty_strided(shape, layout[1:]).copy_(part) for part in parts) for parts in (m.threshold, m.gate)
    )
    torch.ops.rheobase.neuron(
        xs,
        potentials(m.v, xs),
        v,
        total[0] if total else None,
        sent[0] if sent else None,
        letters,
        amplitude,
        per_sample(theta0, xs),
        share(neuron, tensors),
        int(t),
        *rule(neuron),
        *law(neuron),
    )
    if isinstance(neuron.gate, SpikeConfidence):
        for step in range(min(steps, max(0, neuron.gate.steps - int(t)))):
            letters[step] = neuron.gate(letters[step], tensors, Membrane(v, t + step))
    if isinstance(neuron.threshold, Radix):
        amplitude = theta0 * neuron.threshold.slots(letters)
    worth = neuron.threshold.amplitude(theta0, neuron.threshold.rest(theta0)) if amplitude is None else amplitude
    return Emission(letters, worth), Membrane(v, t + steps, total, sent)
