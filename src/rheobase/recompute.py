"""Who runs a neuron that is trained: a kernel with a gradient, or the law again when its gradient is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels import choose
from .membrane import Membrane, Tensors, differentiated
from .neuron import Emission, Neuron, begin, emissions

Sizes = tuple[int | None, ...]


def run(
    neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None, recompute: bool = True
) -> tuple[Emission, Membrane]:
    """`emissions` of the law by the first kernel that takes the run, with a gradient where one is wanted.

    A kernel with a gradient keeps nothing but the drives `[T, N, ...]` and the memory they met. recompute: where none
    has it, keep no more than that either, and run the law again backward; False keeps all that lies between.
    """
    kernel = choose(neuron, tensors, xs, m)
    if not (recompute and kernel.name == "reference" and differentiated(xs, tensors, m)):
        return kernel.run(neuron, tensors, xs, m)
    m = begin(neuron, tensors, xs, m)
    sizes = _sizes(m)
    letters, amplitude, *after = _Again.apply(neuron, sizes, xs, *tensors, *_flat(m))
    return Emission(letters, amplitude), _membrane(after, sizes)


class _Again(torch.autograd.Function):
    """Forward by any kernel without a graph; backward the law once more, with its graph."""

    @staticmethod
    def forward(ctx: Any, neuron: Neuron, sizes: Sizes, *given: Tensor | None) -> Any:
        ctx.neuron, ctx.sizes = neuron, sizes
        ctx.save_for_backward(*given)
        tensors, xs, m = _parts(given, sizes)
        emission, after = choose(neuron, tensors, xs, m).run(neuron, tensors, xs, m)
        ys = [y.clone() if any(y is t for t in given) else y for y in (*emission, *_flat(after))]
        worth = [] if neuron.threshold.graded or tensors.theta0.requires_grad else [ys[1]]
        ctx.mark_non_differentiable(*worth, *(y for y in ys if not y.is_floating_point()))
        return tuple(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        wanted = ctx.needs_input_grad[2:]
        given = [t.detach().requires_grad_(True) if w else t for t, w in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.enable_grad():
            emission, after = emissions(ctx.neuron, *_parts(given, ctx.sizes))
        ys = (*emission, *_flat(after))
        paths = [(y, g) for y, g in zip(ys, grads, strict=True) if g is not None and y.requires_grad]
        sources = [t for t, w in zip(given, wanted, strict=True) if w]
        found = torch.autograd.grad([y for y, _ in paths], sources, [g for _, g in paths], allow_unused=True)
        back = iter(found)
        return None, None, *(next(back) if w else None for w in wanted)


def _parts(given: Any, sizes: Sizes) -> tuple[Tensors, Tensor, Membrane]:
    """Tensors, drives and memory, that are one after the other in `given`: drives, tensors, memory."""
    n = 1 + len(Tensors._fields)
    return Tensors(*given[1:n]), given[0], _membrane(given[n:], sizes)


def _flat(m: Membrane) -> list[Tensor]:
    """Memory as one row of tensors."""
    return [t for part in m for t in (part if isinstance(part, tuple) else (part,))]


def _sizes(m: Membrane) -> Sizes:
    """How many tensors each part of the memory has, None where it is one."""
    return tuple(len(part) if isinstance(part, tuple) else None for part in m)


def _membrane(leaves: Any, sizes: Sizes) -> Membrane:
    """The inverse of `_flat`."""
    row = iter(leaves)
    parts: list[Any] = [next(row) if n is None else tuple(next(row) for _ in range(n)) for n in sizes]
    return Membrane(*parts)
