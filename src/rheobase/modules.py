"""Activations to train a network with that converts without loss: the learnable clip and QCFS."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spec import require


class _Bounded(nn.Module):
    """A learnable bound lambda, positive whatever the optimiser does: `lambda = LEAST + softplus(raw)`."""

    LEAST = 1e-6

    def __init__(self, bound: float) -> None:
        super().__init__()
        require(
            bound > self.LEAST, f"a bound of {bound} leaves no activation", why=f"lambda is kept above {self.LEAST}"
        )
        raw = torch.tensor(float(bound) - self.LEAST, dtype=torch.float64)
        self.raw = nn.Parameter((raw + torch.log(-torch.expm1(-raw))).to(torch.get_default_dtype()))

    @property
    def bound(self) -> Tensor:
        """lambda, a positive scalar in the unit of the activation."""
        return self.LEAST + F.softplus(self.raw)

    def extra_repr(self) -> str:
        return f"bound={self.bound.item():.4g}"


class Clip(_Bounded):
    """`a = clip(z, 0, lambda) = lambda - relu(lambda - relu(z))`, lambda learned with the weights, one a layer.

    `da/dz = 1` on 0 < z < lambda; `da/dlambda` sums over the elements with z >= lambda. A network trained with it
    converts with theta0 = lambda. Any shape. Source: trainable clipping as in [bu2022opi], [ho2021tcl].

    >>> [round(a, 3) for a in Clip(2.0)(torch.tensor([-1.0, 1.0, 3.0])).tolist()]
    [0.0, 1.0, 2.0]
    """

    def __init__(self, bound: float = 4.0) -> None:
        super().__init__(bound)

    def forward(self, z: Tensor) -> Tensor:
        return self.bound - F.relu(self.bound - F.relu(z))


class QCFS(_Bounded):
    """`a = lambda * clip(floor(z L / lambda + 1/2) / L, 0, 1)`: quantise, clip, floor and shift, lambda learned.

    The floor passes its gradient straight through. With theta0 = lambda and v0 = lambda / 2 an IF neuron computes this
    function with L = T at constant drive. Any shape. Source: [bu2022qcfs].

    >>> [round(a, 3) for a in QCFS(levels=4, bound=1.0)(torch.tensor([0.1, 0.2, 0.9, 3.0])).tolist()]
    [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(self, levels: int = 4, bound: float = 8.0) -> None:
        super().__init__(bound)
        require(levels >= 1, f"QCFS(levels={levels}) has no level")
        self.levels = levels

    def forward(self, z: Tensor) -> Tensor:
        r = (z / self.bound).clamp(0, 1) * self.levels
        staircase = r + (torch.floor(r + 0.5) - r).detach()
        return staircase * (self.bound / self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, {super().extra_repr()}"
