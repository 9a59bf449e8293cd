"""Which layer of a spiking network makes the error of its answer, and by what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .balance import follow
from .diagnosis import Diagnosis
from .errors import context
from .graph import Graph, Node
from .inputs import count, each, split
from .limit import activations, doubled, exact, flat, given, is_classifier, replaced, source_of
from .network import SpikingNet
from .observe import channel_axis
from .parts import Ledger, Seen
from .remedy import Trial, methods_of, outcome, proposals, started
from .samples import gather
from .spec import require
from .worth import worths


def diagnose(
    snn: SpikingNet,
    ann: nn.Module,
    batches: Iterable[Any],
    steps: int | None = None,
    *,
    samples: int = 64,
    trials: int = 3,
    progress: Callable[[str, int], None] | None = None,
) -> Diagnosis:
    """The error of `snn` after `steps` steps, split by layer and part, on the first `samples` samples of `batches`.

    steps: 16 if not given, or as many as the neurons count in digits.

    Each layer's mean emission minus the ANN's activation is a sum of parts (`LayerDiagnosis`), exactly. What the parts
    cost the answer is their share of its squared error,

        share = sum g * part / |d|^2,      d = answer of the SNN - answer of the ANN,      g = gradient of <answer, d>

    through the source network with the secants of its activations between the two networks instead of slopes, so that
    the shares of all layers add up to 1 but for what no layer has. The secants are DeepLIFT's [shrikumar2017learning].
    The layers with the `trials` largest shares get a proposal, whose gain is measured by running the changed network.

    The cost is a run of the SNN, two of each neuron at even drive, three passes and a gradient of the ANN, and at most
    two runs for each of the `trials`. Raises InputError if `snn` was not converted from `ann`, for bad data.

    >>> import rheobase as rb, torch
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> snn, _ = rb.convert(ann, rb.methods.max_norm(), [torch.rand(64, 4)])
    >>> rb.diagnose(snn, ann, [torch.rand(64, 4)]).blame
    ('1',)
    """
    steps = snn.clock or 16 if steps is None else steps
    require(steps > 0 and samples > 0, f"steps={steps} and samples={samples} must be positive")
    with context("diagnose"), torch.no_grad():
        x, labels = gather(batches, samples)
        source = source_of(snn, ann, x)
        graph, squared, found = exact(source), 0.0, []
        worth = worths(snn, graph)
        ledgers = {name: Ledger(graph[name], channel_axis(graph, graph[name])) for name, _ in snn.sites()}
        for piece in split(x, snn.together):
            seen, answers = _seen(snn, graph, piece, steps, worth)
            gap = answers.snn - answers.ann
            gradients = _gradients(graph, piece, seen, gap)
            for name, ledger in ledgers.items():
                ledger.enter(snn, seen[name], gradients[name])
            squared += float(gap.square().sum())
            found.append(answers)
            if progress:
                progress("diagnose", count(piece))
        answers, neurons = Answers(*map(torch.cat, zip(*found, strict=True))), dict(snn.sites())
        truth = (answers.ann.argmax(1) if labels is None else labels) if is_classifier(snn) else None
        methods = methods_of(snn, source)
        layers = tuple(
            ledger.closed(str(neurons[name]), squared, started(snn, name, methods[name]))
            for name, ledger in ledgers.items()
        )
        trial = Trial(x, answers.ann, truth, steps)
        proposed, runs = proposals(snn, source, methods, layers, trial, trials, progress)
        now = outcome(answers.snn, answers.ann, truth)
    return Diagnosis(
        layers=layers,
        proposals=proposed,
        steps=steps,
        samples=count(x),
        error=now.error,
        against="the ANN's answers" if labels is None else "the labels",
        agreement=now.agreement,
        ann_agreement=outcome(answers.ann, answers.ann, truth).agreement,
        unexplained=1 - sum(layer.share for layer in layers) if squared else 0.0,
        runs=1 + runs,
    )


class Answers(NamedTuple):
    """Answers `[N, ...]` in float64."""

    snn: Tensor
    ann: Tensor


def _seen(
    snn: SpikingNet, graph: Graph, x: Any, steps: int, worth: Mapping[str, Tensor]
) -> tuple[dict[str, Seen], Answers]:
    """Every spiking layer in both networks, and their answers."""
    passed, answer = activations(graph, x, worth)
    ((ys, books),) = follow(snn, x, (steps,))
    sent = {name: book.rate * worth[name] for name, book in books.items()}
    arrived, _ = activations(given(graph, sent), x, worth)
    seen = {name: Seen(book, sent[name], arrived[name].z, passed[name]) for name, book in books.items()}
    return seen, Answers(flat(each(lambda part: part[-1], ys)), answer)


def _gradients(graph: Graph, x: Any, seen: Mapping[str, Seen], gap: Tensor) -> dict[str, Tensor]:
    """How the output error along `gap` depends on what each layer sends, `[N, ...]`.

    The source network is run on the path of the spiking one, each activation as the line between its two points,
    `a + m (z - z_ANN)`, and the error of the layer added to it: backwards through that, contributions are exact.
    """
    errors: dict[str, Tensor] = {}

    def line(name: str) -> Callable[[Tensor], Tensor]:
        (_, sent, arrived, ann), node = seen[name], graph[name]
        slope = secant(node, ann.z, arrived)
        errors[name] = (sent - ann.y - slope * (arrived - ann.z)).requires_grad_()
        return lambda z: ann.y + slope * (z - ann.z) + errors[name]

    path = replaced(graph, {name: line(name) for name in seen})
    with torch.enable_grad():
        along = (flat(path(doubled(x))) * gap).sum()
        return dict(zip(errors, torch.autograd.grad(along, list(errors.values())), strict=True))


def secant(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The slope in [0, 1] of the activation `node` from a to b, without its staircase; the derivative where a is b."""
    smooth = replace(node.op, levels=None)
    between = (a - b).abs() > 1e-9 * (a.abs() + b.abs())
    slope = (smooth({}, b) - smooth({}, a)) / torch.where(between, b - a, 1.0)
    return torch.where(between, slope, (smooth({}, a) == a).double()).clamp(0, 1)
