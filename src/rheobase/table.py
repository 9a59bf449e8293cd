"""Curves and reports as tables of text, for whatever prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .certificate import VERDICTS, Certificate
from .convert import ConversionReport
from .diagnosis import INHERITED, Diagnosis
from .evaluate import Curve
from .preflight import Preflight
from .search import Choice


class Table(NamedTuple):
    """Rows of text under their column names, a title above and notes below."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    numeric: bool = True


def doublings(steps: int) -> list[int]:
    """1, 2, 4, ... and `steps` itself.

    >>> doublings(12)
    [1, 2, 4, 8, 12]
    """
    return [*(2**i for i in range(steps.bit_length()) if 2**i < steps), steps]


def in_unit(least: float) -> tuple[str, float]:
    """The unit that suits energies from `least` pJ on, and its size in pJ.

    >>> in_unit(123_456.0)
    ('nJ', 1000.0)
    """
    return next(((unit, size) for unit, size in (("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)) if least >= size), ("pJ", 1.0))


def digits(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> digits(1.234), digits(12.34), digits(1234.0)
    ('1.23', '12.3', '1234')
    """
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def curve(curve: Curve) -> Table:
    """One curve at T = 1, 2, 4, ...: accuracy, spikes, and energy with the first layer paid at each step and once."""
    at = [t - 1 for t in doublings(len(curve.steps))]
    unit, size = in_unit(float(curve.energy_once_pj[0]))
    rows = [
        (
            str(curve.steps[i]),
            "-" if np.isnan(curve.accuracy[i]) else f"{curve.accuracy[i]:.2%}",
            f"{curve.rate[i] * curve.steps[i]:.3f}",
            digits(curve.energy_pj[i] / size),
            _relative(curve.energy_pj[i], curve),
            digits(curve.energy_once_pj[i] / size),
            _relative(curve.energy_once_pj[i], curve),
        )
        for i in at
    ]
    every, once = f"{unit}, input each step", f"{unit}, input once"
    late = f"latency: {curve.delay} steps more than T, for rehearsals or neurons that wait"
    columns = ("T", "accuracy", "spikes/neuron", every, "/ ANN", once, "/ ANN")
    notes = (ann_line(curve), *((late,) if curve.delay else ()), *cost_lines([curve]))
    return Table(f"{curve.label}: {curve.samples} samples", columns, rows, notes)


def comparison(curves: Sequence[Curve], title: str = "") -> Table:
    """Several curves, a row each: accuracy in percent at T = 1, 2, 4, ..., spikes and energy after the last step."""
    shown = doublings(min(len(c.steps) for c in curves))
    last = shown[-1]
    unit, size = in_unit(min(float(c.energy_pj[last - 1]) for c in curves))
    rows = [
        (
            c.label + (" *" if graded(c) else ""),
            *("-" if np.isnan(c.accuracy[t - 1]) else f"{100 * c.accuracy[t - 1]:.1f}" for t in shown),
            f"{c.rate[last - 1] * last:.2f}",
            digits(c.energy_pj[last - 1] / size),
            _relative(c.energy_pj[last - 1], c),
        )
        for c in curves
    ]
    notes = (
        ann_line(curves[0]),
        f"spk: spikes per neuron, {unit}: energy per image, /ANN: relative to the ANN, all after {last} steps; "
        "the first layer's multiplications are paid at each step",
        *cost_lines(curves),
    )
    return Table(title, ("method", *(f"T={t}" for t in shown), "spk", unit, "/ANN"), rows, notes)


def choice(choice: Choice) -> Table:
    """The Pareto front of a search, cheapest first, and what was chosen and is promised."""
    rows = [
        (
            str(trial.candidate) + (" <" if trial.candidate == choice.candidate else ""),
            f"{100 * trial.drop:.2f}",
            f"{100 * trial.low:.2f} to {100 * trial.high:.2f}",
            digits(trial.energy),
            f"{trial.events:.3f}",
            str(trial.latency),
        )
        for trial in choice.front
    ]
    promise = choice.promise
    notes = (
        f"{'chosen' if choice.met else 'NOTHING meets the target; nearest'}: {choice.candidate}",
        f"promise, on {promise.samples} samples that took no part: {100 * promise.drop:.2f} points lost of "
        f"{choice.ann_accuracy:.2%} ({100 * promise.low:.2f} to {100 * promise.high:.2f}), {digits(promise.energy)} of "
        "the ANN's energy",
        f"{len(choice.trials)} candidates, {sum(t.fate != 'complete' for t in choice.trials)} pruned or refused; "
        "bounds at the certainty of the search; energy with the first layer paid at each step",
    )
    columns = ("candidate", "points lost", "bounds", "/ANN", "events/neuron", "latency")
    return Table("Pareto front of what was tried", columns, rows, notes)


def report(report: ConversionReport) -> Table:
    """What became of every activation."""
    confident = any(layer.confidence < 1 for layer in report.layers)
    columns = ("layer", "theta0", "clipped", "spacing", "uneven", *(("confidence",) if confident else ()))
    rows = [
        (
            layer.name,
            f"{layer.theta0[1]:.4g}",
            f"{layer.clipped:.2%}",
            f"{layer.spacing:.4g}",
            f"{layer.unevenness:.1%}",
            *((f"{layer.confidence:.3f}",) if confident else ()),
        )
        for layer in report.layers
    ]
    notes = (
        *(f"analogue: {name} ({why})" for name, why in report.analogue),
        "theta0: threshold (mean). clipped: activations above what a step can send. spacing: worth of a letter. "
        f"uneven: neurons with a residual out of order after {report.steps} steps",
        f"calibrated on {report.samples} samples",
    )
    return Table(f"spiking layers: {len(report.layers)}", columns, rows, notes)


def preflight(found: Preflight) -> Table:
    """The fate of every node, and the line to write instead of what is refused."""
    rows = [
        (fate.name, fate.operation, fate.source, fate.fate, fate.why + (f"; {fate.instead}" if fate.instead else ""))
        for fate in found.fates
    ]
    counts = ", ".join(f"{n} {fate}" for fate, n in Counter(fate.fate for fate in found.fates).items())
    verdict = "rheobase convert takes this network" if found.ok else "rheobase convert refuses this network"
    columns = ("node", "operation", "line", "fate", "why")
    return Table(f"{len(rows)} nodes: {counts}", columns, rows, (verdict,), numeric=False)


def certificate(certificate: Certificate) -> Table:
    """Every claim with its verdict, what was found and the rule."""
    rows = [(VERDICTS[check.holds], check.name, f"{check.found}\n{check.rule}") for check in certificate.checks]
    counts = ", ".join(f"{count} {kind}" for kind, count in certificate.counts.items())
    notes = (f"{certificate.samples} samples, {certificate.steps[-1]} steps",)
    return Table(f"activations: {counts}", ("", "claim", "found, and the rule"), rows, notes, numeric=False)


def limits(certificate: Certificate) -> Table:
    """Each layer's error against the clipped ANN as T grows, and the largest gaps in its books."""
    rows = [
        (
            layer.name,
            layer.kind,
            *([f"{error:.2%}" for error in layer.errors] or [""] * len(certificate.steps)),
            *("" if gap is None else f"{gap:.2g}" for gap in (layer.drive, layer.charge)),
        )
        for layer in certificate.layers
    ]
    notes = (
        "T: RMS of mean emission minus activation of the clipped ANN, relative to the RMS of that activation",
        "drive, charge: largest gap in units of rounding",
        *(f"{layer.kind}: {layer.name} ({layer.why})" for layer in certificate.layers if layer.why),
    )
    columns = ("layer", "", *(f"T={steps}" for steps in certificate.steps), "drive", "charge")
    return Table("layers", columns, rows, notes)


def diagnosis(diagnosis: Diagnosis) -> Table:
    """The error of each layer by its parts, in percent of its RMS activation, beside its share of the output error."""
    parts = diagnosis.shown_parts()
    rows = [
        (
            layer.name,
            f"{100 * layer.share:.1f}",
            *(f"{100 * layer.parts[part].rms:.1f}" for part in (*parts, INHERITED)),
            f"{100 * layer.error:.1f}",
            *(f"{len(found)}/{layer.channels}" if found else "" for found in (layer.dead, layer.saturated)),
        )
        for layer in diagnosis.layers
    ]
    notes = (
        *diagnosis.lines(),
        "share: of the squared error of the answer, in %. others: RMS in % of the layer's RMS activation; their signed "
        "sum is the error",
        "dead: channels that never fire though they should. saturated: channels of which more than 1 % is clipped",
    )
    columns = ("layer", "share", *parts, INHERITED, "error", "dead", "saturated")
    return Table(f"error after {diagnosis.steps} steps, {diagnosis.samples} samples", columns, rows, notes)


def graded(curve: Curve) -> bool:
    """Whether messages carry a payload that moves in time, so that they are not accumulate-only."""
    return bool(np.any(curve.graded > 0))


def ann_line(curve: Curve) -> str:
    """The source network in a sentence."""
    unit, size = in_unit(curve.ann_energy_pj)
    accuracy = "" if np.isnan(curve.ann_accuracy) else f"{curve.ann_accuracy:.2%}, "
    return f"ANN: {accuracy}{digits(curve.ann_energy_pj / size)} {unit} per sample"


def cost_lines(curves: Sequence[Curve]) -> tuple[str, ...]:
    """How the energy was estimated, which messages are graded, and what was not counted."""
    costs = curves[0].costs
    priced = f"{costs.mac} pJ a MAC, {costs.ac} pJ an AC, {costs.graded} pJ a graded event"
    which = "these messages are graded" if len(curves) == 1 else "* graded messages"
    moving = f"{which}: their payload moves in time, so each costs a multiplication, not an addition"
    return (
        f"energy is an estimate: {priced} ({costs.source})",
        *((moving,) if any(graded(c) for c in curves) else ()),
        f"not counted: {', '.join(curves[0].not_counted)}",
    )


def _relative(pj: float, curve: Curve) -> str:
    return f"{pj / curve.ann_energy_pj:.2f}" if curve.ann_energy_pj else ""
