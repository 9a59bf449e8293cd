"""The networks for training: shapes, the papers' layers, residuals, images of 224 x 224, events; all of it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase import nets, ops
from rheobase.nets import MS, SEW, Plain, SpikingResNet


def plif() -> nn.Module:
    return rb.MultiThresholdLIF(
        levels=4, leak=rb.LearnedDecay(2.0), surrogate=rb.ATan(), reset=rb.Subtract(detach=True)
    )


def built(architecture: nets.Architecture, shape: tuple[int, ...], classes: int = 10) -> rb.SpikingNet:
    torch.manual_seed(0)
    return rb.spiking(architecture.made(shape, classes, plif), torch.zeros(2, *shape))


def widths(net: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in net.parameters() if p.ndim > 1]


@pytest.mark.parametrize(
    ("architecture", "shape", "expected"),
    [
        (nets.MT_LIF_MNIST, (1, 28, 28), [(15, 1, 5, 5), (40, 15, 5, 5), (300, 640), (10, 300)]),
        (nets.MT_LIF_FASHION, (1, 28, 28), [(32, 1, 5, 5), (64, 32, 5, 5), (1024, 3136), (10, 1024)]),
        (
            nets.MT_LIF_CIFAR10,
            (3, 32, 32),
            [
                *[(96, 3, 3, 3), (256, 96, 3, 3), (384, 256, 3, 3), (384, 384, 3, 3), (256, 384, 3, 3)],
                *[(1024, 16384), (1024, 1024), (10, 1024)],
            ],
        ),
    ],
    ids=["mnist", "fashion", "cifar10"],
)
def test_the_three_networks_have_the_layers_of_their_notation(architecture, shape, expected):
    with torch.device("meta"):
        net = architecture.made(shape, 10, nn.ReLU)
        assert net(torch.zeros(2, *shape)).shape == (2, 10)
    assert widths(net) == expected


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.parametrize("residual", [SEW(), MS()], ids=["SEW", "MS"])
def test_a_resnet_has_its_depth(depth, residual):
    with torch.device("meta"):
        net = SpikingResNet(depth=depth, residual=residual).made((3, 224, 224), 1000, nn.ReLU)
        assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    main = [shape for shape in widths(net) if shape[-1:] != (1,)]
    assert len(main) == depth
    assert main[0] == (64, 3, 7, 7)


SMALL = {
    "SEW": (SpikingResNet(width=4, residual=SEW()), (3, 16, 16)),
    "MS": (SpikingResNet(width=4, residual=MS()), (3, 16, 16)),
    "SEW, large images": (SpikingResNet(width=2, residual=SEW()), (3, 224, 224)),
    "MS, large images": (SpikingResNet(width=2, residual=MS()), (3, 224, 224)),
    "VGG-11": (Plain(layers="4C3-P2-4C3-P2-8C3-8C3-P2-8C3-8C3-P2-8C3-8C3-G"), (3, 32, 32)),
    "events": (Plain(layers="4C3-P2-8C3-M2-8C3-G"), (2, 16, 16)),
}


@pytest.mark.parametrize(("architecture", "shape"), SMALL.values(), ids=SMALL)
def test_it_trains_over_time_and_deploys(architecture, shape):
    net = built(architecture, shape).train()
    xs = torch.rand(2, 2, *shape)
    ys, _ = net(xs)
    assert ys.shape == (2, 2, 10)
    nn.functional.cross_entropy(ys[-1], torch.tensor([1, 2])).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.abs().sum())]
    assert silent == []
    small = rb.folded(net.eval())
    assert not any(isinstance(node.op, ops.BatchNorm) for node in small.graph_nodes)
    assert small(xs)[0].shape == ys.shape


def test_ms_residuals_give_every_convolution_letters_alone():
    """All but the first, which reads the image: what reaches a convolution is 0, 1/4, ... 1 of each neuron."""
    net = built(SMALL["MS"][0], (3, 16, 16)).eval()
    seen: dict[str, torch.Tensor] = {}

    def visit(at) -> None:
        if isinstance(at.node.op, ops.Conv):
            seen[at.node.name] = at.xs[0]

    with torch.no_grad():
        net.run(torch.rand(2, 2, 3, 16, 16), None, visit)
    shortcuts = {name for name in seen if "shortcut" in name}  # they read potentials, as the paper has them
    inner = [xs for name, xs in seen.items() if name not in shortcuts][1:]
    assert len(inner) == 16
    for xs in inner:
        assert torch.equal(xs * 4, (xs * 4).round())
        assert float(xs.max()) <= 1


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("15C5-Q2", "'Q2' .* is no layer"),
        ("", "no layer"),
        ("4C3-P2-P2-P2-P2", "leaves nothing"),
        ("4C9", "leaves nothing"),
    ],
)
def test_notations_that_make_no_network_are_refused(layers, says):
    with pytest.raises(rb.SpecError, match=says):
        Plain(layers=layers, padded=False).made((1, 8, 8), 10, nn.ReLU)
    with pytest.raises(rb.SpecError, match="depth '50'"):
        SpikingResNet(depth=50)
