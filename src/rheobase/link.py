"""Between layers: is a message a rate, or a change of the mean that its readers already know?"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .spec import spec


class Link(Protocol):
    """What a link must answer. Its memory is what the readers expect of the next message, in activation units."""

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        """The link's own memory at t = 0."""
        ...

    def news(self, x: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        """What of the drive x the readers do not expect yet."""
        ...

    def remember(self, memory: tuple[Tensor, ...], s: Tensor, worth: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """The link's own memory after the letters s, each worth `worth`, have left in step t."""
        ...

    def stands(self, left: Tensor, memory: tuple[Tensor, ...], worth: Tensor) -> Tensor:
        """What a message adds, in letters, to what may be taken back in the next step."""
        ...

    def received(self, ys: Tensor, mean: Tensor | None, t: int) -> Tensor:
        """What the readers take the messages `ys` `[T, N, ...]` for, `mean` being what they expected at step t."""
        ...


@spec
class Rate:
    """A message is a part of the rate: the readers expect nothing, and what they receive is what was sent."""

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return ()

    def news(self, x: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        return x

    def remember(self, memory: tuple[Tensor, ...], s: Tensor, worth: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        return memory

    def stands(self, left: Tensor, memory: tuple[Tensor, ...], worth: Tensor) -> Tensor:
        return left

    def received(self, ys: Tensor, mean: Tensor | None, t: int) -> Tensor:
        return ys


@spec
class Differential:
    """A message is a change: the readers hold the mean r of the steps so far and take silence for "as before".

        u    = v + x - r(t-1)          d = letters of u          v' = u - d
        y(t) = r(t-1) + d(t)           r(t) = r(t-1) + d(t) / t,        r(0) = 0

    y is what the readers receive, r(t) = mean of y(1..t), and charge is conserved for y: sum y = sum x + v0 - v(T).
    With constant input events stop once r is exact; the first step is that of `Rate`. Two more words of state a neuron,
    one at each end. The constant input and every bias are one message in all. Mirrored letters leave the residual a
    band of two thetas; floored ones keep it at the edge of one, where it sends change after change. Source:
    [huang2025differential].
    """

    def born(self, v: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(v),)

    def news(self, x: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        return x - memory[0]

    def remember(self, memory: tuple[Tensor, ...], s: Tensor, worth: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        return (memory[0] + s * worth / (t + 1),)

    def stands(self, left: Tensor, memory: tuple[Tensor, ...], worth: Tensor) -> Tensor:
        return left + memory[0] / worth

    def received(self, ys: Tensor, mean: Tensor | None, t: int) -> Tensor:
        rates, mean = [], torch.zeros_like(ys[0]) if mean is None else mean
        for done, y in enumerate(ys.unbind(0), t + 1):
            rates.append(mean + y)
            mean = mean + y / done
        return torch.stack(rates)
