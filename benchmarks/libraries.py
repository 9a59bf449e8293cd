"""How each library runs a network for T steps: integrate-and-fire neurons, soft reset, the sum of the outputs.

A library that is not installed, or does not run, is left out by name. `step` calls the network once for each step, as
tutorials do; `folded` takes time into the batch for everything but the neurons, as the multi-step modes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Made = Callable[[float], nn.Module]
Run = Callable[[nn.Module, Tensor, int], Tensor]


class Loop(nn.Module):
    """Plain PyTorch: the potential is an attribute, one step a call."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold, self.v = threshold, None

    def forward(self, x: Tensor) -> Tensor:
        v = x if self.v is None else self.v + x
        spikes = (v >= self.threshold).to(x.dtype) * self.threshold
        self.v = v - spikes
        return spikes


class Folded(nn.Module):
    """Plain PyTorch: `[T * N, ...]` comes in, and the loop over time is here."""

    steps = 1

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        xs, found = x.unflatten(0, (self.steps, -1)), []
        v = torch.zeros_like(xs[0])
        for drive in xs:
            v = v + drive
            spikes = (v >= self.threshold).to(x.dtype) * self.threshold
            v = v - spikes
            found.append(spikes)
        return torch.cat(found)


class MultiStep(nn.Module):
    """A library's neuron that wants `[T, N, ...]` in a network that is folded; spikes in units of the threshold."""

    steps = 1

    def __init__(self, node: nn.Module, threshold: float) -> None:
        super().__init__()
        self.node, self.threshold = node, threshold

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x.unflatten(0, (self.steps, -1))).flatten(0, 1) * self.threshold


class SingleStep(nn.Module):
    """A library's neuron, its spikes in units of the threshold."""

    def __init__(self, node: nn.Module, threshold: float) -> None:
        super().__init__()
        self.node, self.threshold = node, threshold

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x) * self.threshold


def step(forget: Callable[[nn.Module], object]) -> Run:
    """One call for each step."""

    def run(net: nn.Module, x: Tensor, steps: int) -> Tensor:
        forget(net)
        total = net(x)
        for _ in range(steps - 1):
            total = total + net(x)
        return total

    return run


def folded(forget: Callable[[nn.Module], object]) -> Run:
    """All steps in one call."""

    def run(net: nn.Module, x: Tensor, steps: int) -> Tensor:
        forget(net)
        for module in net.modules():
            if isinstance(module, (Folded, MultiStep)):
                module.steps = steps
        return net(x.repeat(steps, *(1,) * (x.ndim - 1))).unflatten(0, (steps, -1)).sum(0)

    return run


def forget_plain(net: nn.Module) -> None:
    """Potentials from 0 again."""
    for module in net.modules():
        if isinstance(module, Loop):
            module.v = None


def libraries() -> Iterator[tuple[str, Made, Run]]:
    """Name, neuron and way to run of all that are installed."""
    yield "PyTorch, loop over steps", Loop, step(forget_plain)
    yield "PyTorch, time folded", Folded, folded(lambda net: None)
    try:
        from spikingjelly.activation_based import functional, neuron  # pyright: ignore[reportMissingImports]

        def jelly(mode: str) -> Made:
            wrapper = SingleStep if mode == "s" else MultiStep
            return lambda threshold: wrapper(
                neuron.IFNode(v_threshold=threshold, v_reset=None, step_mode=mode), threshold
            )

        yield "spikingjelly, single-step", jelly("s"), step(functional.reset_net)
        yield "spikingjelly, multi-step", jelly("m"), folded(functional.reset_net)
    except ImportError:
        print("spikingjelly is not installed", flush=True)
    try:
        import snntorch  # pyright: ignore[reportMissingImports]
        from snntorch import utils  # pyright: ignore[reportMissingImports]

        def leaky(threshold: float) -> nn.Module:
            node = snntorch.Leaky(beta=1.0, threshold=threshold, reset_mechanism="subtract", init_hidden=True)
            return SingleStep(node, threshold)

        yield "snntorch", leaky, step(utils.reset)
    except ImportError:
        print("snntorch is not installed", flush=True)
    try:
        import sinabs.activation  # pyright: ignore[reportMissingImports]
        import sinabs.layers  # pyright: ignore[reportMissingImports]

        def sinabs_neuron(threshold: float) -> nn.Module:
            node = sinabs.layers.IAF(
                spike_threshold=torch.tensor(threshold), spike_fn=sinabs.activation.SingleSpike, min_v_mem=None
            )
            return Transposed(node, threshold)

        yield "sinabs", sinabs_neuron, folded(forget_sinabs)
    except ImportError:
        print("sinabs is not installed", flush=True)


class Transposed(MultiStep):
    """A neuron that wants `[N, T, ...]`."""

    def forward(self, x: Tensor) -> Tensor:
        xs = x.unflatten(0, (self.steps, -1)).transpose(0, 1)
        return self.node(xs).transpose(0, 1).flatten(0, 1) * self.threshold


def forget_sinabs(net: nn.Module) -> None:
    """Potentials from 0 again."""
    for module in net.modules():
        if hasattr(module, "reset_states"):
            module.reset_states()  # type: ignore[operator]
