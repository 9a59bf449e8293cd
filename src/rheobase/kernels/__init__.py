"""Who runs a neuron: an ordered list of kernels, the first that does not decline runs; the reference is last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron
from . import cpu, reference


class Kernel(NamedTuple):
    """A way to run a neuron for T steps.

    declines(neuron, tensors, xs): why this kernel does not take such a run, or "" if it does; without tensors and
    drives, why it never takes the neuron.
    """

    name: str
    run: Callable[[Neuron, Tensors, Tensor, Membrane | None], tuple[Emission, Membrane]]
    declines: Callable[[Neuron, Tensors | None, Tensor | None], str]


KERNELS: list[Kernel] = [
    Kernel("cpu", cpu.run, cpu.declines),
    Kernel("reference", reference.run, reference.declines),
]


def choose(neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None) -> Kernel:
    """The first kernel of the list that takes the run."""
    return next(kernel for kernel in KERNELS if not kernel.declines(neuron, tensors, xs))


class Choice(NamedTuple):
    """Which kernel runs a layer, and why others do not."""

    kernel: str
    declined: dict[str, str]


class _Spiking(Protocol):
    def sites(self) -> Iterator[tuple[str, Neuron]]: ...
    def present(self, x: Tensor, steps: int, visit: Callable[[Any], None]) -> Iterator[Tensor]: ...
    def tensors(self, name: str) -> Tensors: ...


@runtime_checkable
class _Compiled(Protocol):
    def explain(self) -> tuple[Any, ...]: ...


def explain(net: _Spiking | _Compiled, images: Tensor | None = None) -> dict[str, Choice]:
    """For each spiking layer of a network the kernel that runs it, and the reason of every kernel that declines.

    images: an example input `[N, ...]`; kernels look at dtype, device and layout, and it is run for one step. A
    compiled network knows what runs each of its layers without one.
    """
    if isinstance(net, _Compiled):
        return {layer.name: Choice(layer.kernel, layer.declined) for layer in net.explain()}
    asked: dict[str, tuple[Neuron, Tensors | None, Tensor | None]] = {
        n: (neuron, None, None) for n, neuron in net.sites()
    }

    def see(visit: Any) -> None:
        if visit.node.name in asked:
            asked[visit.node.name] = (visit.node.op.neuron, net.tensors(visit.node.name), visit.xs[0])

    if images is not None:
        list(net.present(images, 1, see))
    return {name: _choice(*question) for name, question in asked.items()}


def _choice(neuron: Neuron, tensors: Tensors | None, xs: Tensor | None) -> Choice:
    declined: dict[str, str] = {}
    for kernel in KERNELS:
        if not (why := kernel.declines(neuron, tensors, xs)):
            return Choice(kernel.name, declined)
        declined[kernel.name] = why
    raise AssertionError("the reference declines nothing")
