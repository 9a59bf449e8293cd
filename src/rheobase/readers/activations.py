"""Activations: the rectifiers, which become neurons, and other functions of one number."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import ops
from ..modules import QCFS, Clip
from .call import Call, Lowered, Refusal, reads


@reads(nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
def relu(call: Call) -> Lowered:
    return ops.Rectify(), {}, call.inputs


@reads(nn.ReLU6, F.relu6)
def relu6(call: Call) -> Lowered:
    return ops.Rectify(bound=6.0), {}, call.inputs


@reads(nn.Threshold, F.threshold)
def threshold(call: Call) -> Lowered:
    if call.option("threshold", 1) != 0 or call.option("value", 2) != 0:
        raise Refusal("it jumps where it begins", "nn.ReLU")
    return ops.Rectify(), {}, call.inputs


@reads(nn.Hardtanh, F.hardtanh, F.hardtanh_)
def hardtanh(call: Call) -> Lowered:
    return _clip(call, call.option("min_val", 1, -1.0), call.option("max_val", 2, 1.0))


@reads(torch.clamp, torch.clamp_, torch.clip, torch.clip_, "clamp", "clamp_", "clip", "clip_")
def clamp(call: Call) -> Lowered:
    return _clip(call, call.option("min", 1), call.option("max", 2))


@reads("clamp_min", "clamp_min_", torch.clamp_min, torch.clamp_min_)
def clamp_min(call: Call) -> Lowered:
    return _clip(call, call.option("min", 1), None)


@reads("clamp_max", "clamp_max_", torch.clamp_max, torch.clamp_max_)
def clamp_max(call: Call) -> Lowered:
    return _clip(call, None, call.option("max", 1))


def _clip(call: Call, low: Any, high: Any) -> Lowered:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise Refusal("its bounds are tensors", "bounds that are numbers")
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if low == 0 and high > 0:
        return ops.Rectify(bound=None if high == math.inf else high), {}, call.inputs
    return ops.Function("clip", (low, high)), {}, call.inputs


@reads(Clip)
def learned_clip(call: Call) -> Lowered:
    clip: Any = call.module
    return ops.Rectify(bound=clip.bound.item()), {}, call.inputs


@reads(QCFS)
def qcfs(call: Call) -> Lowered:
    quantiser: Any = call.module
    return ops.Rectify(bound=quantiser.bound.item(), levels=quantiser.levels), {}, call.inputs


@reads(nn.LeakyReLU, F.leaky_relu, F.leaky_relu_)
def leaky_relu(call: Call) -> Lowered:
    return ops.Function("leaky_relu", (float(call.option("negative_slope", 1, 0.01)),)), {}, call.inputs


@reads(nn.PReLU, F.prelu)
def prelu(call: Call) -> Lowered:
    call.batched()
    return ops.Function("prelu"), {"weight": call.option("weight", 1)}, call.inputs


@reads(nn.ELU, F.elu, F.elu_)
def elu(call: Call) -> Lowered:
    return ops.Function("elu", (float(call.option("alpha", 1, 1.0)),)), {}, call.inputs


@reads(nn.CELU, F.celu, F.celu_)
def celu(call: Call) -> Lowered:
    return ops.Function("celu", (float(call.option("alpha", 1, 1.0)),)), {}, call.inputs


@reads(nn.GELU, F.gelu)
def gelu(call: Call) -> Lowered:
    return ops.Function("gelu_tanh" if call.option("approximate", 1, "none") == "tanh" else "gelu"), {}, call.inputs


@reads(nn.Softplus, F.softplus)
def softplus(call: Call) -> Lowered:
    constants = float(call.option("beta", 1, 1.0)), float(call.option("threshold", 2, 20.0))
    return ops.Function("softplus", constants), {}, call.inputs


@reads(operator.pow, torch.pow, "pow", "__pow__")
def power(call: Call) -> Lowered:
    names = {2: "square", 0.5: "sqrt", -0.5: "rsqrt"}
    exponent = call.option("exponent", 1)
    if isinstance(exponent, Tensor) or exponent not in names:
        raise Refusal(f"the power {exponent} is not read", "x ** 2")
    return ops.Function(names[exponent]), {}, call.inputs


PLAIN = {
    "selu": (nn.SELU, F.selu, F.selu_),
    "silu": (nn.SiLU, F.silu),
    "mish": (nn.Mish, F.mish),
    "hardswish": (nn.Hardswish, F.hardswish),
    "sigmoid": (nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid", "sigmoid_"),
    "hardsigmoid": (nn.Hardsigmoid, F.hardsigmoid),
    "tanh": (nn.Tanh, torch.tanh, F.tanh, "tanh", "tanh_"),
    "softsign": (nn.Softsign, F.softsign),
    "abs": (torch.abs, "abs"),
    "square": (torch.square, "square"),
    "sqrt": (torch.sqrt, "sqrt"),
    "rsqrt": (torch.rsqrt, "rsqrt"),
    "exp": (torch.exp, "exp"),
}
"""Functions without constants."""


def _plain(name: str) -> None:
    @reads(*PLAIN[name])
    def function(call: Call) -> Lowered:
        return ops.Function(name), {}, call.inputs


for _name in PLAIN:
    _plain(_name)
