"""Triton kernels for GPUs: a neuron with a fixed threshold, forward and back, drives in float32, bfloat16 or float16.

Potentials and the sums of gradients are float32. Letters, and their gradients, are of the dtype of the drives where
each letter is a number of it and no threshold is learned: who reads them has less to read and nothing to convert.
Divisions are rounded as the law rounds them and nothing is fused, so letters are those of the reference; exponentials
of surrogates are the GPU's own. With TRITON_INTERPRET=1 the programs run on the CPU, slowly, where they are asked for
by name: that is how they are tested without a GPU.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..membrane import Membrane, Tensors, differentiated
from ..neuron import Emission, Neuron, drives
from ..reset import Subtract, ToValue
from . import fixed
from .fixed import dense, laid
from .law import CHARGES
from .named import asked

MISSING = "" if find_spec("triton") else "Triton is not installed: pip install 'rheobase[gpu]'"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1024


def declines(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> str:
    """Why Triton does not run a neuron on such drives, or an empty string if it does."""
    if MISSING:
        return MISSING
    if why := unknown(neuron):
        return why
    if xs is None or tensors is None:
        return ""
    if not reaches(xs) or xs.dtype not in DTYPES:
        return f"it runs floats of 32 and 16 bits on a GPU, not {xs.dtype} on {xs.device.type}"
    return fixed.does_not_fit(tensors, xs, m) or (
        fixed.has_no_gradient(neuron) if differentiated(xs, tensors, m) else ""
    )


def reaches(t: Tensor) -> bool:
    """Whether a program can be run where `t` is."""
    return t.device.type == "cuda" or (os.environ.get("TRITON_INTERPRET", "0") == "1" and asked() == "triton")


def unknown(neuron: Neuron) -> str:
    """What of a neuron Triton knows in no run, or an empty string."""
    if why := fixed.moves(neuron):
        return why
    if type(neuron.leak) not in CHARGES or not isinstance(neuron.reset, (Subtract, ToValue)):
        return "it knows no such leak or reset"
    cascade = neuron.alphabet.greedy and not neuron.alphabet.counts
    return "it knows no cascade whose letters are no count" if cascade else ""


def run(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Emission, Membrane]:
    """`emissions` of the law in one pass over `xs` `[T, N, ...]`, with a gradient where one is wanted."""
    wanted = differentiated(xs, tensors, m)
    m = fixed.begin(neuron, tensors, xs, m)
    xs = drives(neuron, tensors, xs, m.t)
    gate = tuple(torch.empty_strided(part.shape, dense(xs)[1:], device=xs.device).copy_(part) for part in m.gate)
    passes = PASSES._replace(forward=partial(_forward, sent=gate[0])) if gate else PASSES
    return fixed.run(passes, neuron, tensors, xs, m._replace(gate=gate), wanted)


def _forward(
    xs: Tensor, v: Tensor, theta: Tensor, share: Tensor | None, *numbers: Any, sent: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    v = laid(v, xs[0])
    sizes, known = arguments(xs, theta, numbers)
    given = xs, v, theta, theta if share is None else share, v if sent is None else sent
    dtype = torch.float32 if theta.requires_grad else _narrowest(xs.dtype, known["HEIGHTS"])
    letters, after = _like(xs, dtype), torch.empty_like(v)
    with torch.cuda.device_of(xs):
        _programs().forward[_grid(v)](*given, letters, after, *sizes, GATED=sent is not None, **known)
    return letters, after


def _backward(
    letters: Tensor | None, after: Tensor | None, by_v: bool, by_theta: bool, xs: Tensor, v: Tensor, theta: Tensor,
    share: Tensor | None, *numbers: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    v = laid(v, xs[0])
    before, (to_v, to_theta, to_share) = _like(xs), (torch.empty_like(v) for _ in range(3))
    to_xs = before if xs.dtype == torch.float32 else _like(xs, xs.dtype)
    arrived = v if letters is None else letters, v if after is None else after
    given = *arrived, xs, v, theta, theta if share is None else share
    sizes, known = backward_arguments(xs, theta, numbers, letters is not None, after is not None)
    with torch.cuda.device_of(xs):
        _programs().backward[_grid(v)](*given, before, to_xs, to_v, to_theta, to_share, *sizes, **known)
    summed = to_theta.sum() if theta.numel() == 1 else to_theta.sum(0, keepdim=True)
    return to_xs, to_v, summed.reshape(theta.shape) if by_theta else theta, to_share.sum()


PASSES = fixed.Passes(_forward, _backward)


def _programs() -> Any:
    from . import gpu

    return gpu


def _like(xs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory for `[T, N, ...]` in the order of `xs`, without gaps."""
    return torch.empty_strided(xs.shape, dense(xs), dtype=dtype, device=xs.device)


@lru_cache(maxsize=256)
def _narrowest(dtype: torch.dtype, heights: tuple[float, ...]) -> torch.dtype:
    """The dtype of drives if every letter is a number of it, else float32."""
    letters = torch.tensor([0.0, *heights], dtype=torch.float64).cumsum(0)
    return dtype if torch.equal(letters.to(dtype).double(), letters) else torch.float32


def _grid(v: Tensor) -> tuple[int]:
    return (-(-v.numel() // BLOCK),)


Known = dict[str, Any]


def arguments(xs: Tensor, theta: Tensor, numbers: tuple[Any, ...]) -> tuple[tuple[Any, ...], Known]:
    """What both programs take: sizes and numbers, and what is known when they are compiled."""
    kind, leak, rest, letters, levels, heights, signed, floored, hard, value, at = numbers[:11]
    known = {"CHARGE": kind, "KIND": letters, "LEVELS": tuple(levels), "HEIGHTS": tuple(heights), "SIGNED": signed}
    known |= {"FLOORED": floored, "HARD": hard, "AT": at, "BLOCK": BLOCK, "enable_fp_fusion": False}
    return (len(xs), xs.stride(0), xs[0].numel(), theta.numel(), leak, rest, value), known


def backward_arguments(
    xs: Tensor, theta: Tensor, numbers: tuple[Any, ...], by_letters: bool = True, by_after: bool = True
) -> tuple[tuple[Any, ...], Known]:
    """The same for the way back; which gradients arrive there."""
    sizes, known = arguments(xs, theta, numbers)
    parts, detached, hit, surrogate, widths = numbers[-5:]
    known |= {"PARTS": tuple(parts), "DETACHED": detached, "HIT": hit, "SURROGATE": surrogate}
    known |= {"A": widths[0], "B": widths[-1], "LETTERS_GIVEN": by_letters, "AFTER_GIVEN": by_after}
    return sizes, known
