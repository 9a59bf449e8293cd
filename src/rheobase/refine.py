"""What must see spikes: corrections of the drive, spike confidence, and the residual that uneven spikes leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import ops
from .correction import NeuronStart
from .graph import Graph, Node
from .inputs import count, first, joined, named
from .kernels import choose
from .membrane import Membrane, Tensors
from .method import Method
from .network import SpikingNet, over_time
from .neuron import received
from .observe import images
from .reset import Subtract
from .state import Visit, constant
from .threshold import MSAT


def spike_confidence(
    net: SpikingNet,
    source: Graph,
    batches: Iterable[Any],
    steps: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """MSAT's confidence of every spiking layer, on training data.

        SIN = neurons that fired within `steps` steps although the ANN's pre-activation is <= 0
        POS = neurons that fired and whose pre-activation is >= 0
        confidence = 1 - SIN / (SIN + POS),      1 where nothing fired

    Counts are summed over all batches, so the batch size does not matter (the authors average over batches). They
    estimated on test data; this must be given training data. Source: [he2024msat].
    """
    sin = {name: 0 for name, _ in net.sites()}
    pos = dict(sin)
    with torch.no_grad():
        for x in images(batches):
            drive: dict[str, Tensor] = {}
            fired: dict[str, Tensor] = {}

            def see_ann(node: Node, xs: list[Tensor], y: Tensor, drive: dict[str, Tensor] = drive) -> None:
                if isinstance(node.op, ops.Rectify):
                    drive[node.name] = xs[0]

            def see_snn(seen: Visit, fired: dict[str, Tensor] = fired) -> None:
                if seen.emission is not None:
                    spikes = (seen.emission.letters != 0).any(0)
                    fired[seen.node.name] = spikes | fired[seen.node.name] if seen.start else spikes

            source(x, see_ann)
            for _ in net.present(x, steps, see_snn):
                pass
            for name in sin:
                sin[name] += int((fired[name] & (drive[name] <= 0)).sum())
                pos[name] += int((fired[name] & (drive[name] >= 0)).sum())
            if progress:
                progress(count(x))
    return {name: 1 - sin[name] / max(1, sin[name] + pos[name]) for name in sin}


MEMORY = 150_000_000
"""How many numbers may be held of one layer, over samples and steps; more samples than fit are not read."""
_HALVINGS = 12


def correct(
    source: Graph,
    methods: Mapping[str, Method],
    fitted: dict[str, dict[str, Tensor]],
    batches: Iterable[Any],
    progress: Callable[[int], None] | None = None,
    reference: Graph | None = None,
) -> None:
    """Add the biases and starts that the methods' corrections ask for to `fitted`, in one walk through the network.

    At each activation, in order, the inputs come from neurons that are fitted and corrected already, so what one layer
    could not repair the next one sees. The same walk carries the activations of the `reference` beside them: the
    source network, or the one of `staircases` where its thresholds were learned.
    """
    reference = reference or source
    steps = max(method.correction.steps for method in methods.values())
    if steps == 0:
        return
    x = gathered(source, batches, steps)
    ann = named(x, list(source.inputs))
    snn, dtype = {name: constant(part, steps) for name, part in ann.items()}, _dtype(source)
    last = max(i for i, node in enumerate(source.nodes) if node.name in fitted)
    with torch.no_grad():
        for node, answers, done in list(zip(source.nodes, reference.nodes, source.spent(), strict=True))[: last + 1]:
            weights = source.tensors.get(node.name, {})
            known = [ann[name] for name in node.inputs]
            ann[node.name] = answers.op(reference.tensors.get(node.name, {}), *known)
            inputs = [snn[name] for name in node.inputs]
            if node.name in fitted:
                method, parts = methods[node.name], fitted[node.name]
                drives = inputs[0]
                if isinstance(method.correction, NeuronStart):
                    parts["v0"] = _start(method, Tensors(**parts), drives, ann[node.name])
                elif method.correction.steps:
                    parts["bias"] = _bias(method, Tensors(**parts), drives, ann[node.name])
                spike = ops.Spike(neuron=method.neuron)
                snn[node.name] = spike.emitted(spike.scan(parts, drives, None)[0], dtype)
                if progress:
                    progress(count(x))
            elif isinstance(op := ops.in_time(node.op), ops.Difference):
                snn[node.name] = op.scan(weights, inputs, None)[0]
            else:
                snn[node.name] = over_time(node.op, weights, inputs)
            for name in done:
                del ann[name], snn[name]


def gathered(source: Graph, batches: Iterable[Any], steps: int = 1) -> Any:
    """As many samples as may be held of the widest layer over so many steps, at least one."""
    room = max(1, MEMORY // (steps * max(math.prod(node.shape) for node in source.nodes)))
    return first(joined([batch for batch, _ in zip(images(batches), range(room), strict=False)]), room)


def _dtype(source: Graph) -> torch.dtype:
    return next(t.dtype for weights in source.tensors.values() for t in weights.values())


def _start(method: Method, parts: Tensors, drives: Tensor, answer: Tensor) -> Tensor:
    """The start `[...]` of every neuron of one population: what was missing on average comes first."""
    neuron, steps = method.neuron, method.correction.steps
    emission, _ = choose(neuron, parts, drives[:steps]).run(neuron, parts, drives[:steps], None)
    sent = received(neuron, emission, None).sum(0)
    missing = steps * answer.mean(0, dtype=torch.float64) - sent.mean(0, dtype=torch.float64)
    return (parts.v0.double() + missing).to(parts.v0)


def _bias(method: Method, parts: Tensors, drives: Tensor, answer: Tensor) -> Tensor:
    """The bias `[steps, channels, ...]` of one population: for each step in turn, or for all steps alike."""
    axis = 1 if parts.theta0.ndim == 0 else answer.ndim - parts.theta0.ndim
    others = tuple(d for d in range(answer.ndim) if d != axis)
    target = answer.mean(others, dtype=torch.float64)
    shape = (-1, *(1,) * (answer.ndim - 1 - axis))
    largest = method.neuron.threshold.rest(parts.theta0).max() * method.alphabet.ceiling
    neuron, steps = method.neuron, method.correction.steps

    pieces = max(1, 250_000 // math.prod(answer.shape[1:]))  # samples at a time, few enough for the caches

    def sent(bias: Tensor, xs: Tensor, memories: list[Membrane | None]) -> tuple[Tensor, list[Membrane | None]]:
        """The mean over samples and positions of what leaves each channel in the steps of xs."""
        total, after = torch.zeros_like(target), []
        added = bias.to(xs.dtype).reshape(shape)
        for part, m in zip(xs.split(pieces, 1), memories, strict=True):
            corrected = part + added
            emission, after_run = choose(neuron, parts, corrected).run(neuron, parts, corrected, m)
            total += received(neuron, emission, m).sum((0, *(d + 1 for d in others))).double()
            after.append(after_run)
        return total * (len(target) / answer.numel()), after

    def solve(xs: Tensor, memories: list[Membrane | None], goal: Tensor) -> Tensor:
        """The bias at which what leaves is nearest to the goal, by bisection; silent channels stay as they are."""
        low, high = -largest.double().expand(len(goal)), largest.double().expand(len(goal))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            short = sent(middle, xs, memories)[0] < goal
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return torch.where(target != 0, (low + high) / 2, 0.0)

    memories: list[Membrane | None] = [None] * -(-len(answer) // pieces)
    if not method.correction.per_step:
        found = [solve(drives[:steps], memories, steps * target)] * steps
    else:
        found, gone = [], torch.zeros_like(target)
        for step in range(steps):
            found.append(solve(drives[step : step + 1], memories, (step + 1) * target - gone))
            left, memories = sent(found[-1], drives[step : step + 1], memories)
            gone = gone + left
    return torch.stack([bias.to(answer.dtype).reshape(shape) for bias in found])


def residuals(net: SpikingNet, x: Any, steps: int) -> dict[str, dict[str, float]]:
    """What `steps` steps on `x` `[N, ...]` leave in each spiking layer.

    unevenness: the share of neurons whose residual left [0, theta) although they neither are silent nor saturated:
    spikes came too early or too late, and more levels would not help. guarded: the share of neurons and steps in which
    MSAT's guard held the threshold up.
    """
    seen = {name: {"unevenness": 0.0, "guarded": 0.0} for name, _ in net.sites()}
    counts: dict[str, Tensor] = {}

    def see(visit: Visit) -> None:
        if visit.emission is None:
            return
        name, neuron, (letters, amplitude) = visit.node.name, visit.node.op.neuron, visit.emission
        counts[name] = letters.sum(0) + counts.get(name, 0)
        if isinstance(neuron.reset, Subtract):
            last, v = amplitude[-1] if neuron.threshold.graded else amplitude, visit.memory.v
            late = (v >= last) & (counts[name] < steps * neuron.alphabet.ceiling)
            early = (v < 0) & (counts[name] > 0)
            seen[name]["unevenness"] = float((late | early).float().mean())
        if isinstance(neuron.threshold, MSAT):
            floor = net.weights(name)["theta0"] * neuron.threshold.guard
            held = (amplitude <= floor * (1 + 1e-6)).float().mean()
            seen[name]["guarded"] += float(held) * len(letters) / steps

    with torch.no_grad():
        for _ in net.present(x, steps, see):
            pass
    return seen
