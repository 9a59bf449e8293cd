"""The Triton programs: T steps of a block of neurons with their potentials in registers, forward and back.

The law of `rheobase.neuron.fire` and its derivative, in the order of `csrc/neuron.h` and `csrc/backward.h`. Capitals
are known when a neuron is compiled; the numbers are those of `rheobase.kernels.law`.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import constexpr


@triton.constexpr_function
def mirrored(levels, heights, floored, k):
    """The level below zero of the letter of level k."""
    return sum(heights[:k], 0.0) if floored else levels[k]


@triton.jit
def over(a, divisor: constexpr):
    """a / divisor, rounded as the law rounds it."""
    return a if divisor == 1 else tl.div_rn(a, tl.full(a.shape, divisor, tl.float32))


@triton.jit
def charge(v, x, leak, rest, CHARGE: constexpr):
    if CHARGE == 0:
        u = leak * v + x
    elif CHARGE == 1:
        u = v + tl.div_rn(x - (v - rest), tl.zeros_like(v) + leak)
    else:
        u = v + (x - (v - rest)) * leak
    return u


@triton.jit
def fire(u, theta, KIND: constexpr, LEVELS: constexpr, HEIGHTS: constexpr, SIGNED: constexpr, FLOORED: constexpr):
    r = tl.div_rn(u, theta)
    s = tl.zeros_like(u)
    if KIND == 0:
        s = tl.where(u >= theta, 1.0, 0.0)
    elif KIND == 1:
        top: constexpr = len(LEVELS) * 1.0
        least: constexpr = -top if SIGNED else 0.0
        r = tl.minimum(tl.maximum(r, least), top)
        s = tl.floor(r) if FLOORED else tl.where(r < 0, -tl.floor(-r), tl.floor(r))
    else:
        for k in tl.static_range(len(LEVELS)):
            s += tl.where(r >= LEVELS[k], HEIGHTS[k], 0.0)
            if FLOORED:
                s -= tl.where(-r > mirrored(LEVELS, HEIGHTS, FLOORED, k), HEIGHTS[k], 0.0)
            elif SIGNED:
                s -= tl.where(-r >= LEVELS[k], HEIGHTS[k], 0.0)
    return s


@triton.jit
def covered(s, sent):
    """`SentCharge`: a negative letter only against what was sent."""
    return tl.maximum(s, -tl.floor(tl.maximum(sent, 0.0)))


@triton.jit
def emptied(u, theta, s, AT: constexpr):
    """Where a hard reset acts."""
    hit = s * theta != 0.0
    if AT > 0:
        hit = hit & (tl.abs(tl.div_rn(u, theta)) >= AT)
    return hit


@triton.jit
def reset(u, theta, s, value, HARD: constexpr, AT: constexpr):
    return tl.where(emptied(u, theta, s, AT), value, u) if HARD else u - s * theta


@triton.jit
def tick(
    m, x, theta, gone, leak, rest, value, CHARGE: constexpr, KIND: constexpr, LEVELS: constexpr, HEIGHTS: constexpr,
    SIGNED: constexpr, FLOORED: constexpr, HARD: constexpr, AT: constexpr, GATED: constexpr,
):  # fmt: skip
    """One step of the law: the letter, the potential after it, and what the gate remembers."""
    u = charge(m, x, leak, rest, CHARGE)
    s = fire(u, theta, KIND, LEVELS, HEIGHTS, SIGNED, FLOORED)
    if GATED:
        s = covered(s, gone)
        gone += s
    return s, reset(u, theta, s, value, HARD, AT), gone


@triton.jit
def derivative(r, SURROGATE: constexpr, A: constexpr, B: constexpr):
    """h(r) of `rheobase.surrogate`."""
    if SURROGATE == 0 or SURROGATE == 5:
        h = tl.where((r >= -A) & (r < A), 1.0 / B, 0.0)
    elif SURROGATE == 1:
        h = tl.maximum(A - B * tl.abs(r), 0.0)
    elif SURROGATE == 2:
        h = tl.exp(r * r / A) / B
    elif SURROGATE == 3:
        q = A * r
        h = 1.0 / (1.0 + q * q) * B
    else:
        up = tl.sigmoid(r / A)
        h = up * (1.0 - up) / A
    return h


@triton.jit
def slope(
    r, LEVELS: constexpr, HEIGHTS: constexpr, SIGNED: constexpr, FLOORED: constexpr, PARTS: constexpr,
    DETACHED: constexpr, SURROGATE: constexpr, A: constexpr, B: constexpr,
):  # fmt: skip
    """`Alphabet.slope`: the derivative of the letter by r."""
    total = tl.zeros_like(r)
    if SURROGATE == 5:
        total = tl.where((r >= 0.5) & (r < len(LEVELS) + 0.5), 1.0, 0.0)
    elif len(PARTS) > 0:
        left = r
        chain = total + 1.0
        for k in tl.static_range(len(PARTS)):
            rise = chain * derivative(over(left - PARTS[-1 - k], PARTS[-1 - k]), SURROGATE, A, B)
            total += rise
            left -= tl.where(left >= PARTS[-1 - k], PARTS[-1 - k], 0.0)
            if not DETACHED:
                chain -= rise
    else:
        for k in tl.static_range(len(LEVELS)):
            total += derivative(over(r - LEVELS[k], HEIGHTS[k]), SURROGATE, A, B)
            if SIGNED:
                total += derivative(over(-r - mirrored(LEVELS, HEIGHTS, FLOORED, k), HEIGHTS[k]), SURROGATE, A, B)
    return total


@triton.jit
def forward(
    xs, v, theta, share, sent, letters, after, steps, stride, size, period, leak, rest, value,
    CHARGE: constexpr, KIND: constexpr, LEVELS: constexpr, HEIGHTS: constexpr, SIGNED: constexpr, FLOORED: constexpr,
    HARD: constexpr, AT: constexpr, GATED: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """`sent` is what the gate remembers, before and after, where there is one."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = i < size
    if CHARGE == 2:
        leak = tl.load(share)
    own = tl.load(theta + i % period, here, 1.0)
    m = tl.load(v + i, here, 0.0)
    gone = tl.load(sent + i, here, 0.0) if GATED else tl.zeros_like(m)
    for step in range(steps):
        x = tl.load(xs + step * stride + i, here, 0.0).to(tl.float32)
        s, m, gone = tick(
            m, x, own, gone, leak, rest, value, CHARGE, KIND, LEVELS, HEIGHTS, SIGNED, FLOORED, HARD, AT, GATED
        )
        tl.store(letters + step * size + i, s, here)
    tl.store(after + i, m, here)
    if GATED:
        tl.store(sent + i, gone, here)


