"""Figures from curves and diagnoses. The only file that draws; matplotlib comes with the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .diagnosis import INHERITED, Diagnosis
from .errors import FileError, InputError, extra
from .evaluate import Curve
from .files import write
from .search import Choice
from .table import doublings, in_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
"""Okabe and Ito's palette, apart for colour-blind readers too; the dark ones first, and yellow, too light, left out."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)))
FORMATS = (".svg", ".png", ".pdf")


def accuracy_latency(curves: Sequence[Curve], *, title: str = "") -> Figure:
    """Accuracy in percent against time steps, a line for each curve, the ANN as the dashed line above.

    Raises InputError without curves, MissingExtraError without matplotlib.
    """
    most = max((len(c.steps) for c in _some(curves)), default=1)
    ticks = [2**i for i in range(most.bit_length())]
    figure, axes = _axes(title, "time steps T")
    _lines(axes, curves, lambda c: c.steps)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xlim(2**-0.15, most * 2**0.15)
    _reference(axes, curves)
    _legend(figure, axes)
    return figure


def accuracy_energy(curves: Sequence[Curve], *, title: str = "") -> Figure:
    """Accuracy in percent against energy per sample (first layer paid at each step), with the ANN as a star.

    Each marker is a doubling of T, from 1 on. Errors as in `accuracy_latency`.
    """
    unit, size = in_unit(max(float(c.energy_pj[-1]) for c in _some(curves)))
    figure, axes = _axes(
        title, f"energy per sample in {unit.replace('u', 'µ')}, first layer paid each step; markers at T = 1, 2, 4, ..."
    )
    _lines(axes, curves, lambda c: c.energy_pj / size)
    low, high = axes.get_xlim()
    ticks = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    _reference(axes, curves)
    for energy, accuracy in sorted({(c.ann_energy_pj / size, 100 * c.ann_accuracy) for c in curves if _known(c)}):
        axes.plot(energy, accuracy, "*", markersize=13, color="#404040", clip_on=False, label="ANN, one pass")
    _legend(figure, axes)
    return figure


def diagnosis(diagnosis: Diagnosis, *, title: str = "") -> Figure:
    """Layers from top to bottom: their share of the output error, stacked by part, and their own error beside it.

    A part to the left of zero makes the answer better. The layer to blame first is bold. Raises MissingExtraError
    without matplotlib.
    """
    layers, rows = diagnosis.layers, np.arange(len(diagnosis.layers))
    size = 9 if len(rows) <= 30 else 7.5
    height = 1.5 + len(rows) * (0.26 if len(rows) <= 30 else 0.17)
    figure = require_matplotlib().Figure(figsize=(9, max(3.2, height)), layout="constrained")
    costs, errors = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _stacked(costs, diagnosis)
    for name, marker, colour in (("error", "o", "#202020"), (INHERITED, "D", "#9A9A9A")):
        values = [100 * (layer.error if name == "error" else layer.parts[name].rms) for layer in layers]
        label = "error of the layer" if name == "error" else "of it inherited"
        errors.plot(values, rows, marker, color=colour, markersize=0.5 * size, label=label, zorder=3, clip_on=False)
        errors.hlines(rows, 0, values, color=colour, linewidth=0.8, alpha=0.5)
    costs.set_yticks(rows, [layer.name for layer in layers], fontsize=size)
    costs.get_yticklabels()[[layer.name for layer in layers].index(diagnosis.blame[0])].set_fontweight("bold")
    costs.set_ylim(len(rows) - 0.4, -0.6)
    errors.set_xlim(left=0)
    costs.set_xlabel("share of the squared error of the answer in %", fontsize=10)
    errors.set_xlabel("RMS error in % of the RMS activation", fontsize=10)
    for axes in (costs, errors):
        axes.grid(True, axis="x", color="#DDDDDD", linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=7, steps=[1, 2, 5, 10])
    columns = len(diagnosis.shown_parts()) + 2
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=columns, handlelength=1.2)
    told = title or f"after {diagnosis.steps} steps the answer is {diagnosis.error:.1%} from the ANN's"
    figure.suptitle(told, fontsize=12, x=0.01, ha="left")
    return figure


def _stacked(axes: Axes, diagnosis: Diagnosis) -> None:
    """Bars of what each part costs, costs to the right of zero and gains to the left."""
    rows = np.arange(len(diagnosis.layers))
    right, left = np.zeros(len(rows)), np.zeros(len(rows))
    for part in diagnosis.shown_parts():
        costs = np.array([100 * layer.parts[part].share for layer in diagnosis.layers])
        starts = np.where(costs > 0, right, left)
        axes.barh(rows, costs, 0.72, left=starts, label=part, color=COLOURS[ORDER[part]], linewidth=0)
        right, left = right + costs.clip(min=0), left + costs.clip(max=0)
    axes.axvline(0, color="#404040", linewidth=0.8)


