"""The methods a search chooses from: a family, its steps and letters, where thresholds come from, what is corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from .alphabet import burst as sent
from .alphabet import power_of_two, signed
from .correction import ChannelBias, Correction, StepBias, Uncorrected
from .gate import SentCharge, Wait
from .initial import Half, Matched
from .link import Differential
from .method import Method
from .scale import Balance, Fitted, GaussianMSE, MinMSE, Percentile, Scale
from .spec import nearest, require, spec
from .threshold import Radix

LETTERS = (1, 3, 7, 15)
"""How many letters above 0 a candidate may have: whole numbers of bits, so that a message is full."""
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

FAMILIES: dict[str, Callable[[int, int], Method]] = {
    "rate": lambda t, k: Method(initial=Half(), alphabet=sent(k)),
    "signed": lambda t, k: Method(initial=Half(), alphabet=signed(k, floor=True), gate=SentCharge()),
    "differential": lambda t, k: Method(initial=Half(), alphabet=signed(k), gate=SentCharge(), link=Differential()),
    "power": lambda t, k: _power(k),
    "power differential": lambda t, k: replace(_power(k), link=Differential()),
    "wait": lambda t, k: Method(initial=Half(), alphabet=sent(k), gate=Wait()),
    "radix": lambda t, k: Method(initial=Half(), threshold=Radix(steps=t, base=k + 1), alphabet=sent(k), gate=Wait()),
}
"""What each family is for a number of steps and letters, without scale and correction."""
WAITING = ("wait", "radix")
"""Those that need all of their input."""

SCALES: dict[str, Callable[[int], Scale]] = {
    "fitted": lambda levels: Fitted(levels),
    "mse": lambda levels: MinMSE(levels),
    "gaussian": lambda levels: GaussianMSE(levels),
    "balance": lambda levels: Balance(),
    "percentile": lambda levels: Percentile(99.9, channelwise=True),
}
CORRECTIONS: dict[str, Callable[[int], Correction]] = {
    "none": lambda steps: Uncorrected(),
    "channel": lambda steps: ChannelBias(steps),
    "step": lambda steps: StepBias(steps),
}


def _power(k: int) -> Method:
    """Powers of two with as many sizes as k has bits; they round by themselves, so v0 is 0."""
    letters = power_of_two(k.bit_length())
    return Method(alphabet=letters, gate=SentCharge(letters.letters))


@spec
class Candidate:
    """One point of the search, and the method it stands for: `Candidate(family="signed", steps=4, letters=3).method`.

    family, scale, correction: names in `FAMILIES`, `SCALES`, `CORRECTIONS`. The scale is fitted for steps * letters
    levels, of digits for (letters + 1)^steps - 1; for more than 255 of them it is "mse" where it would go through all.
    """

    family: str = "signed"
    steps: int = 4
    letters: int = 3
    scale: str = "mse"
    correction: str = "step"

    def __post_init__(self) -> None:
        nearest(self.family, FAMILIES, "family")
        nearest(self.scale, SCALES, "scale")
        nearest(self.correction, CORRECTIONS, "correction")
        require(self.steps >= 1 and self.letters >= 1, f"{self} has no step or no letter")

    @property
    def method(self) -> Method:
        """The method. A neuron that waits has no steps to correct one by one, so its correction is per channel.

        SpecError for more digits than float32 tells apart.
        """
        base = FAMILIES[self.family](self.steps, self.letters)
        digits = base.threshold if isinstance(base.threshold, Radix) else None
        levels = digits.levels if digits else self.steps * round(base.alphabet.ceiling / base.alphabet.unit)
        scale = "mse" if levels > 255 and digits and self.scale in ("fitted", "gaussian") else self.scale
        waits = isinstance(base.gate, Wait) and self.correction == "step"
        correction = CORRECTIONS["channel" if waits else self.correction](self.steps)
        initial = Matched() if scale == "fitted" else base.initial
        return replace(base, scale=SCALES[scale](levels), initial=initial, correction=correction)

    def __str__(self) -> str:
        one_sign = self.family in ("rate", *WAITING)
        letters = ("binary" if one_sign else "ternary") if self.letters == 1 else ""
        kind = letters or f"up to {self.letters}"
        return f"{self.family}, {kind}, T = {self.steps}, {self.scale}, {self.correction} bias"


def space(steps: int, letters: int, *, binary: bool = False, pipelined: bool = False) -> dict[str, Sequence[int | str]]:
    """What each field of a candidate may be, within at most `steps` steps and `letters` letters.

    binary: spikes of one size and sign only. pipelined: runs follow each other, so neurons may wait for their input.
    """
    require(steps >= 1, f"steps={steps} allows no step")
    require(letters >= 1, f"letters={letters} allows no letter")
    families = [name for name in FAMILIES if pipelined or name not in WAITING]
    if binary:
        letters, families = 1, [name for name in families if name in ("rate", *WAITING)]
    if letters < 3:
        families = [name for name in families if "power" not in name]
    found: dict[str, Sequence[int | str]] = {
        "family": families,
        "steps": sorted({t for t in STEPS if t <= steps} | {steps}),
        "letters": [k for k in LETTERS if k <= letters],
        "scale": list(SCALES),
        "correction": list(CORRECTIONS),
    }
    assert list(found) == [f.name for f in fields(Candidate)]
    return found
