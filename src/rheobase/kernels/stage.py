"""A stage: all that drives one spiking layer, and its neurons, T steps in one pass; the drives never reach memory.

Letters are whole numbers, int8 `[N, T, H, W, C]`, channels last; a vector is a map of one place. A term is one of the
things that drive the layer, packed for the C++ kernel that computes it. Sums of whole weights are exact: 16 bits where
they were proved not to overflow, else 32. The neurons take every step as `cpu` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..membrane import Membrane, Tensors
from ..neuron import Neuron
from .fixed import share
from .law import law, rule

DENSE, EVENTS, REAL_EVENTS, IDENTITY, CURRENT = range(5)
SUM = 2**15 - 1
"""The largest sum of 16 bits."""
PARTS = 8
"""The most parts of a convolution of events."""
GEOMETRY = (
    "height", "width", "channels", "first", "taken", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w",
    "dilation_h", "block", "flush", "zero", "shift", "weighted", "image_step", "time_step",
)  # fmt: skip


class Letters(NamedTuple):
    """Letters of T steps: `unit * data`, data int8 `[N, T, H, W, C]`."""

    data: Tensor
    unit: float

    def real(self, shape: tuple[int, ...]) -> Tensor:
        """The same as floats `[T, N, *shape]`, channels last in memory."""
        seen = self.data.transpose(0, 1)
        xs = torch.empty(seen.shape).copy_(seen).permute(0, 1, 4, 2, 3)
        return (xs if self.unit == 1 else xs.mul_(self.unit)).reshape(*xs.shape[:2], *shape)

    @classmethod
    def of(cls, xs: Tensor, unit: float) -> Letters:
        """Of floats `[T, N, C]`, `[T, N, C, L]` or `[T, N, C, H, W]` that are whole multiples of the unit."""
        seen = last(xs).transpose(0, 1)
        return cls((seen if unit == 1 else seen / unit).to(torch.int8).contiguous(), unit)


def last(xs: Tensor) -> Tensor:
    """`[T, N, C]`, `[T, N, C, L]` or `[T, N, C, H, W]` seen as `[T, N, H, W, C]`."""
    height, width, channels = maps(tuple(xs.shape[2:]))
    return xs.reshape(*xs.shape[:2], channels, height, width).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True)
class Convolution:
    """A 2-D convolution of letters from low to high: whole weights `[O, C, kh, kw]` int8, or real ones with scale 1."""

    weight: Tensor
    scale: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation_h: int
    low: int
    high: int


@dataclass(frozen=True)
class Term:
    """What the kernel is told of one term: its kind, the numbers of `GEOMETRY`, its tensors beside what it reads."""

    kind: int
    geometry: dict[str, int] = field(default_factory=dict)
    weights: Tensor = torch.empty(0)
    scale: Tensor = torch.empty(0)
    bias: Tensor = torch.empty(0)

    def numbers(self, x: Tensor) -> list[int]:
        """All numbers, for what it reads: letters, or a current `[T, N, H, W, C]`."""
        if self.kind == CURRENT:
            own = {"image_step": x.stride(1), "time_step": x.stride(0)}
        else:
            own = dict(zip(("height", "width", "channels"), x.shape[2:], strict=True))
            own = own | {"taken": x.shape[4]} | self.geometry
        return [self.kind, *(int(own.get(name, 0)) for name in GEOMETRY)]


Packed = tuple[Term, ...]
"""What one drive is for a kernel: one term, or several that add up to it."""


def dense(conv: Convolution) -> Packed | str:
    """The convolution as products of bytes, or why it is none."""
    zero = max(0, -conv.low)
    if 2 * (conv.high + zero) > 2**8 - 2:
        return f"letters from {conv.low} to {conv.high} are more than a byte beside weights of 8 bits holds"
    outputs, channels, kernel_h, kernel_w = conv.weight.shape
    rows = F.pad(conv.weight.permute(0, 2, 3, 1).flatten(2), (0, -(kernel_w * channels) % 4))
    groups = rows.shape[2] // 4
    flush = _flush(rows, conv.high + zero)
    packed = F.pad(rows, (0, 0, 0, 0, 0, -outputs % 16)).reshape(-1, 16, kernel_h, groups, 4).permute(0, 2, 3, 1, 4)
    offset = zero * conv.weight.flatten(1).sum(1, dtype=torch.int64)
    bias = conv.bias.double() - offset * conv.scale.double()
    numbers = _geometry(conv) | {"flush": flush, "zero": zero}
    return (Term(DENSE, numbers, packed.contiguous(), _filled(conv.scale, 64), _filled(bias, 64)),)


def _flush(rows: Tensor, most: int) -> int:
    """How many groups of 4 letters up to `most` may be summed in 16 bits, the pairs of a group apart from each other:
    all, or as many of a kernel row, so that no such sum can overflow with these weights `[O, kernel_h, 4 * groups]`.
    """
    pairs = rows.unflatten(2, (-1, 2, 2)).int() * most
    up, down = pairs.clamp(min=0).sum(4), pairs.clamp(max=0).sum(4)  # [O, kernel_h, groups, 2]
    if _fits(up.sum((1, 2)), down.sum((1, 2))):
        return rows.shape[1] * up.shape[2]
    count = up.shape[2]
    while not _fits(*(F.pad(a, (0, 0, 0, -a.shape[2] % count)).unflatten(2, (-1, count)).sum(3) for a in (up, down))):
        count = (count + 1) // 2
    return count


def _fits(up: Tensor, down: Tensor) -> bool:
    return max(int(up.max()), -int(down.min())) <= SUM


def sparse(conv: Convolution) -> Packed | str:
    """The convolution of events, in parts whose sums fit 16 bits if the weights are whole; or why it is none."""
    real = conv.weight.is_floating_point()
    channels, kernel_w = conv.weight.shape[1], conv.weight.shape[3]
    most = -(-kernel_w // conv.stride[1])
    if most > 7:
        return f"a kernel {kernel_w} wide has more sums than registers"
    ends = [channels] if real else _ends(conv)
    if not ends:
        return f"its sums overflow 16 bits even in {PARTS} parts"
    block = 32 if real or len(conv.weight) <= 32 or most > 3 else 64
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        bias = conv.bias if start == 0 else torch.zeros_like(conv.bias)
        parts.append(
            Term(
                REAL_EVENTS if real else EVENTS,
                _geometry(conv)
                | {
                    "first": start,
                    "taken": end - start,
                    "block": block,
                    "weighted": int(conv.low < 0 or conv.high > 1),
                },
                _by_column(conv.weight[:, start:end].to(torch.float32 if real else torch.int8), conv.stride[1], block),
                _filled(conv.scale, 64),
                _filled(bias, 64),
            )
        )
    return tuple(parts)


def _ends(conv: Convolution) -> list[int]:
    """Where parts of the channels end whose sums never leave 16 bits; empty if there are none."""
    whole = conv.weight.int()
    up = torch.maximum(whole * conv.high, whole * conv.low).clamp_(min=0).sum((2, 3))
    down = torch.minimum(whole * conv.high, whole * conv.low).clamp_(max=0).sum((2, 3))
    channels = whole.shape[1]
    for count in range(1, min(channels, PARTS) + 1):
        size = -(-channels // count)
        pieces = zip(up.split(size, 1), down.split(size, 1), strict=True)
        if all(_fits(a.sum(1), b.sum(1)) for a, b in pieces):
            return [min(end, channels) for end in range(size, channels + size, size)]
    return []


def _by_column(weight: Tensor, stride: int, block: int) -> Tensor:
    """`[O, C, kh, kw]` as `[block][kh][phase][C][most][outputs]`, the furthest column of a phase first."""
    outputs, channels, kernel_h, kernel_w = weight.shape
    most = -(-kernel_w // stride)
    full = F.pad(weight, (0, most * stride - kernel_w, 0, 0, 0, 0, 0, -outputs % block))
    full = full.reshape(-1, block, channels, kernel_h, most, stride).flip(4)
    return full.permute(0, 3, 5, 2, 4, 1).contiguous()


def identity(scale: Tensor, shift: int, stride: int) -> Packed:
    """Letters that pass on, `scale` `[O]` times, from channel o - shift and every stride-th place."""
    return (Term(IDENTITY, {"shift": shift, "stride_h": stride, "stride_w": stride}, scale=scale.float().contiguous()),)


def current() -> Packed:
    """A drive that is computed elsewhere."""
    return (Term(CURRENT),)


def _geometry(conv: Convolution) -> dict[str, int]:
    (stride_h, stride_w), (pad_h, pad_w) = conv.stride, conv.padding
    return {
        "kernel_h": conv.weight.shape[2], "kernel_w": conv.weight.shape[3], "stride_h": stride_h, "stride_w": stride_w,
        "pad_h": pad_h, "pad_w": pad_w, "dilation_h": conv.dilation_h,
    }  # fmt: skip


def _filled(values: Tensor, to: int) -> Tensor:
    return F.pad(values.float(), (0, -len(values) % to)).contiguous()


def run(
    terms: list[Term],
    reads: list[Tensor],
    neuron: Neuron,
    tensors: Tensors,
    m: Membrane | None,
    shape: tuple[int, ...],
    steps: int,
) -> tuple[Letters, Membrane]:
    """The letters of T steps and the memory after them.

    reads: what each term reads, letters `[N, T, H, W, C]` or a current `[T, N, H, W, C]`. shape: of the layer, `[C, H,
    W]` or `[C]`. m: its memory before, None at birth.
    """
    samples = reads[0].shape[1] if terms[0].kind == CURRENT else len(reads[0])
    letters = torch.empty((samples, steps, *maps(shape)), dtype=torch.int8)
    t = torch.zeros((), dtype=torch.int64) if m is None else m.t
    v, total, sent = _memory(neuron, m, shape, samples)
    torch.ops.rheobase.stage(
        [part for term, x in zip(terms, reads, strict=True) for part in (x, term.weights, term.scale, term.bias)],
        [n for term, x in zip(terms, reads, strict=True) for n in term.numbers(x)],
        None if tensors.bias is None or int(t) >= len(tensors.bias) else _rows(tensors.bias, shape)[int(t) :],
        letters,
        1 / neuron.alphabet.unit,
        v,
        total,
        sent,
        _spread(tensors.theta0, shape),
        _spread(tensors.v0, shape) if m is None else None,
        share(neuron, tensors),
        int(t),
        *rule(neuron),
        *law(neuron),
    )
    own = (() if part is None else (_first(part, shape),) for part in (total, sent))
    return Letters(letters, neuron.alphabet.unit), Membrane(_first(v, shape), t + steps, *own)


def maps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (H, W, C) of a layer `[C, H, W]`, `[C, L]` or `[C]` as a map with its channels last."""
    height, width = (1, 1, *shape[1:])[-2:]
    return height, width, shape[0]


