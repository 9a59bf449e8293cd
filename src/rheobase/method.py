"""A method is a record of parts: where theta comes from, how it moves, where v starts, which letters exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from .alphabet import Alphabet, binary, burst
from .correction import Correction, Uncorrected
from .errors import SpecError
from .gate import Gate, Open, SentCharge, SpikeConfidence, Wait
from .initial import Half, InitialPotential, Matched, Zero
from .leak import Charge, Leak
from .link import Differential, Link, Rate
from .neuron import Neuron
from .rehearsal import COS, Rehearsal, Unrehearsed
from .reset import Reset, Subtract, ToValue
from .scale import Fitted, GaussianMSE, Max, MinMSE, Scale
from .spec import spec
from .surrogate import Surrogate
from .threshold import Fixed, Radix, Threshold
from .tuning import Tuning, Untuned


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
    leak: Charge = Leak()
    correction: Correction = Uncorrected()
    surrogate: Surrogate | None = None
    link: Link = Rate()
    rehearsal: Rehearsal = Unrehearsed()
    tuning: Tuning = Untuned()

    def __post_init__(self) -> None:
        for refused, why, instead in REFUSED:
            if refused(self):
                raise SpecError(f"{self} makes no sense", why=why, instead=instead)

    @property
    def neuron(self) -> Neuron:
        """What of the method acts in each step."""
        return Neuron(**{part.name: getattr(self, part.name) for part in fields(Neuron)})

    @property
    def levels(self) -> int:
        """For how many even levels above 0 the thresholds are chosen, 0 where the scale does not say."""
        levels = self.scale.levels if isinstance(self.scale, (Fitted, MinMSE, GaussianMSE)) else 0
        return 0 if isinstance(levels, tuple) else levels

    def of(self, neuron: Neuron) -> Method:
        """This method with the parts of `neuron` in each step."""
        return replace(self, **{part.name: getattr(neuron, part.name) for part in fields(Neuron)})

    @property
    def two_sided(self) -> Method:
        """The method for activations of both signs: as many letters again below zero, each sum rounded to the nearest.

        The threshold is fixed, since MSAT and DTIF are rules for rectifiers, and any letter may leave at any time.
        """
        alphabet, scale = self.alphabet, self.scale
        if isinstance(self.threshold, Radix):  # a sum has digits if it has no sign: letters for as many levels instead
            alphabet = burst(-(-self.threshold.levels // self.threshold.steps))
            if isinstance(scale, (Fitted, MinMSE, GaussianMSE)):
                scale = replace(scale, levels=self.threshold.steps * len(alphabet.levels))
        letters = replace(alphabet, signed=True, floor=not alphabet.rounds)
        rest = {"reset": Subtract(), "gate": Open(), "rehearsal": Unrehearsed()}
        start = self.initial if isinstance(self.initial, Matched) else Zero() if alphabet.rounds else Half()
        return replace(self, scale=scale, threshold=Fixed(), initial=start, alphabet=letters, **rest)


REFUSED: list[tuple[Callable[[Method], bool], str, str]] = [
    (
        lambda m: isinstance(m.reset, ToValue) and not isinstance(m.initial, Zero),
        "a hard reset forgets the initial potential at the first spike, so no start is better than another",
        "reset=Subtract(), or initial=Zero()",
    ),
    (
        lambda m: isinstance(m.gate, SpikeConfidence) and not m.leak.lossless,
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
    (
        lambda m: (
            isinstance(m.gate, Wait) and not (isinstance(m.threshold, (Fixed, Radix)) and isinstance(m.reset, Subtract))
        ),
        "a neuron that waits fires from the sum of its input, of which a moving threshold or hard reset loses a part",
        "threshold=Fixed() or Radix(steps), reset=Subtract()",
    ),
    (
        lambda m: (
            isinstance(m.threshold, Radix)
            and not (isinstance(m.gate, Wait) and m.alphabet.counts and m.alphabet.ceiling == m.threshold.base - 1)
        ),
        "a digit is what the digits before it left of all the input, from 0 to the base - 1",
        "gate=Wait(), alphabet=burst(base - 1)",
    ),
    (
        lambda m: isinstance(m.threshold, Radix) and not (m.leak.lossless and m.rehearsal.steps == 0),
        "digits write down a sum, of which a leak loses a part and which a rehearsal has not",
        "leak=Leak(1.0), rehearsal=Unrehearsed()",
    ),
    (
        lambda m: isinstance(m.gate, Wait) and m.correction.per_step,
        "a neuron that waits has no steps of its own to correct one by one",
        "correction=ChannelBias(steps)",
    ),
    (
        lambda m: (
            isinstance(m.link, Differential)
            and not (m.alphabet.signed and isinstance(m.threshold, Fixed) and isinstance(m.reset, Subtract))
        ),
        "a change of the mean may be negative, and must be taken from the membrane at a worth that does not move",
        "alphabet=signed(3, floor=True), gate=SentCharge(), threshold=Fixed(), reset=Subtract()",
    ),
    (
        lambda m: isinstance(m.link, Differential) and not (m.leak.lossless and m.rehearsal.steps == 0),
        "the mean that readers hold is that of a neuron which neither leaks nor starts anew",
        "leak=Leak(1.0), rehearsal=Unrehearsed()",
    ),
    (
        lambda m: isinstance(m.initial, Matched) and not (m.levels and isinstance(m.threshold, (Fixed, Radix))),
        "a start is matched to a staircase, and there is none: the scale knows no even levels, or the threshold moves",
        "scale=Fitted(steps * letters), threshold=Fixed() or Radix(steps); or initial=Half()",
    ),
    (
        lambda m: m.tuning.passes > 0 and not isinstance(m.initial, Matched),
        "distillation learns the starts together with the thresholds, and this start is not free to move",
        "initial=Matched()",
    ),
    (
        lambda m: m.rehearsal.steps > 0 and (m.alphabet.signed or not isinstance(m.reset, Subtract)),
        "a rehearsal judges by the residual which spikes were too many, and this neuron takes them back itself",
        "rehearsal=Unrehearsed(), or an alphabet without negative letters and reset=Subtract()",
    ),
    (
        lambda m: isinstance(m.rehearsal, COS) and (m.alphabet.ceiling != 1 or isinstance(m.gate, Wait)),
        "COS shifts the start by what makes one binary spike fewer or more",
        "alphabet=binary, gate=Open()",
    ),
]
"""(predicate, why, what to write instead) of every combination that makes no sense."""
