"""Who runs a neuron: an ordered list of kernels, the first that does not decline runs; the reference is last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron
from . import reference


class Kernel(NamedTuple):
    """A way to run a neuron for T steps.

    declines: why this kernel does not take a neuron, or "" if it does.
    """

    name: str
    run: Callable[[Neuron, Tensors, Tensor, Membrane | None], tuple[Emission, Membrane]]
    declines: Callable[[Neuron], str]


KERNELS: list[Kernel] = [Kernel("reference", reference.run, reference.declines)]


def choose(neuron: Neuron) -> Kernel:
    """The first kernel of the list that takes the neuron."""
    return next(kernel for kernel in KERNELS if not kernel.declines(neuron))


class Choice(NamedTuple):
    """Which kernel runs a layer, and why those before it do not."""

    kernel: str
    declined: dict[str, str]


class _Spiking(Protocol):
    def sites(self) -> Iterator[tuple[str, Neuron]]: ...


def explain(net: _Spiking, images: Tensor | None = None) -> dict[str, Choice]:
    """For each spiking layer of a network the kernel that runs it, and the reason of every kernel that declines.

    images: an example input; kernels that look at shapes or devices may need it.
    """
    return {
        name: Choice(choose(neuron).name, {k.name: why for k in KERNELS if (why := k.declines(neuron))})
        for name, neuron in net.sites()
    }
