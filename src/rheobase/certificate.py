"""What a certificate claims of a spiking network, and the rules by which numbers become verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

READOUT = "readout"
"""The answer of the network among its layers."""
LAST, WHOLE = 0.5, 0.75
"""The error against the clipped ANN falls as 1/T, and as ln(T)/T where thresholds move. Asked for is T^-0.5 between
the last two stops or T^-0.75 from the first to the last, since a single step of it may be luck."""
FLOOR = 1e-4
"""An error of this share of a layer's RMS activation has nothing left to fall."""
BEGUN = 0.5
"""A layer with a larger relative error has hardly begun to answer: whether its error falls is not decided yet."""
DEVIATIONS = 3.0
"""How many standard errors make a fall of the accuracy more than noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCheck:
    """One activation of the source network, or the readout.

    kind: "spiking"; "approximate", a neuron whose limit is not the activation, or in front of which a function is
    evaluated; "analogue", what computes with real numbers; "readout". why: the reason of the second and third.
    errors: RMS of mean emission minus clipped activation, relative to the RMS of the clipped activation, after each of
    the certificate's steps. claimed: whether they must fall: no neuron up to this layer has another limit. drive,
    charge: the largest gap in the books of the layer, in units of what rounding explains; None where it is not claimed.
    """

    name: str
    source: str = ""
    kind: str
    why: str = ""
    errors: tuple[float, ...] = ()
    claimed: bool = False
    drive: float | None = None
    charge: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim, whether it holds (None: not claimed, with the reason in `found`), its rule, and what was found."""

    name: str
    holds: bool | None
    rule: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Which answers are right after each of `at` steps, `hits[time][sample]`, by what `against` says.

    chance: the share of the most frequent right answer. limit, ann: the share of right answers of the clipped ANN and
    of the ANN.
    """

    against: str
    chance: float
    at: tuple[int, ...]
    hits: tuple[tuple[bool, ...], ...]
    limit: float
    ann: float

    @property
    def accuracy(self) -> tuple[float, ...]:
        """The share of right answers after each of `at` steps."""
        return tuple(sum(hits) / len(hits) for hits in self.hits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What `verify` found; prints its checks. agreement: None if answers are no class."""

    checks: tuple[Check, ...]
    layers: tuple[LayerCheck, ...]
    steps: tuple[int, ...]
    samples: int
    agreement: Agreement | None

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(check.holds is not False for check in self.checks)

    @property
    def counts(self) -> dict[str, int]:
        """How many activations are spiking, approximate and analogue."""
        kinds = [layer.kind for layer in self.layers]
        return {kind: kinds.count(kind) for kind in ("spiking", "approximate", "analogue")}

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self) | {"holds": self.holds, "counts": self.counts}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        rows = [f"{VERDICTS[check.holds]:11}  {check.name:11}  {check.found}" for check in self.checks]
        return "\n".join([f"activations: {counts}", *rows, f"{self.samples} samples, {self.steps[-1]} steps"])


VERDICTS = {True: "holds", False: "FAILS", None: "not claimed"}


def drives(layers: Sequence[LayerCheck]) -> Check:
    """Nothing between the layers differs from the source: weights, pooling, folded thresholds."""
    rule = "the mean drive of each layer is what the source's weights make of the mean emissions before it, to rounding"
    gaps = {layer.name: layer.drive for layer in layers if layer.drive is not None}
    return _within(Check(name="drives", holds=True, rule=rule, found=""), gaps, "receives something else")


def charge(layers: Sequence[LayerCheck]) -> Check:
    """Nothing is lost or made inside a neuron."""
    rule = "sum y = sum x + sum bias + v0 - v(T) in each neuron, to rounding"
    gaps = {layer.name: layer.charge for layer in layers if layer.charge is not None}
    lossy = [layer for layer in layers if layer.kind == "approximate" and layer.charge is None]
    note = f"; not claimed of {lossy[0].name!r}, first of {len(lossy)}: {lossy[0].why}" if lossy else ""
    if not gaps:
        return Check(name="charge", holds=None, rule=rule, found="no layer conserves charge" + note)
    return _within(Check(name="charge", holds=True, rule=rule, found=note), gaps, "loses or gains charge")


