"""The network whose neurons are staircases, as if every input came evenly: the solver of thresholds and starts.

Between the source network and the spiking one stands a third, without time: each neuron is what its letters amount to
after all steps of an even input (`ops.Staircase`). It costs no more than the source network, and where neurons wait for
all of their input it is the spiking network exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from . import ops
from .graph import Graph, Node
from .initial import Matched
from .inputs import count, named
from .method import Method
from .pairs import Pairs
from .scale import Fitted


def staircases(source: Graph, methods: Mapping[str, Method], fitted: Mapping[str, Mapping[str, Tensor]]) -> Graph:
    """The source network with a staircase in the place of every activation whose method says how many levels it has."""
    stepped = {name for name, method in methods.items() if method.levels}
    nodes = tuple(_staircase(node, methods[node.name]) if node.name in stepped else node for node in source.nodes)
    tensors = {name: stairs(methods[name], fitted[name]) for name in stepped}
    return replace(source, nodes=nodes, tensors=source.tensors | tensors)


def _staircase(node: Node, method: Method) -> Node:
    return replace(node, op=ops.Staircase(levels=method.levels, signed=node.op.signed))


def stairs(method: Method, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Unit and start of the staircase of a neuron with these tensors, for the letters that it sends in a step."""
    theta0, worth = parts["theta0"], method.neuron.threshold.rest(parts["theta0"]) * method.alphabet.unit
    return {"unit": theta0 * (_ceiling(method) / method.levels), "start": parts["v0"] / worth}


def neurons(method: Method, steps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """theta0 and v0 of the neuron whose staircase has this unit and start."""
    theta0 = steps["unit"] * (method.levels / _ceiling(method))
    return {"theta0": theta0, "v0": steps["start"] * method.neuron.threshold.rest(theta0) * method.alphabet.unit}


def _ceiling(method: Method) -> float:
    return method.threshold.saturation(method.alphabet.ceiling)


def fit_jointly(
    source: Graph,
    methods: Mapping[str, Method],
    fitted: dict[str, dict[str, Tensor]],
    x: Any,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Thresholds by `Fitted` and starts by `Matched`, in one walk through the layers on the samples `x` `[N, ...]`.

    Each layer is fitted to the activation of the source network on the drives that come from staircases, so what one
    layer could not render the next one sees. `fitted` is changed in place.
    """
    ann = named(x, list(source.inputs))
    own = dict(ann)
    with torch.no_grad():
        for node, done in zip(source.nodes, source.spent(), strict=True):
            weights = source.tensors.get(node.name, {})
            ann[node.name] = node.op(weights, *(ann[name] for name in node.inputs))
            xs, op = [own[name] for name in node.inputs], node.op
            if node.name in methods and methods[node.name].levels:
                method, parts = methods[node.name], fitted[node.name]
                if not node.op.signed:
                    parts |= _fit(node, method, parts, xs[0], ann[node.name])
                op, weights = _staircase(node, method).op, stairs(method, parts)
                if progress:
                    progress(count(x))
            own[node.name] = op(weights, *xs)
            for name in done:
                del ann[name], own[name]


def _fit(node: Node, method: Method, parts: dict[str, Tensor], drives: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """theta0 and v0 of one population, as far as its method asks for them to be fitted."""
    theta0, free = parts["theta0"], isinstance(method.initial, Matched)
    if not (free or isinstance(method.scale, Fitted)):
        return {}
    axis = None if theta0.ndim == 0 else answers.ndim - theta0.ndim
    rows = [t.reshape(1, -1) if axis is None else t.movedim(axis, 0).flatten(1) for t in (drives, answers)]
    pairs = Pairs(rows[0].amin(1), rows[0].amax(1), float(answers.max()))
    pairs.add(*rows)
    known = stairs(method, parts)
    if isinstance(method.scale, Fitted) and bool((answers > 0).any()):
        unit, start = pairs.fitted(method.levels, float("inf") if node.op.bound is None else node.op.bound)
    else:
        unit = known["unit"].flatten()
        start = pairs.matched(unit, method.levels)
    found = {"unit": unit.to(theta0).reshape(theta0.shape), "start": start.to(theta0).reshape(theta0.shape)}
    return neurons(method, found if free else found | {"start": known["start"]})
