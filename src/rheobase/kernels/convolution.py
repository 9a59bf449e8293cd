"""A convolution of letters, packed for the kernels of a stage, or why one of them does not take it.

Sums of whole weights are exact: of 16 bits as far as these weights were proved not to overflow them with any letters,
then of 32. A grouped convolution falls into windows of channels that know nothing of each other, each of as many groups
as fit into a block of outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .term import DENSE, DEPTHWISE, EVENTS, LOOKUP, REAL_DEPTHWISE, REAL_EVENTS, Term

SUM = 2**15 - 1
"""The largest sum of 16 bits."""
ONES, COUNTS, SIGNED = range(3)
"""The letters of a convolution of events: all 1, none negative, any."""
NEVER = 2**30
"""More events than there are."""
TABLES = 2**15
"""Bytes of the tables of 16 outputs: what the first cache holds. They are of 256 weights, whose sum 16 bits hold."""
DILATED = "its columns are dilated"
ONE_EACH = "each output reads a channel of its own"


@dataclass(frozen=True)
class Convolution:
    """A 2-D convolution of letters from low to high: whole weights `[O, C / groups, kh, kw]` int8, or real ones with
    scale 1. padding: above and to the left; below and to the right it is what the output reaches.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    low: int
    high: int
    groups: int = 1

    @property
    def real(self) -> bool:
        """Whether its weights are real numbers."""
        return self.weight.is_floating_point()

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel, which nothing else reads."""
        return self.weight.shape[1] == 1 and self.groups == len(self.weight)

    @property
    def most(self) -> int:
        """How many outputs of a row a column of letters reaches."""
        return -(-self.weight.shape[3] // self.stride[1])

    @property
    def geometry(self) -> dict[str, int]:
        """Its numbers, by their names in `term.GEOMETRY`."""
        return {
            "kernel_h": self.weight.shape[2], "kernel_w": self.weight.shape[3], "stride_h": self.stride[0],
            "stride_w": self.stride[1], "pad_h": self.padding[0], "pad_w": self.padding[1],
            "dilation_h": self.dilation[0], "dilation_w": self.dilation[1],
        }  # fmt: skip

    def windows(self, block: int) -> tuple[int, Tensor]:
        """How many windows, and the weights `[O, channels of a window, kh, kw]`, 0 between the groups of one window."""
        outputs, channels = len(self.weight) // self.groups, self.weight.shape[1]
        whole = [n for n in range(1, self.groups + 1) if self.groups % n == 0]
        merged = max((n for n in whole if n * outputs <= block), default=1)
        own = self.weight.unflatten(0, (-1, merged, outputs))
        wide = own.new_zeros(len(own), merged, outputs, merged, channels, *self.weight.shape[2:])
        for n in range(merged):
            wide[:, n, :, n] = own[:, n]
        return len(own), wide.flatten(3, 4).flatten(0, 2)


def dense(conv: Convolution) -> Term | str:
    """The convolution as products of bytes, or why it is none."""
    zero = max(0, -conv.low)
    if conv.depthwise or conv.dilation[1] != 1:
        return ONE_EACH if conv.depthwise else DILATED
    if 2 * (conv.high + zero) > 2**8 - 2:
        return f"letters from {conv.low} to {conv.high} are more than a byte beside weights of 8 bits holds"
    windows, weight = conv.windows(16)
    channels, kernel_h, kernel_w = weight.shape[1:]
    rows = F.pad(weight.permute(0, 2, 3, 1).flatten(2), (0, -(kernel_w * channels) % 4))
    fours = rows.shape[2] // 4
    flush = _flush(rows, conv.high + zero)
    packed = _blocks(rows, windows, 16).reshape(-1, 16, kernel_h, fours, 4).permute(0, 2, 3, 1, 4)
    offset = zero * weight.flatten(1).sum(1, dtype=torch.int64)
    bias = conv.bias.double() - offset * conv.scale.double()
    numbers = {"windows": windows, "taken": channels, "block": 16, "flush": flush, "zero": zero}
    own = (_blocks(values.float(), windows, 16) for values in (conv.scale, bias))
    return Term(DENSE, conv.geometry | numbers, packed.contiguous(), *own)


def lookup(conv: Convolution) -> Term | str:
    """The convolution as sums of weights looked up by four letters at a time, or why it is none."""
    if conv.depthwise or conv.dilation[1] != 1:
        return ONE_EACH if conv.depthwise else DILATED
    if (conv.low, conv.high) != (0, 1):
        return f"its letters are from {conv.low} to {conv.high}, not 0 and 1"
    if why := _too_wide(conv):
        return why
    windows, weight = conv.windows(16)
    if weight.shape[1] % 4:
        return f"{weight.shape[1]} channels are no groups of four"
    full = _by_column(weight, conv, windows, 16)
    if (size := 8 * full[0].numel()) > TABLES:  # 16 sums of 2 bytes for 4 channels
        return f"its tables of {size / 1024:.0f} KiB do not fit into the first cache"
    fours = full.int().unflatten(3, (-1, 4))  # [block, kernel_h, phase, group, 4, most, 16]
    chosen = (torch.arange(16)[:, None] >> torch.arange(4)) & 1
    sums = torch.einsum("bkpgcmo,sc->bkpgsmo", fours, chosen.int())
    own = (_blocks(values.float(), windows, 16) for values in (conv.scale, conv.bias))
    numbers = {"windows": windows, "taken": weight.shape[1], "block": 16}
    return Term(LOOKUP, conv.geometry | numbers, sums.to(torch.int16).contiguous(), *own)


def depthwise(conv: Convolution) -> Term | str:
    """The convolution of each channel by itself, or why it is none."""
    if not conv.depthwise:
        return "its outputs do not read a channel each"
    rows = conv.weight.flatten(1)
    flush = rows.shape[1] if conv.real else _together(*_reach(rows, conv.low, conv.high))
    packed = _blocks(rows, 1, 64).reshape(-1, 64, rows.shape[1]).transpose(1, 2).contiguous()
    numbers = {"windows": 1, "taken": len(rows), "block": 64, "flush": flush}
    own = (_blocks(values.float(), 1, 64) for values in (conv.scale, conv.bias))
    return Term(REAL_DEPTHWISE if conv.real else DEPTHWISE, conv.geometry | numbers, packed, *own)


def sparse(conv: Convolution) -> Term | str:
    """The convolution of events, or why it is none."""
    if conv.depthwise or conv.dilation[1] != 1:
        return ONE_EACH if conv.depthwise else DILATED
    if why := _too_wide(conv):
        return why
    outputs = len(conv.weight) // conv.groups
    block = 16 if conv.real and outputs <= 16 else 32 if conv.real or outputs <= 32 or conv.most > 3 else 64
    windows, weight = conv.windows(block)
    spelled = SIGNED if conv.low < 0 else COUNTS if conv.high > 1 else ONES
    flush = NEVER if conv.real else _events(weight.flatten(1), conv.low, conv.high)
    numbers = {"windows": windows, "block": block, "taken": weight.shape[1], "spelled": spelled, "flush": flush}
    own = (_blocks(values.float(), windows, block) for values in (conv.scale, conv.bias))
    full = _by_column(weight, conv, windows, block)
    if not conv.real:  # in the order 0-7, 16-23, 8-15, 24-31 of 32 outputs
        full = full.unflatten(-1, (-1, 2, 2, 8)).transpose(-3, -2)
    nothing = F.pad(full.flatten(1), (0, conv.most * block))  # a channel of zeros behind each block
    packed = nothing.to(torch.float32 if conv.real else torch.int8).contiguous()
    return Term(REAL_EVENTS if conv.real else EVENTS, conv.geometry | numbers, packed, *own)


WHOLE: dict[str, Callable[[Convolution], Term | str]] = {
    "dense": dense, "lookup": lookup, "events": sparse, "depthwise": depthwise
}  # fmt: skip
"""The kernels of whole weights by their names."""


def _blocks(values: Tensor, windows: int, block: int) -> Tensor:
    """`[O, ...]`, the outputs of each window filled up to whole blocks."""
    own = values.unflatten(0, (windows, -1))
    return F.pad(own, (0, 0) * (own.ndim - 2) + (0, -own.shape[1] % block)).flatten(0, 1).contiguous()


def _by_column(weight: Tensor, conv: Convolution, windows: int, block: int) -> Tensor:
    """`[O, C, kh, kw]` as `[block][kh][phase][C][most][outputs]`, the furthest column of a phase first."""
    channels, kernel_h, kernel_w = weight.shape[1:]
    stride, most = conv.stride[1], conv.most
    full = F.pad(_blocks(weight, windows, block), (0, most * stride - kernel_w))
    full = full.reshape(-1, block, channels, kernel_h, most, stride).flip(4)
    return full.permute(0, 3, 5, 2, 4, 1)


def _too_wide(conv: Convolution) -> str:
    """Why a column reaches more outputs than there are registers for, or an empty string."""
    return f"a kernel {conv.weight.shape[3]} wide has more sums than registers" if conv.most > 7 else ""


# --- the proof that sums of 16 bits do not overflow ------------------------------------------------------------------


def _reach(whole: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The largest and the least of what each weight times a letter can be."""
    products = torch.stack([whole.int() * high, whole.int() * low])
    return products.amax(0).clamp_(min=0), products.amin(0).clamp_(max=0)


