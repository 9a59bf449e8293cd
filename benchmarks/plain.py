"""The same network for every library: batch norm folded into the convolutions, a neuron in the place of each ReLU."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.ao.quantization as quantization
from accuracy import Spelled, spelled
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import rheobase as rb
from rheobase.data import cifar10
from rheobase.nets import VGG16, Plain
from rheobase.nets.cifar_resnet import Block


def resnet18() -> nn.Module:
    """ResNet-18 for 32 x 32 images: where the size changes, the shortcut is a 1 x 1 convolution with batch norm."""
    blocks: list[nn.Module] = []
    for channels, out in pairwise((64, 64, 128, 256, 512)):
        first, second = Spelled(Block(channels, out, nn.ReLU)), Spelled(Block(out, out, nn.ReLU))
        if channels != out:
            first.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, 2, bias=False), nn.BatchNorm2d(out))
        blocks += [first, second]
    stem = (nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))


MADE: dict[str, Callable[[], nn.Module]] = {
    "vgg16": lambda: VGG16.made((3, 32, 32), 10, nn.ReLU),
    "resnet18": resnet18,
    "tiny": lambda: Plain(layers="8C3-P2-8C3-G").made((3, 8, 8), 10, nn.ReLU),
}
"""Networks with random weights, by name."""


def images(name: str, count: int) -> Tensor:
    """The first training images of CIFAR-10; for the tiny network, noise of 8 x 8."""
    if name == "tiny":
        return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return cifar10("train", limit=count)[0]


def network(name: str) -> nn.Module:
    """ResNet-20 with its published weights, or one of MADE with random ones, in eval mode."""
    if name == "resnet20":
        return spelled(name)
    torch.manual_seed(0)
    return spread_norms(MADE[name]()).eval()


def spread_norms(model: nn.Module) -> nn.Module:
    """Batch norms spread as in trained networks, so that rates are like theirs."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, -0.2, 0.3)
    return model


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Batch norms with the statistics of these images, for random weights."""
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(images)
    return model.eval()


def with_neurons(model: nn.Module, thresholds: list[float], activation: Callable[[float], nn.Module]) -> nn.Module:
    """A copy, channels last, with batch norm folded into the convolutions and `activation(threshold)` for each ReLU."""
    left = iter(thresholds)

    def replaced(module: nn.Module) -> nn.Module:
        names = list(module._modules)
        for name in names:
            child = module._modules[name]
            if isinstance(child, nn.ReLU):
                setattr(module, name, activation(next(left)))
            elif child is not None:
                replaced(child)
        children = list(module.named_children())
        for (first, conv), (name, norm) in pairwise(children):
            if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, name, nn.Identity())
        return module

    return channels_last(replaced(copy.deepcopy(model)).eval())


class Joined(nn.Module):
    """A block whose batch norms are folded, with the sum as a module, which PyTorch's quantisation asks for."""

    def __init__(self, block: Spelled) -> None:
        super().__init__()
        self.conv1, self.relu1 = block.conv1, block.relu1
        self.conv2, self.shortcut = block.conv2, block.shortcut
        self.sum: Any = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.sum.add_relu(self.conv2(self.relu1(self.conv1(x))), self.shortcut(x))


def quantised(ann: nn.Module, images: Tensor) -> nn.Module:
    """A `Sequential` without batch norms in 8 bits on PyTorch's own kernels; ranges are those of these images."""
    kept: list[Any] = [child for child in ann.children() if not isinstance(child, nn.Identity)]
    kept = [Joined(child) if isinstance(child, Spelled) else child for child in kept]
    net: Any = nn.Sequential(quantization.QuantStub(), *copy.deepcopy(kept), quantization.DeQuantStub()).eval()
    pairs = [[f"{name}.conv1", f"{name}.relu1"] for name, child in net.named_children() if isinstance(child, Joined)]
    for (first, conv), (second, relu) in pairwise(net.named_children()):
        if isinstance(conv, nn.Conv2d) and isinstance(relu, nn.ReLU):
            pairs.append([first, second])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = quantization.fuse_modules(net, pairs)
        net.qconfig = quantization.get_default_qconfig("x86")
        ready = quantization.prepare(net)
        ready(images)
        return quantization.convert(ready)


def channels_last(net: nn.Module) -> nn.Module:
    """The same network, the weights of its convolutions as they are read fastest."""
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return net


def converted(model: nn.Module, images: Tensor, percentile: float = 99.9) -> tuple[rb.SpikingNet, list[float]]:
    """rheobase's own network, thresholds at that percentile from a zero start, and those thresholds in order."""
    net, report = rb.convert(model, rb.methods.percentile(percentile), [images])
    return net, [layer.theta0[1] for layer in report.layers]
