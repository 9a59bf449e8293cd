"""Randomness as a function of its place: (seed, epoch, batch). Nothing of it needs saving, so a run resumes exactly."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def number(*place: int | str) -> int:
    """A seed of 63 bits for a place, the same on every machine.

    >>> number(0, "order", 3) == number(0, "order", 3) != number(0, "order", 4)
    True
    """
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:8], "little") >> 1


def generator(*place: int | str) -> torch.Generator:
    """A generator for a place, on the CPU, so that its numbers do not depend on the device."""
    return torch.Generator().manual_seed(number(*place))


def order(samples: int, seed: int, epoch: int) -> Tensor:
    """The order of the data in an epoch: a permutation of 0..samples-1, a function of (seed, epoch)."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))


def uniform(samples: int, draws: int, seed: int, epoch: int, batch: int) -> Tensor:
    """`[samples, draws]` in [0, 1): the chance of each sample of a batch, a function of (seed, epoch, batch)."""
    return torch.rand(samples, draws, generator=generator(seed, "augment", epoch, batch))
