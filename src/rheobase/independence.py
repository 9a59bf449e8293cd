"""Does an answer depend on anything but its input: on a call before, on the order of the samples, on their number?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .certificate import Check
from .inputs import count, each
from .limit import doubled, flat
from .network import SpikingNet

FLIPS = 0.02
"""Rounding moves a spike now and then, and with it what follows: no farther than this share of the mean answer."""
Run = Callable[[Any], Tensor]


def independence(
    snn: SpikingNet, x: Any, steps: int, progress: Callable[[str, int], None] | None = None
) -> Iterator[Check]:
    """Checks on the answers after each of `steps` steps: the same samples again, in another order and in pieces."""

    def run(x: Any) -> Tensor:
        if progress:
            progress("independence", count(x))
        return answers(snn, x, steps)

    once = run(x)
    arranged = {"order": in_another_order(run, x), "batch size": in_pieces(run, x)}
    again = run(x)
    same = torch.equal(once, again)
    rule = "after other calls the same input has the same answer, bit for bit"
    yield Check(name="second call", holds=same, rule=rule, found="the same bits" if same else _apart(again, once))
    rule = f"the same bits; or the same in float64, and {FLIPS:.0%} apart at most by spikes that rounding moved"
    for name, other in arranged.items():
        if count(x) == 1:
            yield Check(name=name, holds=None, rule=rule, found="there is one sample only")
        elif torch.equal(other, once):
            yield Check(name=name, holds=True, rule=rule, found="the same bits")
        else:
            arrange = in_another_order if name == "order" else in_pieces
            holds = _is_rounding(snn, x, steps, arrange, other, once)
            yield Check(name=name, holds=holds, rule=rule, found=_apart(other, once))


def answers(snn: SpikingNet, x: Any, steps: int) -> Tensor:
    """The answers after every step, `[T, N, ...]`."""
    return torch.cat([ys if isinstance(ys, Tensor) else flat(ys, 2) for ys in snn.present(x, steps)])


def in_another_order(run: Run, x: Any) -> Tensor:
    """The answers of a run on the samples in another order, back in the first."""
    order = torch.randperm(count(x), generator=torch.Generator().manual_seed(0))
    mixed = run(each(lambda part: part[order.to(part.device)], x))
    return mixed[:, order.argsort().to(mixed.device)]


def in_pieces(run: Run, x: Any) -> Tensor:
    """The answers of a run on the first sample alone, and of the others in two parts."""
    cuts = pairwise((0, 1, (count(x) + 1) // 2, count(x)))
    pieces = [each(lambda part, a=a, b=b: part[a:b], x) for a, b in cuts if a < b]
    return torch.cat([run(piece) for piece in pieces], 1)


def _is_rounding(
    snn: SpikingNet, x: Any, steps: int, arrange: Callable[[Run, Any], Tensor], other: Tensor, once: Tensor
) -> bool:
    """Whether what sets `other` apart from `once` is gone in float64 and small enough to be moved spikes."""
    double = copy.deepcopy(snn).double()

    def run(x: Any) -> Tensor:
        return answers(double, doubled(x), steps)

    exact = run(x)
    size = float(exact.abs().mean())
    same = float((arrange(run, x) - exact).abs().mean()) <= 1e-9 * size
    return same and float((other - once).abs().mean()) <= FLIPS * size


def _apart(a: Tensor, b: Tensor) -> str:
    far = (a != b).flatten(2).any(2).any(0)
    return f"{int(far.sum())} of {len(far)} answers differ, on average by {float((a - b).abs().mean()):.2g}"
