"""Neurons beside those of spikingjelly and snntorch, where the definitions coincide; skipped without them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.testing import dyadic

jelly: Any
jelly_surrogate: Any
snntorch: Any
snn_surrogate: Any
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        from spikingjelly.activation_based import neuron as jelly  # type: ignore[import-not-found]
        from spikingjelly.activation_based import surrogate as jelly_surrogate  # type: ignore[import-not-found]
    except ImportError:
        jelly = jelly_surrogate = None
    try:
        import snntorch  # type: ignore[import-not-found]
        from snntorch import surrogate as snn_surrogate  # type: ignore[import-not-found]
    except ImportError:
        snntorch = snn_surrogate = None

XS = dyadic(12, 4, 50, seed=7, low=-1, high=3)
GRADS = dyadic(12, 4, 50, seed=8)
PAIRS = {"atan": (rb.ATan(2.0), "ATan", 2.0), "sigmoid": (rb.Sigmoid(0.25), "Sigmoid", 4.0)}


def ours(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Spikes, last potential, gradient by the drives and by the parameters."""
    xs = XS.clone().requires_grad_(True)
    ys, memory = layer(xs)
    (ys * GRADS).sum().backward()
    assert xs.grad is not None
    return ys.detach(), memory.v.detach(), xs.grad, [p.grad for p in layer.parameters() if p.grad is not None]


def theirs(node: Any, step: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    xs = XS.clone().requires_grad_(True)
    ys = torch.stack([step(node, x) for x in xs])
    (ys * GRADS).sum().backward()
    assert xs.grad is not None
    return ys.detach(), node.v.detach(), xs.grad, [p.grad for p in node.parameters() if p.grad is not None]


@pytest.mark.skipif(jelly is None, reason="spikingjelly is not installed")
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("surrogate", PAIRS)
@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "LIFNode without input decay", "ParametricLIFNode"])
def test_trajectories_and_gradients_are_those_of_spikingjelly(kind, surrogate, hard, detach):
    h, name, alpha = PAIRS[surrogate]
    reset = rb.ToValue(0.0, detach=detach) if hard else rb.Subtract(detach=detach)
    options: dict[str, Any] = {"surrogate": h, "reset": reset}
    layer = {
        "IFNode": lambda: rb.IF(**options),
        "LIFNode": lambda: rb.LIF(leak=rb.Decay(2.0), **options),
        "LIFNode without input decay": lambda: rb.LIF(leak=0.5, **options),
        "ParametricLIFNode": lambda: rb.PLIF(tau=2.0, **options),
    }[kind]()
    made, _, without = kind.partition(" ")
    given: dict[str, Any] = {"surrogate_function": getattr(jelly_surrogate, name)(alpha), "detach_reset": detach}
    given |= {"v_reset": 0.0 if hard else None} | ({"decay_input": False} if without else {})
    ys, v, grad, learned = ours(layer)
    their_ys, their_v, their_grad, their_learned = theirs(getattr(jelly, made)(**given), lambda node, x: node(x))
    assert torch.equal(ys, their_ys)
    assert ys.sum() > 100
    assert torch.equal(v, their_v)
    torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-6)
    assert len(learned) == len(their_learned) == (made == "ParametricLIFNode")
    for a, b in zip(learned, their_learned, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def leaky(node: Any, x: Tensor) -> Tensor:
    spikes, node.v = node(x, getattr(node, "v", torch.zeros_like(x)))
    return spikes


SNN = {"atan": (rb.ATan(2.0), lambda: snn_surrogate.atan(alpha=2.0)),
       "sigmoid": (rb.Sigmoid(0.25), lambda: snn_surrogate.sigmoid(slope=4))}  # fmt: skip


@pytest.mark.skipif(snntorch is None, reason="snntorch is not installed")
@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("hard", [False, True], ids=["subtract", "zero"])
@pytest.mark.parametrize("surrogate", SNN)
def test_trajectories_and_gradients_are_those_of_snntorch_with_a_reset_in_the_same_step(
    surrogate, hard, beta, monkeypatch
):
    """Drives below the threshold and off every tie: snntorch fires above it, not at it, and looks at it again."""
    monkeypatch.setitem(globals(), "XS", XS.abs() / 4 + 1 / 4096)
    h, made = SNN[surrogate]
    layer = rb.LIF(leak=beta, surrogate=h, reset=rb.ToValue(0.0) if hard else rb.Subtract())
    node = snntorch.Leaky(
        beta=beta, spike_grad=made(), reset_mechanism="zero" if hard else "subtract", reset_delay=False
    )
    ys, v, grad, _ = ours(layer)
    their_ys, their_v, their_grad, _ = theirs(node, leaky)
    assert torch.equal(ys, their_ys)
    assert ys.sum() > 100
    torch.testing.assert_close(v, their_v)
    torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(snntorch is None, reason="snntorch is not installed")
@pytest.mark.parametrize("surrogate", SNN)
def test_the_delayed_reset_of_snntorch_is_a_detached_one_for_if_neurons(surrogate, monkeypatch):
    monkeypatch.setitem(globals(), "XS", XS.abs() / 4 + 1 / 4096)
    h, made = SNN[surrogate]
    ys, _, grad, _ = ours(rb.IF(surrogate=h, reset=rb.Subtract(detach=True)))
    their_ys, _, their_grad, _ = theirs(snntorch.Leaky(beta=1.0, spike_grad=made()), leaky)
    assert torch.equal(ys, their_ys)
    torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-6)
