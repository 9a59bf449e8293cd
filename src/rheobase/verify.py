"""Does a spiking network tend to its clipped ANN, and does its answer depend on nothing but the input?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import ops
from .balance import Balance, follow
from .certificate import READOUT, Agreement, Certificate, LayerCheck, accuracy, charge, drives, limit
from .errors import InputError, context
from .graph import Graph
from .independence import independence
from .inputs import count, first, split, tensors
from .limit import activations, clipped, exact, flat, given, is_classifier, loses, source_of
from .network import SpikingNet
from .samples import gather
from .spec import require

SUMS = 64
"""Roundings of one weighted sum, beside one for each step."""


def verify(
    snn: SpikingNet,
    ann: nn.Module,
    batches: Iterable[Any],
    *,
    steps: Sequence[int] = (16, 64, 256),
    samples: int = 64,
    progress: Callable[[str, int], None] | None = None,
) -> Certificate:
    """The certificate of `snn`, on the first `samples` samples of `batches`, tensors or pairs (x, y).

        drives       the mean drive of a layer is what the source's weights make of the mean emissions before it
        charge       sum y = sum x + sum bias + v0 - v(T), neuron by neuron
        limit        the mean emission of each layer tends to the activation of the clipped ANN as T grows
        accuracy     no T is worse than a smaller one; without labels, agreement with the clipped ANN
        second call, order, batch size     the answer depends on none of them

    The first two hold to rounding at every T, whatever the method, for neurons that conserve charge; the third then
    measures that v(T) / T vanishes. The clipped ANN is the source network whose activations give no more than their
    neurons can send. The cost is a run of `steps[-1]` steps and four of `steps[0]` steps on at most 32 samples.

    Raises InputError if `snn` was not converted from `ann` and for bad data.

    >>> import rheobase as rb, torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> snn, _ = rb.convert(ann, rb.methods.opi(), [torch.rand(64, 4)])
    >>> rb.verify(snn, ann, [torch.rand(64, 4)]).holds
    True
    """
    stops = [int(step) for step in steps]
    require(
        len(stops) > 1 and all(a < b for a, b in pairwise((0, *stops))), f"steps={steps} must be several, ascending"
    )
    require(samples > 0, f"samples={samples} are none")
    if snn.clock:
        raise InputError(
            f"verify: the neurons count in {snn.clock} digits",
            why="so there are no long runs, whose limit is what a certificate is about",
            instead="rheobase.diagnose(snn, ann, batches), or the same network by methods.wait",
        )
    with context("verify"), torch.inference_mode():
        x, labels = gather(batches, samples)
        source = exact(source_of(snn, ann, x))
        tallies, answers = _measured(snn, source, x, stops, progress)
        layers = tuple(_layers(snn, source, tallies))
        agreed = _agreement(answers, labels, is_classifier(snn), stops)
        return Certificate(
            checks=(
                drives(layers),
                charge(layers),
                limit(layers, stops, _relative(answers.limit - answers.ann, answers.ann)),
                accuracy(agreed),
                *independence(snn, first(x, min(32, snn.together)), stops[0], progress),
            ),
            layers=layers,
            steps=tuple(stops),
            samples=count(x),
            agreement=agreed,
        )


class Answers(NamedTuple):
    """Answers to all samples: of the spiking network after every step `[T, N, ...]`, of the clipped ANN, of the ANN."""

    snn: Tensor
    limit: Tensor
    ann: Tensor


class Tally:
    """What is known of a layer so far: squared errors at each stop, squared activations, largest gaps in roundings."""

    def __init__(self, stops: int) -> None:
        self.squares, self.reference, self.drive, self.charge = torch.zeros(stops, dtype=torch.float64), 0.0, 0.0, 0.0

    def compare(self, stop: int, sent: Tensor, limit: Tensor) -> None:
        """The mean emission at a stop beside the clipped activation."""
        self.squares[stop] += (sent - limit).square().sum().cpu()
        self.reference += float(limit.square().sum()) if stop == 0 else 0.0

    def balance(self, book: Balance, expected: Tensor, eps: float) -> None:
        """The books of a run beside the drive `expected` of the mean emissions that reached this layer."""
        self.drives(book.received / book.steps - expected, book.moved / book.steps, (SUMS + book.steps) * eps)
        slack = book.steps * torch.finfo(torch.float32).eps * (book.moved + book.start.abs())
        self.charge = max(self.charge, float((book.gap.abs() / slack.clamp(min=1e-300)).max()))

    def drives(self, gap: Tensor, moved: Tensor, rounding: float) -> None:
        """The largest gap in units of `rounding` of the RMS of what moved."""
        scale = rounding * float(moved.double().square().mean().sqrt())
        self.drive = max(self.drive, float(gap.abs().max()) / max(scale, 1e-300))

    @property
    def errors(self) -> tuple[float, ...]:
        return tuple((self.squares / max(self.reference, 1e-300)).sqrt().tolist())


def _measured(
    snn: SpikingNet, source: Graph, x: Any, steps: Sequence[int], progress: Callable[[str, int], None] | None
) -> tuple[dict[str, Tally], Answers]:
    """The tally of every spiking layer and of the readout, and all answers, from one run."""
    bounded, names = clipped(source, snn), [name for name, _ in snn.sites()]
    tallies, found = {name: Tally(len(steps)) for name in (*names, READOUT)}, []
    eps = torch.finfo(next(snn.parameters()).dtype).eps
    for piece in split(x, snn.together):
        wanted, target = activations(bounded, piece, names)
        run = []
        for stop, (ys, books) in enumerate(follow(snn, piece, steps)):
            run.append(ys if isinstance(ys, Tensor) else flat(ys, 2))
            rates = {name: book.rate for name, book in books.items()}
            arrived, answer = activations(given(source, rates), piece, names)
            for name, book in books.items():
                tallies[name].compare(stop, book.rate, wanted[name].y)
                tallies[name].balance(book, arrived[name].z, eps)
            last = run[-1][-1].double()
            tallies[READOUT].compare(stop, last, target)
            tallies[READOUT].drives(last - answer, last, (SUMS + steps[stop]) * eps)
        found.append(Answers(torch.cat(run), target, activations(source, piece, ())[1]))
        if progress:
            progress("limit", count(piece))
    snns, limits, anns = zip(*found, strict=True)
    return tallies, Answers(torch.cat(snns, 1), torch.cat(limits), torch.cat(anns))


def _agreement(answers: Answers, labels: Tensor | None, classes: bool, stops: Sequence[int]) -> Agreement | None:
    """How many answers are right after 1, 2, 4, ... steps and at each stop, if they are classes."""
    if not classes:
        return None
    truth = answers.limit.argmax(1) if labels is None else labels.to(answers.limit.device)
    at = sorted({2**i for i in range(stops[-1].bit_length())} | set(stops))
    hits = (answers.snn.argmax(2) == truth)[[t - 1 for t in at]]
    return Agreement(
        against="the clipped ANN's answers" if labels is None else "the labels",
        chance=float(truth.unique(return_counts=True)[1].max()) / len(truth),
        at=tuple(at),
        hits=tuple(map(tuple, hits.tolist())),
        limit=float((answers.limit.argmax(1) == truth).double().mean()),
        ann=float((answers.ann.argmax(1) == truth).double().mean()),
    )


def _layers(snn: SpikingNet, source: Graph, tallies: Mapping[str, Tally]) -> Iterator[LayerCheck]:
    """Every activation in order, with its tally where it spikes, what computes with real numbers, and the readout."""
    functions = {node.name for node in source.of(ops.Function)}
    tainted: set[str] = set()
    for node in snn.graph_nodes:
        lossy = loses(node.op.neuron) if isinstance(node.op, ops.Spike) else ""
        if lossy or tainted & set(node.inputs):
            tainted.add(node.name)
        if isinstance(node.op, ops.Spike):
            tally, inside = tallies[node.name], functions & set(source[node.name].inputs)
            yield LayerCheck(
                name=node.name,
                source=node.source,
                kind="approximate" if lossy or inside else "spiking",
                why=lossy or ("sends a function of its mean input in letters" if inside else ""),
                errors=tally.errors,
                claimed=node.name not in tainted,
                drive=tally.drive,
                charge=None if lossy else tally.charge,
            )
        elif isinstance(node.op, ops.Difference) and not node.op.exact and node.name not in _inside(snn):
            yield LayerCheck(name=node.name, source=node.source, kind="analogue", why="its value on the mean input")
    claimed = not tainted & set(tensors(snn.output))
    last = tallies[READOUT]
    yield LayerCheck(name=READOUT, kind=READOUT, errors=last.errors, claimed=claimed, drive=last.drive)


def _inside(snn: SpikingNet) -> set[str]:
    """The functions that a neuron evaluates in front of itself."""
    spikes = [node for node in snn.graph_nodes if isinstance(node.op, ops.Spike)]
    return {name for node in spikes for name in node.inputs if name == f"{node.name}.function"}


def _relative(gap: Tensor, to: Tensor) -> float:
    return float(gap.square().sum().sqrt() / to.square().sum().sqrt().clamp(min=1e-300))