def _memory(
    neuron: Neuron, m: Membrane | None, shape: tuple[int, ...], samples: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Potential, what the threshold and what the gate remember, channels last: copies, or room for a newborn's."""
    size = (samples, *maps(shape))
    if m is None:
        none = torch.empty(0)
        parts = (neuron.threshold.born(none), neuron.gate.born(none))
        total, sent = (torch.empty(size) if part else None for part in parts)
        return torch.empty(size), total, sent
    total, sent = (_last(part[0], size) if part else None for part in (m.threshold, m.gate))
    return _last(m.v, size), total, sent


def _last(part: Tensor, size: tuple[int, ...]) -> Tensor:
    """A copy with channels last."""
    return torch.empty(size).copy_(part.reshape(size[0], size[3], *size[1:3]).permute(0, 2, 3, 1))


def _first(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same memory seen as the network keeps it."""
    return part.permute(0, 3, 1, 2).reshape(len(part), *shape)


def _spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One number, one for each channel, or one for each neuron with the channels last."""
    values = values.detach().float()
    if values.numel() == 1:
        return values.reshape(1)
    values = values.reshape(values.shape[-len(shape) :])
    if values.ndim == len(shape) and values.shape[1:].numel() == 1:
        return values.reshape(-1)
    return values.expand(shape).movedim(0, -1).reshape(-1).contiguous()


def _rows(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The correction of each step `[steps, C]`."""
    return of_places(bias.detach().float(), shape)[:, :, 0].contiguous()


def of_places(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A correction, that broadcasts against a layer of that shape at each step, as `[steps, C, places]`."""
    rows = bias.reshape(len(bias), *(1,) * (len(shape) + 1 - bias.ndim), *bias.shape[1:])
    return rows.expand(len(bias), *shape).reshape(len(bias), shape[0], -1)
