"""Stages on a GPU: the operators `stage` and `pool` of C++ for tiles of places and outputs, each a Triton program.

One way to convolve takes every convolution of letters, grouped, depthwise and dilated ones too. Neurons have a fixed
threshold. With TRITON_INTERPRET=1 the programs run on the CPU, slowly: that is how they are tested without a GPU.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .convolution import Convolution
from .term import CURRENT, GEOMETRY, IDENTITY, TILES, Term

PLACES, MOST_OUTPUTS, LEAST = 64, 64, 16
"""Of a tile: places; at most and at least so many outputs."""
DEPTH = 32
"""Channels of one product, or twice as many."""
BLOCK = 1024


def tiles(conv: Convolution) -> Term:
    """The convolution for tiles of outputs: `[tile][kernel place][channel][output]`, 0 where an output does not read.

    Groups lie side by side: a tile of outputs reads channels side by side, from those of its first output's group on.
    """
    outputs, (reads, *kernel) = len(conv.weight), conv.weight.shape[1:]
    sends, block = outputs // conv.groups, _outputs(outputs)
    group = torch.arange(outputs) // sends
    first = group[::block].repeat_interleave(block)[:outputs]  # of the tile of each output
    offset = (group - first) * reads
    taken = int(offset.max()) + reads
    taken += -taken % DEPTH
    wide = conv.weight.new_zeros(outputs, taken, *kernel)
    for output, start in enumerate(offset.tolist()):
        wide[output, start : start + reads] = conv.weight[output]
    packed = F.pad(wide.flatten(1), (0, 0, 0, -outputs % block)).reshape(-1, block, taken, kernel[0] * kernel[1])
    numbers = {"windows": conv.groups, "taken": taken, "block": block}
    weights = packed.permute(0, 3, 2, 1).contiguous()
    return Term(TILES, conv.geometry | numbers, weights, conv.scale.float(), conv.bias.float())


def _outputs(channels: int) -> int:
    """How many outputs of a layer a tile has: a power of two."""
    return min(MOST_OUTPUTS, max(LEAST, 1 << (channels - 1).bit_length()))


def stage(
    reads: list[Tensor], letters: Tensor, v: Tensor, total: Tensor | None, sent: Tensor | None, start: Tensor | None,
    correction: Tensor | None, t: int, tensors: list[Tensor], numbers: list[int], theta0: Tensor, share: Tensor | None,
    per_letter: float, rule: int, constants: list[float], normalised: bool, *law: Any,
) -> None:  # fmt: skip
    """`torch.ops.rheobase.stage`, for a fixed threshold."""
    samples, steps, height, width, channels = letters.shape
    leak, rest, value, neurons = _law(*(tuple(part) if isinstance(part, list) else part for part in law))
    terms = tuple(_term(tuple(numbers[k * _EACH :][:_EACH]), read, channels) for k, read in enumerate(reads))
    outputs, none = _outputs(channels), v
    grid = -(-samples * height * width // PLACES), -(-channels // outputs)
    with torch.cuda.device_of(letters):
        _programs().stage[grid](
            tuple(reads), *(tuple(tensors[k::3]) for k in range(3)), letters, v, none if sent is None else sent, theta0,
            none if start is None else start, none if correction is None else correction,
            none if share is None else share, samples, steps, 0 if correction is None else len(correction),
            theta0.numel(), 1 if start is None else start.numel(), constants[0], per_letter, leak, rest, value,
            TERMS=terms, HEIGHT=height, WIDTH=width, CHANNELS=channels, BORN=start is not None, GATED=sent is not None,
            PLACES=PLACES, OUTPUTS=outputs, **KINDS, **neurons,
        )  # fmt: skip


KINDS = {"CONVOLUTION": TILES, "IDENTITY": IDENTITY}
_EACH = 1 + len(GEOMETRY)


def pool(letters: Tensor, pooled: Tensor, largest: bool, numbers: list[int]) -> None:
    """`torch.ops.rheobase.pool`."""
    grid = (-(-pooled.numel() // BLOCK),)
    sizes = (*letters.shape[2:], *pooled.shape[2:4], *numbers, largest, BLOCK)
    with torch.cuda.device_of(letters):
        _programs().pool[grid](letters, pooled, pooled.numel(), *sizes)


def _programs() -> Any:
    from . import gpu_stages

    return gpu_stages


def _term(numbers: tuple[int, ...], read: Tensor, channels: int) -> tuple[int, ...]:
    """What is known of a term when its program is compiled."""
    if numbers[0] == CURRENT:
        return CURRENT, int(read.stride(0) > 0)
    return _known(numbers, tuple(read.shape[2:]), channels)


@lru_cache(maxsize=1024)
def _known(numbers: tuple[int, ...], size: tuple[int, ...], channels: int) -> tuple[int, ...]:
    kind, n = numbers[0], dict(zip(GEOMETRY, numbers[1:], strict=True))
    if kind == IDENTITY:
        return IDENTITY, *size, n["stride_h"], n["shift"]
    geometry = numbers[1 + GEOMETRY.index("kernel_h") : 2 + GEOMETRY.index("dilation_w")]
    depth = DEPTH if n["taken"] % (2 * DEPTH) else 2 * DEPTH
    return TILES, *size, *geometry, channels // n["windows"], size[2] // n["windows"], n["taken"], depth


@lru_cache(maxsize=256)
def _law(
    charge: int, leak: float, rest: float, kind: int, levels: tuple[float, ...], heights: tuple[float, ...],
    signed: bool, floored: bool, hard: bool, value: float, at: float,
) -> tuple[float, float, float, dict[str, Any]]:  # fmt: skip
    """The numbers of a neuron, and what is known of it when its program is compiled; nothing is fused."""
    known = {"CHARGE": charge, "KIND": kind, "LEVELS": levels, "HEIGHTS": heights, "SIGNED": signed, "FLOORED": floored}
    return leak, rest, value, known | {"HARD": hard, "AT": at, "enable_fp_fusion": False}
