"""What a neuron learns of this very input in a run before the run: its steps and spikes are counted."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .spec import require, spec


class Rehearsal(Protocol):
    """How many steps the whole network rehearses on an input, and where the potential starts after them."""

    @property
    def steps(self) -> int: ...

    def start(self, v0: Tensor, theta: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        """The potential `[N, ...]` at birth, from that of the rehearsal and what it brought: drives and emissions."""
        ...


@spec
class Unrehearsed:
    """No run before the run: the potential starts at v0."""

    @property
    def steps(self) -> int:
        return 0

    def start(self, v0: Tensor, theta: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        return v0


@spec(kw_only=False)
class Residual:
    """SRP: a neuron whose residual after `steps` steps is not positive is mute in the run, it starts at -infinity.

        v(0) = v0 if v0 + sum x - sum y > 0, else -inf

    A neuron that the source network silences ends there if it fired at all, so spikes that should not be are stopped;
    so are a few that should. `steps` steps (tau) on top of every run. Source: [hao2023srp].
    """

    steps: int = 4

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Residual({self.steps}) rehearses nothing", instead="Unrehearsed()")

    def start(self, v0: Tensor, theta: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        return torch.where(v0 + xs.sum(0) - ys.sum(0) > 0, v0, -torch.inf)


@spec(kw_only=False)
class COS:
    """Calibrated offset spikes: a start shifted by just what makes one spike fewer, or one more, than in rehearsal.

        residual < 0 and fired:   v(0) = v0 - max(theta, least u that fired - 0.999 theta)
        residual >= theta:        v(0) = v0 + max(theta, theta - greatest u that did not fire), if one did not
        otherwise                 v(0) = v0

    For binary neurons. `steps` steps (rho) on top of every run. The source rehearses layer after layer, each on inputs
    that are calibrated already; here the whole network rehearses once, as for `Residual`: our reconstruction. Source:
    [hao2023cos].
    """

    steps: int = 4

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"COS({self.steps}) rehearses nothing", instead="Unrehearsed()")

    def start(self, v0: Tensor, theta: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        fired, left = ys > 0, v0 + xs.cumsum(0) - ys.cumsum(0)
        least = torch.where(fired, left + ys, torch.inf).amin(0)
        greatest = torch.where(fired, -torch.inf, left).amax(0)
        early, late = (left[-1] < 0) & fired.any(0), (left[-1] >= theta) & ~fired.all(0)
        fewer = v0 - torch.maximum(theta.expand_as(least), least - 0.999 * theta)
        more = v0 + torch.maximum(theta.expand_as(least), theta - greatest)
        return torch.where(early, fewer, torch.where(late, more, v0))
