"""What a spike takes from the potential."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .spec import nearest, spec
from .surrogate import Compared


class Reset(Protocol):
    """`v' = reset(u, removed, compared)`, where `removed = s * theta` and `compared` knows what each level said.

    detach: no gradient flows through what the reset takes.
    """

    @property
    def detach(self) -> bool: ...

    def __call__(self, u: Tensor, removed: Tensor, compared: Compared | None = None) -> Tensor: ...


@spec
class Subtract:
    """Soft reset: `v' = u - s * theta`. What is left over stays, so charge is conserved."""

    detach: bool = False

    def __call__(self, u: Tensor, removed: Tensor, compared: Compared | None = None) -> Tensor:
        return u - (removed.detach() if self.detach else removed)


@spec(kw_only=False)
class ToValue:
    """Hard reset: `v' = value` where a spike left, `u` elsewhere. What was left over is lost.

    at: "first", any letter resets; "full", only the one that reaches every level, and smaller letters take nothing.
    Backward `v' = (1 - r) u + r value`, r that comparator, with the surrogate as its derivative.
    """

    value: float = 0.0
    at: str = "first"
    detach: bool = False

    def __post_init__(self) -> None:
        nearest(self.at, ("first", "full"), "threshold of a hard reset")

    def __call__(self, u: Tensor, removed: Tensor, compared: Compared | None = None) -> Tensor:
        spiked = removed != 0
        if compared is None or (self.at == "first" and (compared.surrogate is None or self.detach)):
            return torch.where(spiked, self.value, u)
        letters = compared.alphabet
        reached = compared.reached(letters.levels[0] if self.at == "first" else letters.full)
        if compared.surrogate is None or self.detach:
            return torch.where(spiked & (reached != 0), self.value, u)
        stopped = reached.detach() * ~spiked  # what a gate stopped resets nothing
        hit = reached - stopped
        return (1 - hit) * u + hit * self.value
