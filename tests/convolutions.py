"""Convolutions of letters, and the drive that each of them must give: what tests of stages have in common."""

from __future__ import annotations

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import rheobase as rb
from rheobase import Neuron
from rheobase.kernels.convolution import Convolution
from rheobase.rounding import Rounded, rounded

CASES = [
    # channels, outputs, kernel, stride, padding, size, low, high
    (16, 16, 3, 1, 1, 8, 0, 1),
    (3, 10, 5, 2, 2, 9, -1, 1),
    (64, 70, 3, 1, 1, 6, 0, 1),
    (64, 64, 3, 2, 1, 8, -15, 15),
    (33, 7, 1, 1, 0, 5, 0, 3),
    (8, 130, 7, 1, 3, 9, -1, 1),
    (128, 40, 3, 1, 1, 4, 0, 15),
    (5, 5, 2, 3, 0, 8, 0, 127),
    (512, 20, 1, 1, 0, 1, -3, 3),
    (4, 6, 1, 1, 2, 3, 0, 1),
]
NEURONS = {
    "binary": Neuron(),
    "signed": Neuron(alphabet=rb.signed(3, floor=True), gate=rb.SentCharge()),
    "quarters": Neuron(alphabet=rb.Alphabet(levels=(0.25, 0.5, 1.0), heights=(0.25, 0.25, 0.5))),
}


NUMBERS = {
    "groups": st.integers(1, 9),
    "channels": st.integers(1, 6),
    "outputs": st.integers(1, 40),
    "kernel": st.tuples(st.integers(1, 5), st.integers(1, 5)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
    "beyond": st.tuples(st.integers(0, 2), st.integers(0, 2)),
    "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "ends": st.sampled_from([(0, 1), (-1, 1), (0, 15), (-15, 15), (0, 127)]),
    "seed": st.integers(0, 999),
}


def letters(shape: tuple[int, ...], low: int, high: int, density: float = 0.4) -> Tensor:
    """int8 `[N, T, H, W, C]`."""
    return ((torch.rand(shape) < density) * torch.randint(low, high + 1, shape)).to(torch.int8)


def whole(made: Rounded, stride: int, pad: int, low: int, high: int) -> Convolution:
    return Convolution(made.whole, made.scale, made.bias, (stride, stride), (pad, pad), (1, 1), low, high)


def driven(x: Tensor, weight: Tensor, bias: Tensor, stride: int, pad: int) -> Tensor:
    """The drive `[T, N, C, H, W]` in float64, rounded once."""
    steps = x.double().permute(1, 0, 4, 2, 3)
    return torch.stack([F.conv2d(step, weight.double(), bias.double(), stride, pad) for step in steps]).float()


def grouped(weight: Tensor, scale: Tensor, bias: Tensor, x: Tensor, n: dict) -> tuple[Convolution, Tensor]:
    """A convolution of groups with a rim that is wider below and to the right, and its drive."""
    (low, high), groups = n["ends"], n["groups"]
    conv = Convolution(weight, scale, bias, n["stride"], n["padding"], n["dilation"], low, high, groups)
    (above, left), (below, right) = n["padding"], (p + b for p, b in zip(n["padding"], n["beyond"], strict=True))
    real = weight.double() * scale.double().reshape(-1, 1, 1, 1)
    steps = F.pad(x.double().permute(1, 0, 4, 2, 3), (left, right, above, below))
    drive = [F.conv2d(step, real, bias.double(), n["stride"], 0, n["dilation"], groups) for step in steps]
    return conv, torch.stack(drive).float()


def drawn(n: dict, each: bool) -> tuple[Tensor, Convolution, Tensor]:
    """Letters, a convolution of whole weights by `NUMBERS` and its drive; `each`: depthwise, up to 80 channels."""
    if each:
        n |= {"groups": n["outputs"] * 2, "channels": 1, "outputs": 1}
    assume(fits(n))
    torch.manual_seed(n["seed"])
    channels, outputs = n["groups"] * n["channels"], n["groups"] * n["outputs"]
    x = letters((2, 2, *n["size"], channels), *n["ends"])
    made = rounded(torch.randn(outputs, n["channels"], *n["kernel"]) / 3, torch.randn(outputs), *n["ends"])
    return x, *grouped(made.whole, made.scale, made.bias, x, n)


def fits(n: dict) -> bool:
    """Whether the kernel fits into the map with its rim."""
    every = zip(n["size"], n["padding"], n["beyond"], n["dilation"], n["kernel"], strict=True)
    return all(size + 2 * pad + more > d * (k - 1) for size, pad, more, d, k in every)
