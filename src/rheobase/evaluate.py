"""One run over a data set gives the whole curve: accuracy, spikes and energy after every step."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .compile import CompiledNet, computed
from .energy import HOROWITZ, Costs
from .errors import InputError, context
from .inputs import called, count, each, split
from .kernels import in_use
from .measure import NOT_COUNTED, Ledger
from .network import SpikingNet
from .observe import check_inputs
from .readout import Delayed
from .shards import Shards
from .spec import from_json, require, to_json
from .version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Accuracy and cost after each of `steps` = 1..T steps; plain arrays and where they come from.

    accuracy: fraction in [0, 1]. spikes: letters per sample up to this step. rate: letters per neuron and step, mean up
    to this step. acs, graded, macs: operations per sample up to this step, with the constant analogue input counted at
    every step. energy_pj: the same in pJ. energy_once_pj: with the constant input's MACs counted once.
    ann_accuracy, ann_energy_pj: the source network under the same rules, NaN and 0 if unknown. answers_from: the first
    step that has an answer, with a delayed readout or neurons that wait for the whole run; before it accuracy is NaN.
    delay: steps that pass besides those of the run: in rehearsals, whose spikes count to step 1, or while neurons wait.
    """

    label: str
    steps: np.ndarray
    accuracy: np.ndarray
    spikes: np.ndarray
    events: np.ndarray
    rate: np.ndarray
    acs: np.ndarray
    graded: np.ndarray
    macs: np.ndarray
    energy_pj: np.ndarray
    energy_once_pj: np.ndarray
    samples: int
    ann_accuracy: float
    ann_energy_pj: float
    layer_rates: dict[str, float] = field(default_factory=dict)
    costs: Costs = HOROWITZ
    not_counted: tuple[str, ...] = NOT_COUNTED
    provenance: dict[str, Any] = field(default_factory=dict)
    answers_from: int = 1
    delay: int = 0

    @property
    def latency(self) -> np.ndarray:
        """Steps from the first input to the answer after each step, those besides the run among them."""
        return self.steps + self.delay

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        data = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in _shallow(self).items()}
        unknown = None if np.isnan(self.ann_accuracy) else self.ann_accuracy
        answers = [None if np.isnan(share) else share for share in data["accuracy"]]
        fixed = {"costs": to_json(self.costs), "not_counted": list(self.not_counted)}
        return data | fixed | {"accuracy": answers, "ann_accuracy": unknown}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Curve:
        """The curve that `to_json` wrote."""
        read: dict[str, Any] = {k: np.asarray(v) if isinstance(v, list) else v for k, v in data.items()}
        accuracy = float("nan") if data["ann_accuracy"] is None else data["ann_accuracy"]
        fixed: dict[str, Any] = {
            "costs": from_json(data["costs"]),
            "not_counted": tuple(data["not_counted"]),
            "ann_accuracy": accuracy,
            "accuracy": np.asarray(data["accuracy"], dtype=float),
        }
        return cls(**(read | fixed))


def joined(curves: Sequence[Curve]) -> Curve:
    """One curve over the samples of several: shards of a data set, or folds that were calibrated on one another.

    Everything is a mean over samples. Label, costs and provenance are those of the first.
    """
    require(len(curves) > 0, "there is no curve to join")
    steps, samples = len(curves[0].steps), sum(curve.samples for curve in curves)
    require(all(len(curve.steps) == steps for curve in curves), "curves of different lengths cannot be joined")
    shares = [curve.samples / samples for curve in curves]

    def mean(values: Iterable[Any]) -> Any:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    means = {name: mean(getattr(curve, name) for curve in curves) for name in _MEANS}
    rates = {name: mean(curve.layer_rates[name] for curve in curves) for name in curves[0].layer_rates}
    return replace(curves[0], **means, layer_rates=rates, samples=samples)


_MEANS = (
    "accuracy", "spikes", "events", "rate", "acs", "graded", "macs", "energy_pj", "energy_once_pj", "ann_accuracy",
    "ann_energy_pj",
)  # fmt: skip


def _shallow(curve: Curve) -> dict[str, Any]:
    return {name: getattr(curve, name) for name in Curve.__dataclass_fields__}


