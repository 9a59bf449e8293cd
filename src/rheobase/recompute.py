"""Backpropagation through time that keeps a neuron's drives only, and runs it again when its gradient is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels import choose
from .membrane import Membrane, Tensors
from .neuron import Emission, Neuron, begin, emissions


def run(
    neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None, recompute: bool = True
) -> tuple[Emission, Membrane]:
    """`emissions` of the law by the first kernel that takes the run, with a gradient where one is wanted.

    recompute: keep nothing but the drives `[T, N, ...]` and the memory they met; backward, run the law again, on the
    same drives. The gradient is that of recompute=False, which keeps the values between of every step and layer.
    """
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (xs, *tensors, *_leaves(m)))
    if not (recompute and wanted):
        return choose(neuron, tensors, xs).run(neuron, tensors, xs, m)
    m = begin(neuron, tensors, xs, m)
    leaves = len(m.threshold), len(m.gate)
    letters, amplitude, *after = _Again.apply(neuron, leaves, xs, *tensors, *_leaves(m))
    return Emission(letters, amplitude), _membrane(after, leaves)


class _Again(torch.autograd.Function):
    """Forward by any kernel without a graph; backward the law once more, with its graph."""

    @staticmethod
    def forward(ctx: Any, neuron: Neuron, leaves: tuple[int, int], *given: Tensor | None) -> Any:
        ctx.neuron, ctx.leaves = neuron, leaves
        ctx.save_for_backward(*given)
        tensors, xs, m = _parts(given, leaves)
        emission, after = choose(neuron, tensors, xs).run(neuron, tensors, xs, m)
        ctx.mark_non_differentiable(after.t)
        return tuple(y.clone() if any(y is t for t in given) else y for y in (*emission, *_leaves(after)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        wanted = ctx.needs_input_grad[2:]
        given = [t.detach().requires_grad_(True) if w else t for t, w in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.enable_grad():
            emission, after = emissions(ctx.neuron, *_parts(given, ctx.leaves))
        ys = (*emission, *_leaves(after))
        paths = [(y, g) for y, g in zip(ys, grads, strict=True) if g is not None and y.requires_grad]
        sources = [t for t, w in zip(given, wanted, strict=True) if w]
        found = torch.autograd.grad([y for y, _ in paths], sources, [g for _, g in paths], allow_unused=True)
        back = iter(found)
        return None, None, *(next(back) if w else None for w in wanted)


def _parts(given: Any, leaves: tuple[int, int]) -> tuple[Tensors, Tensor, Membrane]:
    """Tensors, drives and memory, that are one after the other in `given`: drives, tensors, memory."""
    n = 1 + len(Tensors._fields)
    return Tensors(*given[1:n]), given[0], _membrane(given[n:], leaves)


def _leaves(m: Membrane | None) -> tuple[Tensor, ...]:
    """Memory as one row of tensors."""
    return () if m is None else (m.v, m.t, *m.threshold, *m.gate, *m.link)


def _membrane(leaves: Any, parts: tuple[int, int]) -> Membrane:
    """The inverse of `_leaves`; parts: how many of them belong to the threshold rule, and how many to the gate."""
    (v, t, *rest), (threshold, gate) = leaves, parts
    return Membrane(v, t, tuple(rest[:threshold]), tuple(rest[threshold:][:gate]), tuple(rest[threshold + gate :]))
