"""Where the membrane starts: v0, fitted once."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .spec import spec


class InitialPotential(Protocol):
    """`v0 = initial.fit(theta, shape, generator)` for the threshold at rest and the neuron shape without batch."""

    def fit(self, theta: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor: ...


@spec
class Zero:
    """`v0 = 0`: expected error -theta / (2 T), mean squared error 4 (theta / T)^2 / 12 at constant drive."""

    def fit(self, theta: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.zeros_like(theta)


@spec
class Half:
    """OPI: `v0 = theta / 2`: expected error 0, and the least mean squared error, (theta / T)^2 / 12, at constant drive.

    Applied once, not at each step, and to whatever threshold the method has at rest. Source: [bu2022opi].
    """

    def fit(self, theta: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return theta / 2


@spec
class Matched:
    """The start of each channel at which it sends as much on average as the activation, after all steps:

        E[unit * clip(floor(u / unit + v0 / unit), 0, levels)] = E[a],    unit = theta / T

    for the mean drive u of a step that comes evenly, on inputs that are staircases already. Before the walk through the
    layers, and for activations of both signs, it is `Half`. The levels are those of the scale. Ours; what a bias per
    channel [li2021calibration] does at each step is done once, before the first.
    """

    def fit(self, theta: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return theta / 2


@spec
class Uniform:
    """`v0 ~ U[0, theta)`, a draw per neuron: expected error 0, mean squared error 2 (theta / T)^2 / 12. An ablation."""

    def fit(self, theta: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return theta * torch.rand(shape, generator=generator, dtype=theta.dtype).to(theta.device)