ORDER = {part: place for place, part in enumerate(("unevenness", "clipping", "quantisation", "start"))} | {
    part: 4 + place for place, part in enumerate(("pooling", "correction", "folding"))
}
"""The colour of each part: the four that every conversion has first."""


def pareto(choice: Choice, *, title: str = "") -> Figure:
    """Every candidate of a search: points lost against energy relative to the ANN, the front joined, the choice a star.

    Crosses were pruned: their drop is what was seen until then. Raises MissingExtraError without matplotlib.
    """
    figure = require_matplotlib().Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    tried = [trial for trial in choice.trials if trial.samples]
    for complete, marker, colour in ((True, "o", COLOURS[0]), (False, "x", "#9A9A9A")):
        shown = [t for t in tried if (t.fate == "complete") == complete]
        label = "complete" if complete else "pruned"
        axes.plot([t.energy for t in shown], [100 * t.drop for t in shown], marker, color=colour, label=label)
    front, promise = choice.front, choice.promise
    axes.step([t.energy for t in front], [100 * t.drop for t in front], where="post", color=COLOURS[0], label="front")
    label = f"chosen: {choice.candidate}"
    axes.plot(promise.energy, 100 * promise.drop, "*", markersize=14, color=COLOURS[1], label=label, clip_on=False)
    target = 100 * choice.goal.max_drop
    axes.axhline(target, color="#404040", linestyle=(0, (6, 3)), linewidth=1.1, label=f"target: {target:g} lost")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("energy per sample / ANN", fontsize=11)
    axes.set_ylabel("accuracy lost in points", fontsize=11)
    axes.set_title(title or f"{len(choice.trials)} candidates", fontsize=12, loc="left")
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    return figure


def save(path: str | Path, figure: Figure) -> None:
    """Write a figure whole or not at all; the suffix says the format, and the same figure gives the same bytes.

    Raises FileError for a suffix that is no format, and if the folder cannot be written.
    """
    import matplotlib

    kind = check_format(path)
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rheobase"}):
        figure.savefig(buffer, format=kind, dpi=160, metadata=stamp)
    write(path, buffer.getvalue())


def check_format(path: str | Path) -> str:
    """The format that the suffix of `path` names; FileError if there is none."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise FileError(
            f"{str(path)!r} is no figure", why="the suffix says the format", instead=f"one of {', '.join(FORMATS)}"
        )
    return suffix[1:]


def require_matplotlib() -> Any:
    """matplotlib.figure, or MissingExtraError."""
    with extra("plot", "figures need matplotlib"):
        from matplotlib import figure
    return figure


def _some(curves: Sequence[Curve]) -> Sequence[Curve]:
    if not curves:
        raise InputError("there is no curve to draw", instead="accuracy_latency([rheobase.evaluate(...)])")
    return curves


def _axes(title: str, xlabel: str) -> tuple[Figure, Axes]:
    """An empty figure, 800 x 500 at 100 dpi, with a log2 axis below."""
    figure = require_matplotlib().Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    axes.set_xlabel(xlabel, fontsize=11)
    axes.set_ylabel("accuracy in %", fontsize=11)
    axes.set_title(title, fontsize=12, loc="left")
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _lines(axes: Axes, curves: Sequence[Curve], across: Callable[[Curve], np.ndarray]) -> None:
    for i, curve in enumerate(curves):
        axes.plot(
            across(curve),
            100 * curve.accuracy,
            label=curve.label or f"curve {i + 1}",
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=DASHES[i % len(DASHES)],
            markevery=[t - 1 for t in doublings(len(curve.steps))],
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            linewidth=1.8,
        )


def _reference(axes: Axes, curves: Sequence[Curve]) -> None:
    """The accuracy of each source network as a dashed line across."""
    for accuracy in sorted({100 * c.ann_accuracy for c in curves if _known(c)}):
        axes.axhline(
            accuracy, color="#404040", linestyle=(0, (6, 3)), linewidth=1.1, zorder=1, label=f"ANN {accuracy:.1f}"
        )


def _known(curve: Curve) -> bool:
    return not np.isnan(curve.ann_accuracy)


def _legend(figure: Figure, axes: Axes) -> None:
    """Beside the axes, where it covers no line."""
    figure.legend(loc="outside right upper", frameon=False, fontsize=10, handlelength=3.2)