def evaluate(
    net: SpikingNet | CompiledNet,
    loader: Iterable[tuple[Any, Tensor]],
    steps: int = 32,
    *,
    label: str = "",
    costs: Costs = HOROWITZ,
    ann: nn.Module | None = None,
    chunk: int | None = None,
    readout: Delayed = Delayed(),
    shards: Shards = Shards(),
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Run `net` once over `loader` with constant coding and measure after every step.

    loader: any iterable of `(x [N, ...], y [N])`, y the class indices. ann: the source network, for the reference
    accuracy. chunk: steps at a time, to bound memory; the answer does not depend on it. readout: how answers are read
    off the outputs. shards: the processes that share the batches, `rheobase.shards.processes()` where torchrun started
    several; each reads the same loader, evaluates its share, and has the whole curve in the end, bit for bit that of
    one process. progress(samples) is called after each batch.

    Raises InputError for empty or unsound data and labels out of range.
    """
    with context("evaluate"), torch.inference_mode():
        ledgers = ledger, rehearsed = Ledger(computed(net), steps), Ledger(computed(net), max(1, net.rehearsal))
        device = next(net.parameters()).device
        found: list[Part] = []
        for index, (x, y) in enumerate(loader):
            if not shards.takes(index):
                continue
            check_inputs(x, f"batch {index}")
            x, y = each(lambda part: part.to(device), x), y.to(device)
            for book in ledgers:
                book.begin()
            correct = _hits(net, ledgers, readout, x, y, chunk, index)
            right = int((called(ann, x).argmax(1) == y).sum()) if ann is not None else 0
            found.append(Part(index, count(x), right, correct, ledger.counts, rehearsed.counts))
            if shards.world == 1:
                found = [total(found)]
            if progress:
                progress(count(x))
        whole = total(shards.gather(found))
        for book, counts in zip(ledgers, (whole.counts, whole.rehearsed), strict=True):
            book.begin(counts)
        ledger.charge(rehearsed)
    ann_accuracy = whole.ann_correct / whole.samples if ann is not None else np.nan
    curve = _curve(computed(net), ledger, whole.correct, whole.samples, label, costs, ann_accuracy)
    first = steps if net.waiting else readout.from_step
    accuracy = np.where(curve.steps >= first, curve.accuracy, np.nan)
    delay = net.rehearsal + net.waiting * steps
    origin = curve.provenance | {"readout": to_json(readout)}
    return replace(curve, accuracy=accuracy, answers_from=first, delay=delay, provenance=origin)


class Part(NamedTuple):
    """What one batch adds: its number, samples, right answers of the ANN, those after each step, and the ledgers."""

    batch: int
    samples: int
    ann_correct: int
    correct: Tensor
    counts: Tensor
    rehearsed: Tensor


def total(parts: Sequence[Part]) -> Part:
    """The sum, batch after batch in their order, so that it is the same however they were shared."""
    if not parts:
        raise InputError("there is no data to evaluate on", why="the loader is empty, or was used up before")
    first, *others = sorted(parts, key=lambda part: part.batch)
    for part in others:
        first = first._replace(
            samples=first.samples + part.samples,
            ann_correct=first.ann_correct + part.ann_correct,
            correct=first.correct + part.correct,
            counts=first.counts + part.counts,
            rehearsed=first.rehearsed + part.rehearsed,
        )
    return first


def _hits(
    net: SpikingNet | CompiledNet,
    ledgers: tuple[Ledger, Ledger],
    readout: Delayed,
    x: Any,
    y: Tensor,
    chunk: int | None,
    index: int,
) -> Tensor:
    """How many samples are right after each step; ledgers: of the run, and of the rehearsals before it."""
    ledger, rehearsed = ledgers
    x = each(lambda part: part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part, x)
    _check_labels(net, x, y, index)
    correct = torch.zeros(ledger.steps, dtype=torch.int64)
    for images, labels in zip(split(x, net.together), y.split(net.together), strict=True):
        ys = readout.read(torch.cat(list(net.present(images, ledger.steps, ledger, chunk, rehearsed))))
        correct += (ys.argmax(2) == labels).sum(1).cpu()
    return correct


def _check_labels(net: SpikingNet | CompiledNet, x: Any, y: Tensor, index: int) -> None:
    shape = net.output_shape
    if isinstance(net.output, (tuple, dict)) or len(shape) != 1:
        raise InputError(
            f"the network answers {shape} for each sample, expected one vector of classes",
            instead="convert a model that answers its logits only",
        )
    if y.shape != (count(x),) or y.is_floating_point() or not bool(((y >= 0) & (y < shape[0])).all()):
        raise InputError(
            f"the labels of batch {index} are {y.dtype} {tuple(y.shape)}, from {y.min().item()} to {y.max().item()}",
            why=f"they must be {count(x)} class indices from 0 to {shape[0] - 1}",
        )


def _curve(
    net: SpikingNet, ledger: Ledger, correct: Tensor, samples: int, label: str, costs: Costs, ann_accuracy: float
) -> Curve:
    steps = np.arange(1, ledger.steps + 1)

    def upto(counts: Tensor) -> np.ndarray:
        return np.cumsum(counts.numpy()) / samples

    spikes, acs, graded, analogue = map(upto, (ledger.letters, ledger.acs, ledger.graded, ledger.analogue))
    neurons, paid = sum(ledger.neurons.values()), np.ones_like(steps) if ledger.changes else steps + net.rehearsal
    events_pj = acs * costs.ac + graded * costs.graded + analogue * costs.mac
    rates = {n: float(c.sum()) / (samples * ledger.neurons[n] * ledger.steps) for n, c in ledger.layers.items()}
    return Curve(
        label=label,
        steps=steps,
        accuracy=correct.numpy() / samples,
        spikes=spikes,
        events=upto(ledger.events),
        rate=spikes / (neurons * steps),
        acs=acs,
        graded=graded,
        macs=analogue + ledger.constant * paid,
        energy_pj=events_pj + ledger.constant * paid * costs.mac,
        energy_once_pj=events_pj + ledger.constant * costs.mac,
        samples=samples,
        ann_accuracy=float(ann_accuracy),
        ann_energy_pj=sum(ledger.macs.values()) * costs.mac,
        layer_rates=rates,
        costs=costs,
        provenance=net.provenance | versions(),
    )


def versions() -> dict[str, Any]:
    """The machine and the versions that a number depends on."""
    return {
        "rheobase": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "kernels": in_use(),
    }
