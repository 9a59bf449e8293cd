"""A run on a device touches no other one, and waits for nothing that the device is still to compute.

PyTorch's device "meta" stands for any: its tensors have no numbers, so that to ask for one fails, and so does to mix it
with a tensor of the CPU that is more than a scalar. What waits for a device cannot be captured in a CUDA graph either.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.gate import Wait
from rheobase.inputs import each, tensors
from rheobase.state import constant
from zoo import ZOO, made

METHODS = sorted(rb.methods.NAMED)
FEW = ["resnet18", "mobilenet_v2", "vit_relu", "unet_bilinear", "text_cnn", "m5", "c3d"]
READ = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(set(ZOO) - {"lstm", *FEW}))]
LAYERS = [rb.IF, rb.LIF, rb.PLIF, rb.MultiThresholdLIF]


def away(parts: Any) -> Any:
    """The same on a device without numbers."""
    return each(lambda part: part.to("meta"), parts)


def arrives(ys: Any) -> bool:
    return all(y.device.type == "meta" for y in tensors(ys))


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name):
    method, x = rb.methods.named(name), torch.rand(4, 2, 8, 8)
    head = nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 3)
    ann = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), *head)
    net = rb.convert(ann.eval(), method, [x])[0].to("meta")
    steps = net.clock or 4
    ys, state = net(away(rb.constant(x, steps)))
    assert arrives(ys)
    if not isinstance(method.neuron.gate, Wait):
        assert arrives(net(away(rb.constant(x, steps)), state)[0])
    with torch.inference_mode():
        assert all(arrives(ys) for ys in net.present(away(x), steps))


@pytest.mark.parametrize("name", READ)
def test_every_architecture(name):
    model, x = made(name)
    net = rb.convert(model, rb.methods.opi(), [x], on_unsupported="approximate")[0].to("meta")
    xs = each(lambda part: constant(part, 2), away(x))
    ys, state = net(xs)
    assert arrives(ys)
    assert arrives(net(xs, state)[0])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"learn_threshold": True}, {"recompute": False}], ids=str)
def test_training(layer, options):
    x = torch.rand(4, 2, 8, 8)
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), layer(**options), nn.Flatten(), nn.Linear(144, 3))
    net = rb.spiking(module.train(), x).to("meta")
    ys, state = net(away(rb.constant(x, 3)))
    ys.sum().backward()
    assert all(p.grad is not None and arrives(p.grad) for p in net.parameters())
    assert arrives(net(away(rb.constant(x, 3)), state)[0])


def test_what_waits_or_mixes_is_caught():
    x = torch.ones(3, device="meta")
    with pytest.raises(RuntimeError):
        int(x.sum())
    with pytest.raises(RuntimeError):
        torch.add(x, torch.ones(3))
