"""Every architecture people bring: its graph computes what it computes, and its spiking network tends to it with T."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.inputs import each, tensors
from rheobase.trace import trace
from zoo import ZOO, made

METHOD = rb.Method(
    threshold=rb.Fixed(1 / 16),
    initial=rb.Half(),
    alphabet=rb.signed(64, floor=True),
    gate=rb.SentCharge(),
)
"""Letters of a sixteenth of the largest activation, taken back where they came too early: the error falls as 1 / T."""
STEPS = 128
BOUNDS = {"mobilenet_v3": 20.0, "efficientnet": 40.0}
"""The error after T steps is below bound / T, 10 / T where none is given. Gates multiply early errors: two are slow."""

EXPECTED_REFUSED: dict[str, set[str]] = {"lstm": {"LSTM"}}
"""What cannot be read, by architecture: what takes the answer of a recurrent layer."""
BLOCK = {"function gelu", "LayerNorm"}
EXPLICIT = {"MatMul", "Softmax"}
INEXACT: dict[str, set[str]] = {
    "regnet": {"function sigmoid", "Multiply"},
    "mobilenet_v3": {"function hardswish", "function hardsigmoid", "Multiply"},
    "efficientnet": {"function silu", "function sigmoid", "Multiply"},
    "convnext": BLOCK,
    "vit_torchvision": {*BLOCK, "Attention"},
    "vit_timm": {*BLOCK, "Attention"},
    "vit_timm_explicit": BLOCK | EXPLICIT,
    "vit_relu": {"LayerNorm"} | EXPLICIT,
    "swin": BLOCK | EXPLICIT,
    "swin_torchvision": BLOCK | EXPLICIT,
    "m5_log_softmax": {"Softmax"},
}
"""What is read but has no exact spiking counterpart: refused, unless `on_unsupported` says otherwise."""
READ = sorted(set(ZOO) - set(EXPECTED_REFUSED))


def refused(model: nn.Module, x: Any, policy: Any) -> set[str]:
    """The operations that a conversion refuses, each with its node and line."""
    try:
        rb.convert(model, METHOD, [x], on_unsupported=policy)
    except rb.ConversionError as error:
        return {
            operation or node
            for node, operation in re.findall(r"'([\w.-]+)'(?: \((.+?)\))? at zoo\w*\.py:\d+", str(error))
        }
    return set()


def errors(ys: Any, answer: Any, steps: int) -> float:
    """The mean error after `steps` steps by what tells one sample from another, of the worst answer."""
    parts = zip(tensors(ys), tensors(answer), strict=True)
    return max(float((y[steps - 1] - a).abs().mean() / (a - a.mean(0)).abs().mean()) for y, a in parts)


def answers(model: nn.Module, x: Any) -> Any:
    """What the model answers; dicts and tuples stay as they are."""
    with torch.no_grad():
        return model(x)


def spiking(model: nn.Module, x: Any, policy: Any) -> Any:
    """The readout of every step."""
    snn, _ = rb.convert(model, METHOD, [x], on_unsupported=policy)
    with torch.no_grad():
        return snn(each(lambda part: rb.constant(part, STEPS), x))[0]


def tends(ys: Any, answer: Any, bound: float = 10.0) -> bool:
    """Whether the error stays below its bound and falls with T; exactly 1 / T would be to an eighth."""
    found = {steps: errors(ys, answer, steps) for steps in (16, 32, 64, 128)}
    return all(found[t] < bound / t for t in (32, 64, 128)) and found[128] < found[16] / 4


@pytest.mark.parametrize("name", READ)
def test_the_graph_computes_what_the_model_computes(name):
    model, x = made(name)
    answer = answers(model, x)
    with torch.no_grad():
        found = trace(model, x)(x)
    if isinstance(answer, dict):
        assert list(found) == list(answer)
    for y, a in zip(tensors(found), tensors(answer), strict=True):
        assert y.shape == a.shape
        assert float((y - a).abs().max() / a.abs().max()) < 2e-5
    for y, a in zip(tensors(answers(model, x)), tensors(answer), strict=True):
        assert torch.equal(y, a)


@pytest.mark.parametrize("name", READ)
def test_the_spiking_network_tends_to_the_model(name):
    model, x = made(name)
    ys, answer = spiking(model, x, "approximate" if name in INEXACT else "error"), answers(model, x)
    assert tends(ys, answer, BOUNDS.get(name, 10.0)), [errors(ys, answer, t) for t in (16, 32, 64, 128)]


@pytest.mark.parametrize("name", sorted(set(INEXACT) - {"swin_torchvision"}))  # as swin, and slow to capture
def test_what_has_no_exact_counterpart_is_refused_by_name_and_line(name):
    assert refused(*made(name), "error") == INEXACT[name]


@pytest.mark.parametrize("name", EXPECTED_REFUSED)
def test_what_cannot_be_read_is_refused_by_name_and_line(name):
    assert refused(*made(name), "keep") == EXPECTED_REFUSED[name]


def test_a_recurrent_layer_is_refused_with_advice():
    model, x = made("lstm")
    with pytest.raises(rb.ConversionError, match=r"(?s)recurrent layer has a time of its own.*train a spiking network"):
        rb.convert(model, METHOD, [x])


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_the_limit_tells_a_wrong_weight(scale):
    """One of 19 convolutions off by a tenth: the spiking network does not tend to that."""
    model, x = made("mobilenet_v2")
    ys = spiking(model, x, "error")
    assert tends(ys, answers(model, x))
    wrong = model.get_submodule("features.3.conv.1.0")
    assert isinstance(wrong, nn.Conv2d)
    with torch.no_grad():
        wrong.weight *= scale
    assert not tends(ys, answers(model, x))
