"""Where letters lie best for activations that are many near zero and few far from it: Lloyd's quantiser."""

from __future__ import annotations

import math
from functools import cache

import torch

SHAPE = 1.5
"""The density of activations is taken as exp(-x^SHAPE): between that of Laplace, 1, and the normal one, 2."""
CLOSE = 1e-7
"""A letter has arrived when a sweep moves none by more than this."""


@cache
def lloyd(k: int) -> tuple[float, ...]:
    """The k letters beside 0 of least squared error for the density `exp(-x^1.5)`, x >= 0, ascending, the first is 1.

        letter_i = integral of x p over its cell / integral of p over it,    cells end half way between letters,

    until no letter moves, each then rounded to a quarter of the first. Both integrals are incomplete gamma functions.
    Source: [lloyd1982least].

    >>> lloyd(3)
    (1.0, 2.25, 4.0)
    """
    letters = torch.linspace(0, 3, k + 1, dtype=torch.float64)
    orders = torch.tensor([[1 / SHAPE], [2 / SHAPE]], dtype=torch.float64)
    ends = torch.tensor([0.0, math.inf], dtype=torch.float64)
    while True:
        cuts = torch.cat([ends[:1], (letters[1:] + letters[:-1]) / 2, ends[1:]])
        below = torch.special.gammainc(orders, cuts**SHAPE) * torch.lgamma(orders).exp()
        mass, moment = below.diff()
        moved = moment / mass
        moved[0] = 0.0
        if (moved - letters).abs().max() < CLOSE:
            break
        letters = moved
    return tuple(round(4 * float(letter / letters[1])) / 4 for letter in letters[1:])
