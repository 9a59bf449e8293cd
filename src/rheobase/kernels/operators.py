"""The C++ operators as PyTorch knows them: loaded from the extension, with shapes to trace by and with a gradient.

They check nothing: `rheobase.kernels.cpu` and `events` give them float32 tensors on the CPU, as they ask for them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .fixed import Differentiable, Passes, dense
from .room import ROOM

LAW = 11
"""How many of the numbers are those of the law; the others are of its gradient."""
SETS = ("plain", "AVX2", "AVX-512", "AVX-512 VNNI")


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
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
"""By drives, potential at birth, threshold and share of the way."""


def instruction_set(name: str | None = None) -> str:
    """The instructions in use, one of `SETS`; `name` chooses less than the best, for tests."""
    return SETS[torch.ops.rheobase.instruction_set(SETS.index(name) if name else -1)]


def _forward_fake(xs: Tensor, v: Tensor, *law: Any) -> tuple[Tensor, Tensor]:
    return xs.new_empty_strided(xs.shape, dense(xs)), xs.new_empty_strided(xs.shape[1:], xs.stride()[1:])


def _backward_fake(
    letters: Any, after: Any, by_v: bool, by_theta: bool, xs: Tensor, v: Tensor, theta: Tensor, *law: Any
) -> Any:
    to_xs, to_v = _forward_fake(xs, v)
    to_theta = torch.empty_like(theta) if by_theta else theta.new_empty(0)
    return to_xs, to_v if by_v else theta.new_empty(0), to_theta, theta.new_empty(0 if law[0] is None else 1)


def _forward(xs: Tensor, v: Tensor, theta: Tensor, share: Tensor | None, *numbers: Any) -> tuple[Tensor, Tensor]:
    """The operator `neuron_forward`, in memory that is used again."""
    if torch.compiler.is_compiling():
        return torch.ops.rheobase.neuron_forward(xs, v, theta, share, *numbers)
    layout, fixed = dense(xs), (0, 0, [1.0], False)
    letters, after = ROOM.strided(xs.shape, layout), ROOM.strided(v.shape, layout[1:])
    torch.ops.rheobase.neuron(xs, v, after, None, None, letters, None, theta, share, *fixed, *numbers[:LAW])
    return letters, after


def _walked(letters: Tensor | None, after: Tensor | None, by_v: bool, by_theta: bool, *inputs: Any) -> Gradients:
    """The operator `neuron_backward`, in memory that is used again; a gradient of it is asked of the operator."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return torch.ops.rheobase.neuron_backward(letters, after, by_v, by_theta, *inputs)
    (xs, v, theta, share), numbers = inputs[:4], inputs[4:]
    layout = dense(xs)
    to_xs = ROOM.strided(xs.shape, layout)
    to_v = ROOM.strided(v.shape, layout[1:]) if by_v else None
    to_theta = torch.empty_like(theta) if by_theta else None
    to_share = None if share is None else theta.new_empty(1)
    torch.ops.rheobase.neuron_back(letters, after, xs, v, theta, share, to_xs, to_v, to_theta, to_share, *numbers)
    to_v, to_theta, to_share = (theta.new_empty(0) if found is None else found for found in (to_v, to_theta, to_share))
    return to_xs, to_v, to_theta, to_share


PASSES = Passes(_forward, _walked)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    Differentiable.setup_context(ctx, (PASSES, inputs[4:], *inputs[:4]), output)


def _backward(ctx: Any, *grads: Tensor | None) -> Any:
    return *Differentiable.backward(ctx, *grads)[2:], *(None for _ in ctx.numbers)


def _once(ctx: Any, *grads: Any) -> Any:
    raise NotImplementedError("the gradient of a spiking neuron has no gradient of its own")


def _register() -> None:
    lib = torch.library
    lib.register_fake("rheobase::neuron", lambda *args: None)
    lib.register_fake("rheobase::neuron_back", lambda *args: None)
    lib.register_fake("rheobase::event_conv", lambda *args: None)
    lib.register_fake("rheobase::event_conv_weight", lambda *args: None)
    lib.register_fake("rheobase::stage", lambda *args: None)
    lib.register_fake("rheobase::pool", lambda *args: None)
    lib.register_fake("rheobase::neuron_forward", _forward_fake)
    lib.register_fake("rheobase::neuron_backward", _backward_fake)
    lib.register_autograd("rheobase::neuron_forward", _backward, setup_context=_keep)
    lib.register_autograd("rheobase::neuron_backward", _once)


if not MISSING:
    _register()
