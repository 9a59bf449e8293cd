"""What runs the stages of a compiled network: C++ on a CPU, Triton on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ..gate import Open, SentCharge
from ..membrane import Tensors
from ..neuron import Neuron
from . import convolution, cpu, tiles, triton
from .convolution import Convolution
from .named import asked
from .term import Term

MOST_EVENTS = 0.3
"""Up to which share of letters that are not 0 events with real weights are faster than a dense convolution."""


class Engine(NamedTuple):
    """One way to run stages.

    name: as `rheobase.kernels.use` has it. missing: why it is not there, or "". declines: why it does not run such a
    neuron, or "". whole: its kernels for weights of 8 bits, by name: a term, or why it takes none. real: the same for
    float32, of the convolution and the share of letters that are not 0. stage, pool: its operators, in the signatures
    of `torch.ops.rheobase`.
    """

    name: str
    missing: str
    declines: Callable[[Neuron, Tensors], str]
    whole: Mapping[str, Callable[[Convolution], Term | str]]
    real: Mapping[str, Callable[[Convolution, float], Term | str]]
    stage: Callable[..., None]
    pool: Callable[..., None]


def engine() -> Engine:
    """The one that was asked for, else C++."""
    return GPU if asked() == "triton" else CPU


def _cpu_declines(neuron: Neuron, tensors: Tensors) -> str:
    if why := cpu.declines(neuron) or _waits(neuron):
        return why
    device = tensors.theta0.device.type
    if tensors.theta0.dtype != torch.float32 or device != "cpu":
        hint = '; rheobase.kernels.use("triton") compiles for it' if device == "cuda" else ""
        return f"it runs float32 on the CPU, not {tensors.theta0.dtype} on {device}{hint}"
    return ""


def _gpu_declines(neuron: Neuron, tensors: Tensors) -> str:
    if why := triton.MISSING or triton.unknown(neuron) or _waits(neuron):
        return why
    if not triton.reaches(tensors.theta0) or tensors.theta0.dtype != torch.float32:
        return f"it runs float32 on a GPU, not {tensors.theta0.dtype} on {tensors.theta0.device.type}"
    return ""


def _waits(neuron: Neuron) -> str:
    return "" if isinstance(neuron.gate, (Open, SentCharge)) else f"it knows no {type(neuron.gate).__name__} gate"


def _real_events(conv: Convolution, rate: float) -> Term | str:
    if rate > MOST_EVENTS and not conv.depthwise:
        return f"{rate:.0%} of the letters are not 0, more than {MOST_EVENTS:.0%}"
    return convolution.sparse(conv)


def _real_depthwise(conv: Convolution, rate: float) -> Term | str:
    return convolution.depthwise(conv)


def _real_tiles(conv: Convolution, rate: float) -> Term | str:
    return "its weights are real numbers"


def _stage(*given: Any) -> None:
    torch.ops.rheobase.stage(*given)


def _pool(*given: Any) -> None:
    torch.ops.rheobase.pool(*given)


CPU = Engine(
    name="cpu",
    missing=cpu.MISSING,
    declines=_cpu_declines,
    whole=convolution.WHOLE,
    real={"real events": _real_events, "real depthwise": _real_depthwise},
    stage=_stage,
    pool=_pool,
)
GPU = Engine(
    name="triton",
    missing=triton.MISSING,
    declines=_gpu_declines,
    whole={"tiles": tiles.tiles},
    real={"tiles": _real_tiles},
    stage=tiles.stage,
    pool=tiles.pool,
)
