"""The balance of every spiking layer after T steps: what came in, what left, what is still there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .inputs import count, each, joined
from .network import SpikingNet
from .neuron import worth
from .state import Visit, constant


class Balance(NamedTuple):
    """What one layer received and sent in `steps` steps: sums over time `[N, ...]`, float64, in activation units.

        gap = sent + left - received - corrected - start,      0 where charge is conserved

    received: the drives. corrected: the bias corrections added to them. sent: the emissions. moved: the sum of all
    absolute values, which rounding grows with. start, left: v0 and v(T). corrected and start broadcast.
    """

    steps: int
    received: Tensor
    corrected: Tensor
    sent: Tensor
    moved: Tensor
    start: Tensor
    left: Tensor

    @property
    def drive(self) -> Tensor:
        """The mean drive of a step, with its correction."""
        return (self.received + self.corrected) / self.steps

    @property
    def rate(self) -> Tensor:
        """The mean emission of a step."""
        return self.sent / self.steps

    @property
    def gap(self) -> Tensor:
        """Charge that is in the books once only."""
        return self.sent + self.left - self.received - self.corrected - self.start


def follow(net: SpikingNet, x: Any, stops: Sequence[int]) -> Iterator[tuple[Any, dict[str, Balance]]]:
    """Present `x` `[N, ...]` once, constant in time; at each of the ascending `stops` what happened up to there.

    Yields the readouts of the steps since the last stop, `[T, N, ...]`, and the balance of each spiking layer. Where
    neurons wait, each stop is a run of its own. What was rehearsed is no part of it, only the start it led to.
    """
    books: dict[str, Balance] = {}
    born = net.rehearsed(each(lambda part: constant(part, 1), x)) if net.rehearsal else None

    def enter(seen: Visit) -> None:
        if seen.emission is not None:
            start = born.memory[seen.node.name].v if born and seen.node.name in born.memory else None
            books[seen.node.name] = _booked(net, seen, books.get(seen.node.name), start)

    largest = max(math.prod(node.shape) for node in net.graph_nodes)
    chunk = max(1, 2_000_000 // (largest * count(x)))
    state, done = born, 0
    for stop in stops:
        answers = []
        if net.waiting:
            state, done, chunk = born, 0, stop
            books.clear()
        for at in range(done, stop, chunk):
            steps = min(chunk, stop - at)
            ys, state = net.run(each(lambda part, steps=steps: constant(part, steps), x), state, enter)
            answers.append(ys)
        done = stop
        yield joined(answers), dict(books)


def _booked(net: SpikingNet, seen: Visit, before: Balance | None, start: Tensor | None) -> Balance:
    """The balance after the steps that a visit shows."""
    assert seen.emission is not None
    tensors, drives = net.tensors(seen.node.name), seen.xs[0]
    op = seen.node.op
    ys = seen.ys * worth(op.neuron, tensors.theta0) if op.letters else seen.ys  # what readers receive
    corrected = torch.zeros((), dtype=torch.float64, device=ys.device)
    if tensors.bias is not None:
        corrected = tensors.bias[seen.start : seen.start + len(drives)].sum(0, dtype=torch.float64)
    moved = _sum(drives.abs()) + _sum(ys.abs())
    sums = (_sum(drives), corrected, _sum(ys), moved + corrected.abs())
    if before is not None:
        sums = tuple(old + new for old, new in zip(before[1:5], sums, strict=True))
    start = tensors.v0 if start is None else start
    return Balance(seen.start + len(drives), *sums, start=start.double(), left=seen.memory.v.double())


def _sum(steps: Tensor) -> Tensor:
    """The sum over the first axis, float64. A few steps are added as they are: many times faster than `sum(0)`."""
    total = steps[0]
    for step in steps[1:]:
        total = total + step
    return total.double()
