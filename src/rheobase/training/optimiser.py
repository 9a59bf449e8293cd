"""The optimisers, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..spec import require, spec


class Optimiser(Protocol):
    """A choice of optimiser: its rate, and the torch optimiser it makes for a network."""

    @property
    def rate(self) -> float: ...
    def made(self, net: nn.Module) -> torch.optim.Optimizer: ...


@spec
class AdamW:
    """Adam with decoupled weight decay. rate: before the schedule. decay: of weights only, see `groups`."""

    rate: float = 1e-3
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        require(self.rate > 0 and self.decay >= 0, f"rate={self.rate}, decay={self.decay} train nothing")

    def made(self, net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups(net, self.decay), self.rate, self.betas)


@spec
class SGD:
    """Stochastic gradient descent with momentum. decay: of weights only, see `groups`."""

    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    nesterov: bool = True

    def __post_init__(self) -> None:
        require(self.rate > 0 and self.decay >= 0, f"rate={self.rate}, decay={self.decay} train nothing")

    def made(self, net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups(net, self.decay), self.rate, self.momentum, nesterov=self.nesterov)


def groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions and linear maps decay; biases, norms, thresholds and leaks do not."""
    trained = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers, by parameter number and name: `0.exp_avg`."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore(optimiser: torch.optim.Optimizer, found: Mapping[str, Tensor]) -> None:
    """Give an optimiser what `tensors` wrote."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in found.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
