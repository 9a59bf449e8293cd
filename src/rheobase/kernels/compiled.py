"""The law through `torch.compile`: every device that PyTorch compiles for, every dtype, with autograd's own gradient.

A first run takes seconds and a C++ compiler, so this kernel runs only where it is asked for: `rheobase.kernels.use`.
Steps and letters are those of the reference; where the law has exp or ln, the compiler's may round otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import KernelError
from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron, begin, drives, unrolled

Law = Callable[[Neuron, Tensors, Tensor, Membrane], tuple[Emission, Membrane]]
SWITCHES = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
MISSING = next((f"{name} switches torch.compile off" for name in SWITCHES if os.environ.get(name, "0") != "0"), "")


def declines(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> str:
    """Why a neuron is not compiled, or an empty string if it is."""
    return MISSING


def run(neuron: Neuron, tensors: Tensors, xs: Tensor, m: Membrane | None) -> tuple[Emission, Membrane]:
    """`emissions` of the law, compiled for this neuron, number of steps and dtype when it first meets them.

    Raises KernelError where PyTorch cannot compile it, with its reason; nothing else runs in its place.
    """
    m = begin(neuron, tensors, xs, m)
    xs = drives(neuron, tensors, xs, m.t)
    law = compiled(neuron, len(xs), xs.dtype)
    try:
        return law(neuron, tensors._replace(bias=None), xs, m)
    except RuntimeError as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        instead = 'rheobase.kernels.use("reference")'
        raise KernelError(f"{neuron} could not be compiled", why=why, instead=instead) from error


@lru_cache(maxsize=256)
def compiled(neuron: Neuron, steps: int, dtype: torch.dtype) -> Law:
    """The compiled law of a neuron; a batch of another size is met by shapes that may vary, not by another law.

    PyTorch counts recompilations by code object and gives up after a few, and takes what differs between functions of
    one name for a variable: each law has a code object and a name of its own.
    """
    name = f"{unrolled.__name__}_{next(_numbers)}"
    own: Any = FunctionType(unrolled.__code__.replace(co_name=name), unrolled.__globals__, name)
    return cast(Law, torch.compile(own, fullgraph=True))


_numbers = count()
