"""A run with a fixed threshold, whose gradient some kernels have: what they ask of it, and its place in autograd."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..gate import Open, SentCharge, Wait
from ..leak import LearnedDecay
from ..link import Rate
from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron, born, fits
from ..threshold import Fixed
from .law import SURROGATES, law, slope


class Passes(NamedTuple):
    """Both ways through T steps, in the signatures of the operators `neuron_forward` and `neuron_backward`.

    forward(xs, v, theta, share, *numbers) -> letters, v'
    backward(by letters, by v', v wanted, theta wanted, xs, v, theta, share, *numbers)
        -> by xs, by v, by theta, by share

    v lies as `xs[0]` does, or is one number expanded.
    """

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


class Differentiable(torch.autograd.Function):
    """The forward pass with its gradient; it keeps the drives and the potentials at birth, and nothing else."""

    @staticmethod
    def forward(
        passes: Passes, numbers: tuple[Any, ...], xs: Tensor, v: Tensor, theta: Tensor, share: Tensor | None
    ) -> Any:
        return passes.forward(xs, v, theta, share, *numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.passes, ctx.numbers, *saved = inputs
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        xs, v, theta, share = ctx.saved_tensors
        arrived = [None if g is None else laid(g, like, g.dtype) for g, like in zip(grads, (xs, xs[0]), strict=True)]
        wanted = v.requires_grad, theta.requires_grad
        found = ctx.passes.backward(*arrived, *wanted, xs, v, theta, share, *ctx.numbers)
        to_xs, *others, to_share = found
        by_v, by_theta = (to if asked else None for to, asked in zip(others, wanted, strict=True))
        by_share = None if share is None else to_share.reshape(share.shape)
        return None, None, to_xs, by_v, by_theta, by_share


Differentiable.forward.__signature__ = inspect.signature(Differentiable.forward)  # asked for at every call


def run(
    passes: Passes, neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane, differentiated: bool
) -> tuple[Emission, Membrane]:
    """A run over drives `xs` `[T, N, ...]` as the neuron meets them, from the memory `m`."""
    worth = neuron.threshold.rest(tensors.theta0.float())
    given = xs, potentials(m.v, xs), per_sample(worth, xs), share(neuron, tensors)
    numbers = law(neuron) + slope(neuron)
    forward = Differentiable.apply if differentiated else Differentiable.forward
    letters, after = forward(passes, numbers, *given)
    return Emission(letters, worth), m._replace(v=after, t=m.t + len(xs))


def begin(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> Membrane:
    """`rheobase.neuron.begin` with a potential at birth that takes no memory: `Tensors.v0`, expanded."""
    fits(neuron, xs, m)
    return born(neuron, tensors.v0.float().expand(xs.shape[1:])) if m is None else m


def has_no_gradient(neuron: Neuron) -> str:
    """Why the gradient of a neuron is not one of these, or an empty string if it is."""
    if neuron.surrogate is None:
        return "it has no gradient without a surrogate"
    if type(neuron.surrogate) not in SURROGATES:
        return f"it has no gradient by {type(neuron.surrogate).__name__}"
    if not isinstance(neuron.threshold, Fixed):
        return f"it has no gradient of {type(neuron.threshold).__name__}"
    if not isinstance(neuron.gate, (Open, Wait)):
        return f"it has no gradient through {type(neuron.gate).__name__}"
    return ""


def moves(neuron: Neuron) -> str:
    """Why a neuron is none of a fixed threshold, a gate for whole letters and a rate, or an empty string if it is."""
    if not isinstance(neuron.threshold, Fixed):
        return f"it knows no {type(neuron.threshold).__name__} threshold"
    if not isinstance(neuron.gate, (Open, SentCharge, Wait)) or not isinstance(neuron.link, Rate):
        return "it knows no such gate or link"
    if isinstance(neuron.gate, SentCharge) and neuron.gate.letters:
        return "it takes back whole letters only"
    return ""


def does_not_fit(tensors: Tensors, xs: Tensor, m: Membrane | None) -> str:
    """Why a kernel that goes through memory neuron by neuron does not take such a run, or an empty string."""
    if m is not None and m.v.dtype != torch.float32:
        return f"it keeps potentials in float32, not {m.v.dtype}"
    if not _lies_dense(xs):
        return "the drives are not dense in memory"
    if tensors.theta0.ndim >= xs.ndim - 1 and tensors.theta0.shape[0] != 1:
        return "its thresholds differ from sample to sample"
    if tensors.leak is not None and tensors.leak.numel() != 1:
        return "it knows one learned leak a layer"
    return ""


def _lies_dense(xs: Tensor) -> bool:
    """Whether the samples of a step of `xs` `[T, N, ...]` lie one after the other without gaps, in whatever order."""
    if xs.is_contiguous():
        return True
    shape, strides, expected = xs.shape[1:], xs.stride()[1:], 1
    inner = sorted((stride, n) for stride, n in zip(strides[1:], shape[1:], strict=True) if n > 1)
    for stride, n in inner:
        if stride != expected:
            return False
        expected *= n
    return shape[0] == 1 or strides[0] == expected


def dense(x: Tensor) -> tuple[int, ...]:
    """The strides of `x` whose first axis is made to follow the others without gaps."""
    return (math.prod(x.shape[1:]), *x.stride()[1:])


def laid(t: Tensor, like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """`t`, of the shape of `like`, in its memory order without gaps; a copy only where it is not so."""
    strides = dense(like)
    if t.dtype == dtype and all(n == 1 or a == b for n, a, b in zip(t.shape, t.stride(), strides, strict=True)):
        return t
    return torch.empty_strided(t.shape, strides, dtype=dtype, device=t.device).copy_(t)


def potentials(v: Tensor, xs: Tensor) -> Tensor:
    """Potentials at birth in the order in which a step of `xs` lies in memory, or one number expanded, as it is."""
    one = v.dtype == torch.float32 and not any(v.stride())
    return v if one else laid(v, xs[0])


def per_sample(theta: Tensor, xs: Tensor) -> Tensor:
    """One threshold, or one for each neuron in the order in which a sample of `xs` lies in memory."""
    return theta if theta.numel() == 1 else laid(theta.expand(1, *xs.shape[2:]), xs[0, :1])


def share(neuron: Neuron, tensors: Tensors) -> Tensor | None:
    """Which share of the way to its drive a potential goes, where that is learned."""
    if not isinstance(neuron.leak, LearnedDecay):
        return None
    assert tensors.leak is not None, "a learned leak needs Tensors.leak"
    return torch.sigmoid(tensors.leak.float())
