"""A method is a record of parts: where theta comes from, how it moves, where v starts, which letters exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .alphabet import Alphabet, binary
from .correction import Correction, Uncorrected
from .errors import SpecError
from .gate import Gate, Open, SentCharge, SpikeConfidence
from .initial import Half, InitialPotential, Zero
from .leak import Leak
from .neuron import Neuron
from .reset import Reset, Subtract, ToValue
from .scale import Max, Scale
from .spec import spec
from .threshold import Fixed, Threshold


@spec
class Method:
    """Any part with any other: `Method(scale=Percentile(99.9), threshold=MSAT(), initial=Half(), alphabet=burst(4))`.

    Raises SpecError for a combination that makes no sense, with the reason (the table `REFUSED`).
    """

    scale: Scale = Max()
    threshold: Threshold = Fixed()
    initial: InitialPotential = Zero()
    alphabet: Alphabet = binary
    reset: Reset = Subtract()
    gate: Gate = Open()
    leak: Leak = Leak()
    correction: Correction = Uncorrected()

    def __post_init__(self) -> None:
        for refused, why, instead in REFUSED:
            if refused(self):
                raise SpecError(f"{self} makes no sense", why=why, instead=instead)

    @property
    def neuron(self) -> Neuron:
        """What of the method acts in each step."""
        return Neuron(
            threshold=self.threshold, alphabet=self.alphabet, reset=self.reset, gate=self.gate, leak=self.leak
        )

    @property
    def two_sided(self) -> Method:
        """The method for activations of both signs: as many letters again below zero, each sum rounded to the nearest.

        The threshold is fixed, since MSAT and DTIF are rules for rectifiers, and any letter may leave at any time.
        """
        letters = replace(self.alphabet, signed=True, floor=True)
        return replace(self, threshold=Fixed(), initial=Half(), alphabet=letters, reset=Subtract(), gate=Open())


REFUSED: list[tuple[Callable[[Method], bool], str, str]] = [
    (
        lambda m: isinstance(m.reset, ToValue) and not isinstance(m.initial, Zero),
        "a hard reset forgets the initial potential at the first spike, so no start is better than another",
        "reset=Subtract(), or initial=Zero()",
    ),
    (
        lambda m: isinstance(m.gate, SpikeConfidence) and m.leak.beta < 1,
        "spike confidence compares spikes with a rectifier, and a leaky neuron does not compute one",
        "leak=Leak(1.0), or gate=Open()",
    ),
    (
        lambda m: isinstance(m.gate, SentCharge) and not m.alphabet.signed,
        "sent charge decides which negative letters may leave, and this alphabet has none",
        "alphabet=signed(1, floor=True), or gate=Open()",
    ),
    (
        lambda m: (
            isinstance(m.gate, SentCharge) and m.gate.letters != (() if m.alphabet.uniform else m.alphabet.letters)
        ),
        "taking back less than a letter says needs evenly spaced letters, or a gate that knows which letters there are",
        "gate=SentCharge() with signed(k, floor=True), gate=SentCharge(alphabet.letters) with any other",
    ),
]
"""(predicate, why, what to write instead) of every combination that makes no sense."""