@triton.jit
def backward(
    by_letters, by_after, xs, v, theta, share, before, to_xs, to_v, to_theta, to_share,
    steps, stride, size, period, leak, rest, value,
    CHARGE: constexpr, KIND: constexpr, LEVELS: constexpr, HEIGHTS: constexpr, SIGNED: constexpr, FLOORED: constexpr,
    HARD: constexpr, AT: constexpr, PARTS: constexpr, DETACHED: constexpr, HIT: constexpr, SURROGATE: constexpr,
    A: constexpr, B: constexpr, LETTERS_GIVEN: constexpr, AFTER_GIVEN: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """`before` `[T, size]` keeps the potentials before each step; it may be the memory of `to_xs`."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = i < size
    if CHARGE == 2:
        leak = tl.load(share)
    own = tl.load(theta + i % period, here, 1.0)
    m = tl.load(v + i, here, 0.0)
    for step in range(steps):
        tl.store(before + step * size + i, m, here)
        u = charge(m, tl.load(xs + step * stride + i, here, 0.0).to(tl.float32), leak, rest, CHARGE)
        m = reset(u, own, fire(u, own, KIND, LEVELS, HEIGHTS, SIGNED, FLOORED), value, HARD, AT)
    none = tl.zeros_like(m)
    g, by_theta, by_share = none, none, none
    if AFTER_GIVEN:
        g = tl.load(by_after + i, here, 0.0)
    for back in range(steps):
        step = steps - 1 - back
        x = tl.load(xs + step * stride + i, here, 0.0).to(tl.float32)
        m = tl.load(before + step * size + i, here, 0.0)
        u = charge(m, x, leak, rest, CHARGE)
        r = tl.div_rn(u, own)
        s = fire(u, own, KIND, LEVELS, HEIGHTS, SIGNED, FLOORED)
        ds = none
        if LETTERS_GIVEN:
            ds = tl.load(by_letters + step * size + i, here, 0.0).to(tl.float32)
        du = g
        if not HARD and not DETACHED:
            ds -= g * own
            by_theta -= g * s
        dr = ds * slope(r, LEVELS, HEIGHTS, SIGNED, FLOORED, PARTS, DETACHED, SURROGATE, A, B)
        if HARD:
            du = tl.where(emptied(u, own, s, AT), 0.0, g)
            if not DETACHED:
                through = derivative(r - HIT, SURROGATE, A, B)
                if SIGNED:
                    through -= derivative(-r - HIT, SURROGATE, A, B)
                dr += (g * value - g * u) * through
        du += tl.div_rn(dr, own)
        by_theta -= dr * r / own
        if CHARGE == 0:
            g = leak * du
        elif CHARGE == 1:
            way = tl.div_rn(du, none + leak)
            g = du - way
            du = way
        else:
            by_share += du * (x - (m - rest))
            way = du * leak
            g = du - way
            du = way
        tl.store(to_xs + step * size + i, du, here)
    tl.store(to_v + i, g, here)
    tl.store(to_theta + i, by_theta, here)
    tl.store(to_share + i, by_share, here)
