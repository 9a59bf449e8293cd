"""What training makes small: cross-entropy of the mean answer, or of the answer of every step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spec import require, spec


class Objective(Protocol):
    """`objective(ys, target)`: prefix means `[T, N, classes]` and target probabilities `[N, classes]`, to a scalar."""

    def __call__(self, ys: Tensor, target: Tensor) -> Tensor: ...


@spec
class CrossEntropy:
    """`L = CE(mean over t of o(t), y)`: only the answer after the last step counts.

    smoothing: share of the target that is spread over all classes.

    >>> round(CrossEntropy()(torch.zeros(2, 1, 4), torch.eye(4)[:1]).item(), 4)  # ln 4
    1.3863
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.smoothing < 1, f"smoothing={self.smoothing} is no share")

    def __call__(self, ys: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(ys[-1], target, label_smoothing=self.smoothing)


@spec
class TET:
    """`L = mean over t of [(1 - weight) CE(o(t), y) + weight (o(t) - level)^2]`: every step must answer [deng2022tet].

    weight: of the pull to `level`, which keeps the answers of single steps from growing. The constants are ours.
    """

    smoothing: float = 0.0
    weight: float = 0.001
    level: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.smoothing < 1, f"smoothing={self.smoothing} is no share")
        require(0 <= self.weight < 1, f"weight={self.weight} is no share")

    def __call__(self, ys: Tensor, target: Tensor) -> Tensor:
        answers = each_step(ys)
        every = target.expand(len(ys), *target.shape).flatten(0, 1)
        loss = F.cross_entropy(answers.flatten(0, 1), every, label_smoothing=self.smoothing)
        return (1 - self.weight) * loss + self.weight * (answers - self.level).square().mean()


def each_step(ys: Tensor) -> Tensor:
    """The answer of each step from prefix means: `o(t) = (t + 1) m(t) - t m(t - 1)`.

    >>> each_step(torch.tensor([1.0, 2.0, 2.0]).reshape(3, 1, 1)).flatten().tolist()
    [1.0, 3.0, 2.0]
    """
    counts = torch.arange(1, len(ys) + 1, device=ys.device, dtype=ys.dtype).reshape(-1, 1, 1)
    return torch.diff(ys * counts, dim=0, prepend=torch.zeros_like(ys[:1]))