def _fits(up: Tensor, down: Tensor) -> bool:
    return max(int(up.max()), -int(down.min())) <= SUM


def _together(up: Tensor, down: Tensor) -> int:
    """How many products in a row `[..., n]` may be summed in 16 bits: halved until no such sum can overflow."""
    count = up.shape[-1]
    while not _fits(*(F.pad(a, (0, -a.shape[-1] % count)).unflatten(-1, (-1, count)).sum(-1) for a in (up, down))):
        count = (count + 1) // 2
    return count


def _flush(rows: Tensor, most: int) -> int:
    """How many groups of 4 letters up to `most` may be summed in 16 bits, the pairs of a group apart from each other:
    all, or as many of a kernel row, so that no such sum can overflow with these weights `[O, kernel_h, 4 * groups]`.
    """
    pairs = [part.unflatten(2, (-1, 2, 2)).sum(4) for part in _reach(rows, 0, most)]  # [O, kernel_h, groups, 2]
    if _fits(*(part.sum((1, 2)) for part in pairs)):
        return rows.shape[1] * pairs[0].shape[2]
    return _together(*(part.transpose(2, 3) for part in pairs))


def _events(whole: Tensor, low: int, high: int) -> int:
    """How many events may be summed in 16 bits, whichever of the weights `[O, n]` of an output they meet, each once: an
    even number, or NEVER where all of them may.
    """
    up, down = (part.abs().sort(1, descending=True).values.cumsum(1).amax(0) for part in _reach(whole, low, high))
    fitting = int((torch.maximum(up, down) <= SUM).sum())
    return NEVER if fitting == whole.shape[1] else fitting // 2 * 2
