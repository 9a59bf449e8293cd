"""A stage: all that drives one spiking layer, and its neurons, T steps in one pass; the drives never reach memory.

Letters are whole numbers, int8 `[N, T, H, W, C]`, channels last; a vector is a map of one place. A term is one of the
things that drive the layer, packed for the C++ kernel that computes it. The neurons take every step as `cpu` does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..membrane import Membrane, Tensors
from ..neuron import Neuron
from .fixed import share
from .law import law, rule
from .term import CURRENT, Term


class Letters(NamedTuple):
    """Letters of T steps: `unit * data`, data int8 `[N, T, H, W, C]`; 1 / unit is a float32, as of any window."""

    data: Tensor
    unit: float

    def real(self, shape: tuple[int, ...]) -> Tensor:
        """The same as floats `[T, N, *shape]`, channels last in memory."""
        seen = self.data.transpose(0, 1)
        xs = torch.empty(seen.shape, device=seen.device).copy_(seen).permute(0, 1, 4, 2, 3)
        return (xs if self.unit == 1 else xs.div_(1 / self.unit)).reshape(*xs.shape[:2], *shape)

    @classmethod
    def of(cls, xs: Tensor, unit: float) -> Letters:
        """Of floats `[T, N, C]`, `[T, N, C, L]` or `[T, N, C, H, W]` that are whole multiples of the unit."""
        seen = last(xs).transpose(0, 1)
        return cls((seen if unit == 1 else (seen / unit).round_()).to(torch.int8).contiguous(), unit)


def last(xs: Tensor) -> Tensor:
    """`[T, N, C]`, `[T, N, C, L]` or `[T, N, C, H, W]` seen as `[T, N, H, W, C]`."""
    height, width, channels = maps(tuple(xs.shape[2:]))
    return xs.reshape(*xs.shape[:2], channels, height, width).permute(0, 1, 3, 4, 2)


class Prepared:
    """A stage with all that its runs have in common, as the operator wants it: a run has microseconds.

    operator: `Engine.stage`. terms: what drives it. shape: of the layer, `[C, H, W]` or `[C]`.
    """

    def __init__(
        self,
        operator: Callable[..., None],
        terms: list[Term],
        neuron: Neuron,
        tensors: Tensors,
        shape: tuple[int, ...],
    ) -> None:
        none = torch.empty(0)
        self._operator = operator
        self._current, self._shape, self._unit = terms[0].kind == CURRENT, shape, neuron.alphabet.unit
        self._remembers = tuple(bool(part.born(none)) for part in (neuron.threshold, neuron.gate))
        self._start = _spread(tensors.v0, shape)
        self._correction = None if tensors.bias is None else _rows(tensors.bias, shape)
        self._fixed = (
            [part for term in terms for part in term.tensors],
            [number for term in terms for number in term.numbers],
            _spread(tensors.theta0, shape),
            share(neuron, tensors),
            1 / self._unit,
            *rule(neuron),
            *law(neuron),
        )

    def run(
        self, reads: list[Tensor], m: Membrane | None, steps: int, empty: Callable[..., Tensor] = torch.empty
    ) -> tuple[Letters, Membrane]:
        """The letters of T steps and the memory after them.

        reads: what each term reads, letters `[N, T, H, W, C]` or a current `[T, N, H, W, C]`. m: the memory before,
        None at birth. empty: where memory for tensors comes from.
        """
        height, width, channels = maps(self._shape)
        samples, t = reads[0].shape[self._current], 0 if m is None else int(m.t)
        empty = partial(empty, device=reads[0].device)
        letters = empty((samples, steps, height, width, channels), dtype=torch.int8)
        v, total, sent = self._memory(m, (samples, height, width, channels), empty)
        correction = None if self._correction is None or t >= len(self._correction) else self._correction[t:]
        self._operator(
            reads,
            letters,
            v,
            total,
            sent,
            self._start if m is None else None,
            correction,
            t,
            *self._fixed,
        )
        own = (() if part is None else (_first(part, self._shape),) for part in (total, sent))
        return Letters(letters, self._unit), Membrane(_first(v, self._shape), torch.tensor(t + steps), *own)

    def _memory(
        self, m: Membrane | None, size: tuple[int, ...], empty: Callable[..., Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Potential, what the threshold and what the gate remember, channels last: copies, or room for a newborn's."""
        if m is None:
            total, sent = (empty(size) if has else None for has in self._remembers)
            return empty(size), total, sent

        def last(part: Tensor) -> Tensor:
            return empty(size).copy_(part.reshape(size[0], size[3], *size[1:3]).permute(0, 2, 3, 1))

        total, sent = (last(part[0]) if part else None for part in (m.threshold, m.gate))
        return last(m.v), total, sent


def maps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (H, W, C) of a layer `[C, H, W]`, `[C, L]` or `[C]` as a map with its channels last."""
    height, width = (1, 1, *shape[1:])[-2:]
    return height, width, shape[0]


def _first(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same memory seen as the network keeps it."""
    return part.permute(0, 3, 1, 2).reshape(len(part), *shape)


def _spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One number, one for each channel, or one for each neuron with the channels last."""
    values = values.detach().float()
    if values.numel() == 1:
        return values.reshape(1)
    values = values.reshape(values.shape[-len(shape) :])
    if values.ndim == len(shape) and values.shape[1:].numel() == 1:
        return values.reshape(-1)
    return values.expand(shape).movedim(0, -1).reshape(-1).contiguous()


def _rows(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The correction of each step `[steps, C]`."""
    return of_places(bias.detach().float(), shape)[:, :, 0].contiguous()


def of_places(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A correction, that broadcasts against a layer of that shape at each step, as `[steps, C, places]`."""
    rows = bias.reshape(len(bias), *(1,) * (len(shape) + 1 - bias.ndim), *bias.shape[1:])
    return rows.expand(len(bias), *shape).reshape(len(bias), shape[0], -1)
