"""How each library runs neurons over time: alone on drives `[T, N, ...]`, or in a network in the place of its ReLUs.

A library that is not installed, or does not run, is left out by name with the reason. In a network, `"step"` is one
call of the network for each step, as tutorials do; the others take time into the batch for everything but the neurons,
as the multi-step modes do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

import rheobase as rb


class Law(NamedTuple):
    """`u = leak * v + x`, where u >= threshold a spike and `v = u - threshold`. Backward ATan, at threshold 1."""

    threshold: float = 1.0
    leak: float = 1.0


def takes_all(law: Law) -> str:
    """Every law has such a neuron."""
    return ""


class Library(NamedTuple):
    """A way to run neurons.

    neuron: makes the layer of a law; its spikes are 0 and 1. forget: potentials of a network from 0 again. axes: what
    one call of the layer takes, a step or all with time or the batch first. same_gradient: whether its backward pass is
    that of the law. declines: why there is no such neuron, or "".
    """

    name: str
    neuron: Callable[[Law], nn.Module]
    forget: Callable[[nn.Module], object]
    axes: Literal["step", "time first", "batch first"] = "step"
    same_gradient: bool = True
    declines: Callable[[Law], str] = takes_all

    def spikes(self, layer: nn.Module, xs: Tensor | Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
        """The layer alone over all steps from rest, in as many tensors as it gives by itself."""
        self.forget(layer)
        return [layer(x) for x in xs] if self.axes == "step" else together(self.axes, layer, xs)

    def outputs(self, net: nn.Module, xs: Tensor) -> Tensor:
        """A network of `Activation`s over `[T, N, ...]` from rest: its output at each step."""
        self.forget(net)
        if self.axes == "step":
            return torch.stack([net(x) for x in xs])
        for module in net.modules():
            if isinstance(module, Activation):
                module.steps = len(xs)
        return net(xs.flatten(0, 1)).unflatten(0, (len(xs), -1))


def together(axes: str, layer: nn.Module, xs: Any) -> Tensor:
    """All steps `[T, N, ...]` in one call."""
    return layer(xs) if axes == "time first" else layer(xs.transpose(0, 1)).transpose(0, 1)


class Activation(nn.Module):
    """A library's layer in a network that is called step by step, or once with `[T * N, ...]`."""

    steps = 1

    def __init__(self, library: Library, law: Law) -> None:
        super().__init__()
        self.axes, self.threshold, self.layer = library.axes, law.threshold, library.neuron(law)

    def forward(self, x: Tensor) -> Tensor:
        if self.axes == "step":
            ys = self.layer(x)
        else:
            ys = together(self.axes, self.layer, x.unflatten(0, (self.steps, -1))).flatten(0, 1)
        return (ys if self.threshold == 1 else ys * self.threshold).to(x.dtype)


class Fire(torch.autograd.Function):
    """`H(u - threshold)`, backward the derivative of `atan(pi (u - threshold)) / pi + 1/2`."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.threshold = threshold
        return (u >= threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (u,) = ctx.saved_tensors
        return grads[0] / (1 + (math.pi * (u - ctx.threshold)).square()), None


class Loop(nn.Module):
    """Plain PyTorch: the potential is an attribute, one step a call."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law, self.v = law, None

    def forward(self, x: Tensor) -> Tensor:
        spikes, self.v = charged(self.law, self.v, x)
        return spikes


class Folded(nn.Module):
    """Plain PyTorch: `[T, N, ...]` comes in, and the loop over time is here."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law

    def forward(self, xs: Tensor) -> Tensor:
        v, found = None, []
        for x in xs:
            spikes, v = charged(self.law, v, x)
            found.append(spikes)
        return torch.cat(found).unflatten(0, (len(xs), -1))  # each step keeps its memory format


def charged(law: Law, v: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """One step: spikes, and the potential that is left."""
    if v is not None:
        x = (v if law.leak == 1 else law.leak * v) + x
    spikes: Any = Fire.apply(x, law.threshold)
    return spikes, torch.sub(x, spikes, alpha=law.threshold)


def forget_loop(net: nn.Module) -> None:
    """Potentials from 0 again."""
    for module in net.modules():
        if isinstance(module, (Loop, Stepped)):
            module.v = None


class Stepped(nn.Module):
    """The law of rheobase, one step a call: what every library that is called step by step must answer."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.layer, self.v = layer(law), None

    def forward(self, x: Tensor) -> Tensor:
        neuron, tensors = self.layer.neuron, self.layer.tensors
        y, self.v = rb.step(neuron, tensors, x, rb.init(neuron, tensors, x) if self.v is None else self.v)
        return y / self.layer.theta0


class Kernel(nn.Module):
    """A layer of rheobase on one of its kernels."""

    def __init__(self, law: Law, kernel: str) -> None:
        super().__init__()
        self.layer, self.kernel = layer(law), kernel

    def forward(self, xs: Tensor) -> Tensor:
        with rb.kernels.use(self.kernel):
            return self.layer(xs)[0]


def layer(law: Law) -> rb.LIF:
    """The neurons of a law in rheobase."""
    return rb.LIF(law.threshold, law.leak)


def remembers_nothing(net: nn.Module) -> None:
    """State is passed on, not kept."""


STEPPED = Library("rheobase, one step a call", Stepped, forget_loop)


def kernel(name: str) -> Library:
    """The neurons of rheobase on one of its kernels; spikes of 0 and 1 where the threshold is 1."""
    why = "it emits what a spike is worth"
    return Library(
        f"rheobase, {name}", lambda law: Kernel(law, name), remembers_nothing, "time first",
        declines=lambda law: "" if law.threshold == 1 else why,
    )  # fmt: skip


PLAIN = (
    Library("PyTorch, loop over steps", Loop, forget_loop),
    Library("PyTorch, time folded", Folded, remembers_nothing, "time first"),
)


def installed(name: str = "") -> Iterator[Library]:
    """Plain PyTorch and every other library that can be imported here, or only the one of a name."""
    from peers import PEERS

    found = list(PLAIN)
    for package, made in PEERS.items():
        if name and not name.startswith(package):
            continue
        try:
            found += made()
        except Exception as error:  # an old package may fail in any way on a new torch
            print(f"{package} is left out: {type(error).__name__}: {error}", flush=True)
    yield from (library for library in found if name in ("", library.name))


def libraries(law: Law = Law(), name: str = "") -> Iterator[Library]:
    """Those that have this neuron."""
    for library in installed(name):
        if why := library.declines(law):
            print(f"{library.name} is left out: {why}", flush=True)
        else:
            yield library
