"""The Triton programs of stages: letters in, letters out, as bytes; what a neuron is driven by stays in registers.

A program takes some places and some outputs of a layer through all T steps. A convolution is a product of matrices,
letters of a place times weights of an output, in whole numbers: exact in any order.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import constexpr

from .gpu import tick


@triton.jit
def convolved(
    letters, weights, step, steps, sample, row, column, there, tile,
    HEIGHT: constexpr, WIDTH: constexpr, CHANNELS: constexpr, KERNEL_H: constexpr, KERNEL_W: constexpr,
    STRIDE_H: constexpr, STRIDE_W: constexpr, PAD_H: constexpr, PAD_W: constexpr, DILATION_H: constexpr,
    DILATION_W: constexpr, SENDS: constexpr, READS: constexpr, TAKEN: constexpr, DEPTH: constexpr,
    PLACES: constexpr, OUTPUTS: constexpr,
):  # fmt: skip
    """Sums of weights times letters. Of a group `SENDS` outputs read `READS` channels, of a tile all read `TAKEN`."""
    first = tile * OUTPUTS // SENDS * READS
    total = tl.zeros((PLACES, OUTPUTS), tl.int32)
    parts: constexpr = TAKEN // DEPTH
    for part in range(KERNEL_H * KERNEL_W * parts):
        tap, k = part // parts, part % parts * DEPTH + tl.arange(0, DEPTH)
        y = row * STRIDE_H - PAD_H + tap // KERNEL_W * DILATION_H
        x = column * STRIDE_W - PAD_W + tap % KERNEL_W * DILATION_W
        inside = there & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        at = ((sample * steps + step) * HEIGHT + y) * WIDTH + x
        a = tl.load(
            letters + at[:, None] * CHANNELS + (first + k)[None, :],
            inside[:, None] & (first + k < CHANNELS)[None, :],
            0,
        )
        rows = (tile * KERNEL_H * KERNEL_W + tap) * TAKEN + k
        b = tl.load(weights + rows[:, None] * OUTPUTS + tl.arange(0, OUTPUTS)[None, :])
        total = tl.dot(a, b, total, out_dtype=tl.int32)
    return total


@triton.jit
def stage(
    reads, weights, scales, biases, letters, v, sent, theta0, start, correction, share,
    samples, steps, corrected, shared, started, gain, per_letter, leak, rest, value,
    TERMS: constexpr, CONVOLUTION: constexpr, IDENTITY: constexpr, HEIGHT: constexpr, WIDTH: constexpr,
    CHANNELS: constexpr, BORN: constexpr, GATED: constexpr,
    CHARGE: constexpr, KIND: constexpr, LEVELS: constexpr, HEIGHTS: constexpr, SIGNED: constexpr, FLOORED: constexpr,
    HARD: constexpr, AT: constexpr, PLACES: constexpr, OUTPUTS: constexpr,
):  # fmt: skip
    """T steps of `PLACES` places of any samples and `OUTPUTS` channels; `TERMS` as `tiles` knows them."""
    size: constexpr = HEIGHT * WIDTH
    tile = tl.program_id(1)
    p = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    c = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    sample, place = p // size, p % size
    row, column, there = place // WIDTH, place % WIDTH, p < samples * size
    here = there[:, None] & (c < CHANNELS)[None, :]
    at, own = p[:, None] * CHANNELS + c[None, :], place[:, None] * CHANNELS + c[None, :]
    if CHARGE == 2:
        leak = tl.load(share)
    theta = tl.load(theta0 + own % shared, here, 1.0) * gain
    if BORN:
        m = tl.load(start + own % started, here, 0.0)
        gone = tl.zeros_like(m)
    else:
        m = tl.load(v + at, here, 0.0)
        gone = tl.load(sent + at, here, 0.0) if GATED else tl.zeros_like(m)
    for step in range(steps):
        x = tl.zeros_like(m)
        for k in tl.static_range(len(TERMS)):
            if TERMS[k][0] == CONVOLUTION:
                total = convolved(
                    reads[k], weights[k], step, steps, sample, row, column, there, tile,
                    TERMS[k][1], TERMS[k][2], TERMS[k][3], TERMS[k][4], TERMS[k][5], TERMS[k][6], TERMS[k][7],
                    TERMS[k][8], TERMS[k][9], TERMS[k][10], TERMS[k][11], TERMS[k][12], TERMS[k][13], TERMS[k][14],
                    TERMS[k][15], PLACES, OUTPUTS,
                )  # fmt: skip
                drive = total.to(tl.float32) * tl.load(scales[k] + c, c < CHANNELS, 0.0)[None, :]
                drive += tl.load(biases[k] + c, c < CHANNELS, 0.0)[None, :]
            elif TERMS[k][0] == IDENTITY:
                of = c - TERMS[k][5]
                passes = there[:, None] & ((of >= 0) & (of < TERMS[k][3]))[None, :]
                stands = (sample * steps + step) * TERMS[k][1] + row * TERMS[k][4]
                stands = (stands * TERMS[k][2] + column * TERMS[k][4]) * TERMS[k][3]
                drive = tl.load(reads[k] + stands[:, None] + of[None, :], passes, 0).to(tl.float32)
                drive *= tl.load(scales[k] + c, c < CHANNELS, 0.0)[None, :]
            else:
                drive = tl.load(reads[k] + step * TERMS[k][1] * samples * size * CHANNELS + at, here, 0.0)
            x = x + drive if k > 0 else drive
        if step < corrected:
            x += tl.load(correction + step * CHANNELS + c, c < CHANNELS, 0.0)[None, :]
        s, m, gone = tick(
            m, x, theta, gone, leak, rest, value, CHARGE, KIND, LEVELS, HEIGHTS, SIGNED, FLOORED, HARD, AT, GATED
        )
        stands = ((sample * steps + step) * size + place)[:, None] * CHANNELS + c[None, :]
        tl.store(letters + stands, (s * per_letter).to(tl.int8), here)
    tl.store(v + at, m, here)
    if GATED:
        tl.store(sent + at, gone, here)


@triton.jit
def pool(
    letters, pooled, count,
    HEIGHT: constexpr, WIDTH: constexpr, CHANNELS: constexpr, OUT_H: constexpr, OUT_W: constexpr,
    KERNEL_H: constexpr, KERNEL_W: constexpr, STRIDE_H: constexpr, STRIDE_W: constexpr, PAD_H: constexpr,
    PAD_W: constexpr, DILATION_H: constexpr, DILATION_W: constexpr, LARGEST: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """The largest letters of a window, or their sum; what lies beyond the map is not there."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here, c, place = i < count, i % CHANNELS, i // CHANNELS
    row, column, image = place // OUT_W % OUT_H, place % OUT_W, place // (OUT_H * OUT_W)
    total = tl.zeros((BLOCK,), tl.int32) - (128 if LARGEST else 0)
    for tap in tl.static_range(KERNEL_H * KERNEL_W):
        y = row * STRIDE_H - PAD_H + tap // KERNEL_W * DILATION_H
        x = column * STRIDE_W - PAD_W + tap % KERNEL_W * DILATION_W
        inside = here & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        at = ((image * HEIGHT + y) * WIDTH + x) * CHANNELS + c
        a = tl.load(letters + at, inside, -128 if LARGEST else 0).to(tl.int32)
        total = tl.maximum(total, a) if LARGEST else total + a
    tl.store(pooled + i, total.to(tl.int8), here)
