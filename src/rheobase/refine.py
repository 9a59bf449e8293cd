"""What must see spikes: spike confidence, and the residual that uneven spikes leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from . import ops
from .graph import Graph, Node
from .network import SpikingNet, Visit, constant
from .observe import images
from .reset import Subtract
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
                progress(len(x))
    return {name: 1 - sin[name] / max(1, sin[name] + pos[name]) for name in sin}


def residuals(net: SpikingNet, x: Tensor, steps: int) -> dict[str, dict[str, float]]:
    """What `steps` steps on `x` `[N, ...]` leave in each spiking layer.

    unevenness: the share of neurons whose residual left [0, theta) although they neither are silent nor saturated:
    spikes came too early or too late, and more levels would not help. guarded: the share of neurons and steps in which
    MSAT's guard held the threshold up.
    """
    seen: dict[str, dict[str, float]] = {}

    def see(visit: Visit) -> None:
        if visit.emission is None:
            return
        neuron, (letters, amplitude) = visit.node.op.neuron, visit.emission
        weights, count = net.weights(visit.node.name), letters.sum(0)
        last = amplitude[-1] if neuron.threshold.graded else amplitude
        v = visit.memory.v
        late = (v >= last) & (count < steps * neuron.alphabet.ceiling)
        early = (v < 0) & (count > 0)
        uneven = float((late | early).float().mean()) if isinstance(neuron.reset, Subtract) else 0.0
        guarded = 0.0
        if isinstance(neuron.threshold, MSAT):
            floor = weights["theta0"] * neuron.threshold.guard
            guarded = float((amplitude <= floor * (1 + 1e-6)).float().mean())
        seen[visit.node.name] = {"unevenness": uneven, "guarded": guarded}

    with torch.no_grad():
        net.run(constant(x, steps), None, see)
    return seen
