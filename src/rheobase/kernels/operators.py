"""The C++ operators as PyTorch knows them: loaded from the extension, with shapes to trace by and with a gradient.

They check nothing: `rheobase.kernels.cpu` gives them dense float32 tensors on the CPU.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

SETS = ("plain", "AVX2", "AVX-512")


def _load() -> str:
    """Load the operators; why there are none, or an empty string."""
    found = find_spec("rheobase.kernels._cpu")
    if found is None or found.origin is None:
        return "the C++ kernels were not built: pip install --no-build-isolation, with a compiler and torch installed"
    try:
        torch.ops.load_library(found.origin)
    except OSError as error:
        return f"the C++ kernels do not load: {str(error).splitlines()[0]}"
    return ""


MISSING = _load()


def instruction_set(name: str | None = None) -> str:
    """The instructions in use, "plain", "AVX2" or "AVX-512"; `name` chooses less than the best, for tests."""
    return SETS[torch.ops.rheobase.instruction_set(SETS.index(name) if name else -1)]


def laid(t: Tensor, like: Tensor) -> Tensor:
    """`t`, of the shape of `like`, in memory order of `like` without gaps; a copy only where it is not so already."""
    strides = dense(like)
    if all(n == 1 or a == b for n, a, b in zip(t.shape, t.stride(), strides, strict=True)) and t.dtype == torch.float32:
        return t
    return torch.empty_strided(t.shape, strides).copy_(t)


def dense(x: Tensor) -> tuple[int, ...]:
    """The strides of `x` whose first axis is made to follow the others without gaps."""
    return (x[0].numel(), *x.stride()[1:])


def _forward_fake(xs: Tensor, v: Tensor, *law: Any) -> tuple[Tensor, Tensor]:
    return xs.new_empty_strided(xs.shape, dense(xs)), xs.new_empty_strided(xs.shape[1:], xs.stride()[1:])


def _backward_fake(letters: Any, after: Any, by_theta: bool, xs: Tensor, v: Tensor, theta: Tensor, *law: Any) -> Any:
    to_theta = torch.empty_like(theta) if by_theta else theta.new_empty(0)
    return *_forward_fake(xs, v), to_theta, theta.new_empty(0 if law[0] is None else 1)


class Differentiable(torch.autograd.Function):
    """`neuron_forward` with its gradient, without the detour of each call through the dispatcher in Python."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        return torch.ops.rheobase.neuron_forward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:4])
        ctx.law = inputs[4:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        xs, v, theta, share = ctx.saved_tensors
        arrived = [None if g is None else laid(g, like) for g, like in zip(grads, (xs, v), strict=True)]
        by_theta = ctx.needs_input_grad[2]
        found = torch.ops.rheobase.neuron_backward(*arrived, by_theta, xs, v, theta, share, *ctx.law)
        to_xs, to_v, to_theta, to_share = found
        row = to_xs, to_v, to_theta if by_theta else None, None if share is None else to_share.reshape(share.shape)
        return *row, *(None for _ in ctx.law)


def _once(ctx: Any, *grads: Any) -> Any:
    raise NotImplementedError("the gradient of a spiking neuron has no gradient of its own")


def _register() -> None:
    lib = torch.library
    lib.register_fake("rheobase::neuron", lambda *args: None)
    lib.register_fake("rheobase::event_conv", lambda *args: None)
    lib.register_fake("rheobase::neuron_forward", _forward_fake)
    lib.register_fake("rheobase::neuron_backward", _backward_fake)
    known = Differentiable
    lib.register_autograd("rheobase::neuron_forward", known.backward, setup_context=known.setup_context)
    lib.register_autograd("rheobase::neuron_backward", _once)


if not MISSING:
    _register()
