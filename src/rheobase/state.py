"""What a run over time begins with, carries from step to step, shows of itself, and answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import InputError
from .graph import Node
from .neuron import Emission


class State(NamedTuple):
    """What a network remembers: steps done, the memory of each stateful node, the sum of its outputs so far."""

    t: int
    memory: dict[str, Any]
    total: Any

    def of(self, samples: Tensor) -> State:
        """The state of some samples, by a mask or by their indices."""
        return State(self.t, _of(self.memory, samples), _of(self.total, samples))


def taken_apart(state: State | None) -> tuple[State | None, dict[str, Any]]:
    """A state without its memory, and the memory, to be taken out node by node."""
    return (None, {}) if state is None else (state._replace(memory={}), dict(state.memory))


def _of(value: Any, samples: Tensor) -> Any:
    """The same structure with these samples; what is no tensor of samples stays."""
    if isinstance(value, Tensor):
        return value[samples.to(value.device)] if value.ndim else value
    if isinstance(value, dict):
        return {name: _of(part, samples) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_of(part, samples) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


class Visit(NamedTuple):
    """What a visitor sees of one node over T steps from `start`: inputs, output `[T, N, ...]`, emission of neurons."""

    start: int
    node: Node
    xs: list[Tensor]
    ys: Tensor
    emission: Emission | None
    memory: Any


def constant(x: Tensor, steps: int) -> Tensor:
    """Constant coding: `x` `[N, ...]` at every step, `[steps, N, ...]`, without a copy."""
    if not isinstance(steps, int) or steps < 1:
        raise InputError(
            f"steps={steps!r} is no number of time steps",
            why="a spiking network needs at least one step to answer",
            instead="steps=8",
        )
    return x.unsqueeze(0).expand(steps, *x.shape)


def means(ys: Tensor, total: Tensor | None, t: int) -> tuple[Tensor, Tensor]:
    """The mean up to each step of `ys` behind t steps that sum up to `total`, and the sum behind the last."""
    means = []
    for done, y in enumerate(ys.unbind(0), t + 1):
        total = y if total is None else total + y
        means.append(total / done)
    assert total is not None
    return torch.stack(means), total
