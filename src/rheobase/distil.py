"""Thresholds and starts found on converted inputs: fitted in a walk, then learned from the network's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import ops
from .errors import ConversionError
from .graph import Graph
from .initial import Matched
from .inputs import count, each, tensors
from .method import Method
from .refine import gathered
from .scale import Fitted
from .staircase import fit_jointly, neurons, staircases
from .tuning import Distilled


def settle(
    source: Graph,
    methods: Mapping[str, Method],
    fitted: dict[str, dict[str, Tensor]],
    batches: Iterable[Any],
    generator: torch.Generator,
    progress: Callable[[str], Callable[[int], None]],
) -> tuple[Graph, Graph]:
    """Fit thresholds and starts that are chosen on inputs that are converted already, and learn those to be learned.

    The network to put neurons into, which is the source unless weights were to be learned too; and the one whose
    activations corrections repair: the source, or that of staircases once they were learned.
    """
    learned = any(m.tuning.passes for m in methods.values())
    if not (learned or any(isinstance(m.scale, Fitted) or isinstance(m.initial, Matched) for m in methods.values())):
        return source, source
    x = gathered(source, batches)
    fit_jointly(source, methods, fitted, x, progress("fit"))
    if not learned:
        return source, source
    tuned = distil(source, methods, fitted, x, generator, progress("distil"))
    return tuned, staircases(tuned, methods, fitted)


def distil(
    source: Graph,
    methods: Mapping[str, Method],
    fitted: dict[str, dict[str, Tensor]],
    x: Any,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> Graph:
    """Learn theta0 and v0 of the layers whose method says `Distilled`, on the samples `x`, in place.

    The source with the weights learned beside them, or the source itself. Layers with other methods take part as they
    are. The passes are those of the layer that asks for most. Raises ConversionError in torch.inference_mode().
    """
    tuning = max((method.tuning for method in methods.values()), key=lambda found: found.passes)
    assert isinstance(tuning, Distilled)
    if torch.is_inference_mode_enabled():
        raise ConversionError(
            "nothing can be distilled in torch.inference_mode()",
            why="it learns by gradients, which tensors made there have not",
            instead="convert outside of it, or under torch.no_grad()",
        )
    with torch.enable_grad():
        student = Student(source, methods, fitted)
        rates = [tuning.rate] * len(student.neurons) + [student.rate] * len(student.synapses)
        optimiser = torch.optim.Adam([{"params": [p]} for p in student.parameters])
        pieces = list(_pieces(x, tuning, generator))
        for index, piece in enumerate(pieces):
            part = each(lambda t, piece=piece: _mixed(t[piece.to(t.device)], tuning.mix, generator), x)
            with torch.no_grad():
                target = source(part)
            losses = [divergence(y, t) for y, t in zip(tensors(student(part)), tensors(target), strict=True)]
            found = torch.autograd.grad(losses, student.parameters, allow_unused=True)
            for parameter, gradient in zip(student.parameters, found, strict=True):
                # a channel that no drive reaches has a unit of all but 0, over which gradients overflow: it stays
                parameter.grad = None if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * index / len(pieces))) / 2
            optimiser.step()
            if progress:
                progress(count(part))
    with torch.no_grad():
        for name, method in student.methods.items():
            fitted[name] |= {key: t.clone() for key, t in neurons(method, student.steps(name)).items()}
    tuned = {name: {key: t.detach() for key, t in held.items()} for name, held in student.weights.items()}
    return replace(source, tensors=source.tensors | tuned) if tuned else source


class Student:
    """The network of staircases, with parameters: the logarithm of each unit, each start, and weights if they learn."""

    def __init__(
        self, source: Graph, methods: Mapping[str, Method], fitted: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        self.methods = {name: method for name, method in methods.items() if method.tuning.passes}
        self.stairs = staircases(source, methods, fitted)
        self.bounds = {name: source[name].op.bound for name in self.methods}
        first = {name: self.stairs.tensors[name] for name in self.methods}
        self.units = {name: steps["unit"].log().requires_grad_() for name, steps in first.items()}
        self.starts = {name: steps["start"].clone().requires_grad_() for name, steps in first.items()}
        self.rate = max(method.tuning.weights for method in methods.values())
        learns = [node for node in source.nodes if isinstance(node.op, ops.SYNAPSES)] if self.rate else []
        self.weights = {
            node.name: {key: t.clone().requires_grad_() for key, t in source.tensors[node.name].items()}
            for node in learns
        }
        self.neurons = [*self.units.values(), *self.starts.values()]
        self.synapses = [t for held in self.weights.values() for t in held.values()]
        self.parameters = [*self.neurons, *self.synapses]

    def steps(self, name: str) -> dict[str, Tensor]:
        """Unit and start of one layer now; a bounded activation is not exceeded."""
        unit, bound = self.units[name].exp(), self.bounds[name]
        unit = unit if bound is None else unit.clamp(max=bound / self.methods[name].levels)
        return {"unit": unit, "start": self.starts[name]}

    def __call__(self, x: Any) -> Any:
        now = {name: self.steps(name) for name in self.methods}
        return replace(self.stairs, tensors=self.stairs.tensors | now | self.weights)(x)


def divergence(answer: Tensor, target: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(answer)) over the last axis, mean over the rest; else the relative squared error.

    >>> float(divergence(torch.zeros(1, 2), torch.ones(1, 2))), float(divergence(torch.zeros(1, 1), torch.ones(1, 1)))
    (0.0, 1.0)
    """
    if answer.ndim > 1 and answer.shape[-1] > 1:
        terms = F.kl_div(answer.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="none")
        return terms.sum(-1).mean()
    return (answer - target).square().mean() / target.square().mean().clamp(min=1e-12)


def _pieces(x: Any, tuning: Distilled, generator: torch.Generator) -> Iterator[Tensor]:
    """The samples of every step: all of them in another order each pass, in batches of nearly the same size."""
    for _ in range(tuning.passes):
        order = torch.randperm(count(x), generator=generator)
        yield from order.chunk(max(1, count(x) // tuning.batch))


def _mixed(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Some of the samples with a random part of another one; tokens stay what they are."""
    if not x.is_floating_point() or share == 0:
        return x
    draw = torch.rand(2, len(x), generator=generator).to(x).reshape(2, -1, *(1,) * (x.ndim - 1))
    return x + draw[0] * (draw[1] < share) * (x.roll(1, 0) - x)