def _within(check: Check, gaps: dict[str, float], failure: str) -> Check:
    """The check with its verdict on gaps in units of rounding."""
    wrong = [name for name, gap in gaps.items() if not gap <= 1]
    worst = wrong[0] if wrong else max(gaps, key=gaps.__getitem__)
    found = f"{worst!r} {failure}, {gaps[worst]:.3g} times rounding; first of {len(wrong)}"
    if not wrong:
        found = f"{len(gaps)} layers, the largest gap {gaps[worst]:.2g} of rounding, at {worst!r}"
    return Check(name=check.name, holds=not wrong, rule=check.rule, found=found + check.found)


def limit(layers: Sequence[LayerCheck], steps: Sequence[int], clipping: float) -> Check:
    """Each layer tends to the clipped ANN; `clipping` is how far that is from the ANN, relative to its answer."""
    rule = (
        f"the error against the clipped ANN falls from T = {steps[-2]} to {steps[-1]} at least as T^-{LAST:g}, or from "
        f"{steps[0]} as T^-{WHOLE:g}, or is below {FLOOR:g}"
    )
    verdicts = {layer.name: _falls(layer.errors, steps) for layer in layers if layer.claimed}
    failing, slow = ([name for name, v in verdicts.items() if v is verdict] for verdict in (False, None))
    told = next(iter([*failing, *slow, READOUT]))
    course = " -> ".join(f"{error:.2%}" for error in next(layer.errors for layer in layers if layer.name == told))
    found = f"the error at {told!r} is {course} after {', '.join(map(str, steps))} steps"
    without = [layer for layer in layers if layer.errors and not layer.claimed]
    if failing:
        found += f", first of {len(failing)} that do not fall"
    elif slow:
        found += f": {len(slow)} layers have hardly begun to answer, more steps will tell"
    elif without:
        found += f"; not claimed of {len(without)} layers, approximate or behind one that is"
    else:
        found += f"; the clipped ANN itself is {clipping:.2%} from the ANN"
    return Check(name="limit", holds=False if failing else None if slow or without else True, rule=rule, found=found)


def _falls(errors: Sequence[float], steps: Sequence[int]) -> bool | None:
    """Whether the error fell as it should; None if it was too early to tell."""
    first, before, after = errors[0], *errors[-2:]
    lately, ever = (steps[-2] / steps[-1]) ** LAST, (steps[0] / steps[-1]) ** WHOLE
    if after <= max(FLOOR, before * lately, first * ever):
        return True
    return None if before > BEGUN else False


def accuracy(agreement: Agreement | None) -> Check:
    """More steps make no answer worse."""
    rule = f"no accuracy above chance is followed by one that is lower by more than {DEVIATIONS:g} standard errors"
    if agreement is None:
        return Check(name="accuracy", holds=None, rule=rule, found="an answer of this network is no class")
    shares, hits, at, chance = agreement.accuracy, agreement.hits, agreement.at, agreement.chance
    above = chance + DEVIATIONS * (chance * (1 - chance) / len(hits[0])) ** 0.5
    falls = []
    for i, j in combinations(range(len(at)), 2):
        lost = sum(a and not b for a, b in zip(hits[i], hits[j], strict=True))
        won = sum(b and not a for a, b in zip(hits[i], hits[j], strict=True))
        if shares[i] > above and lost - won > DEVIATIONS * (lost + won) ** 0.5:
            falls.append((lost - won, i, j))
    if not falls:
        found = f"{shares[-1]:.1%} of {agreement.against} after {at[-1]} steps, the clipped ANN {agreement.limit:.1%}"
        return Check(name="accuracy", holds=True, rule=rule, found=found)
    _, i, j = max(falls)
    found = f"it falls from {shares[i]:.1%} at T = {at[i]} to {shares[j]:.1%} at T = {at[j]}, of {agreement.against}"
    return Check(name="accuracy", holds=False, rule=rule, found=found)
