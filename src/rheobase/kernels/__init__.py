"""Who runs a neuron: an ordered list of kernels, the first that does not decline runs; the reference is last.

`use` asks for one by name instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import KernelError
from ..membrane import Membrane, Tensors
from ..neuron import Emission, Neuron
from . import compiled, cpu, reference, triton
from .named import asked
from .named import use as use


class Kernel(NamedTuple):
    """A way to run a neuron for T steps.

    declines(neuron, tensors, xs, m): why this kernel does not take such a run, or "" if it does; without tensors and
    drives, why it never takes the neuron. A kernel that takes a run of which a gradient may be asked has that gradient.
    only_asked: why it takes no run by itself but only where `use` names it, or "".
    """

    name: str
    run: Callable[[Neuron, Tensors, Tensor, Membrane | None], tuple[Emission, Membrane]]
    declines: Callable[[Neuron, Tensors | None, Tensor | None, Membrane | None], str]
    only_asked: str = ""


KERNELS: list[Kernel] = [
    Kernel("cpu", cpu.run, cpu.declines),
    Kernel("triton", triton.run, triton.declines, "no GPU has run it yet, so it runs where it is asked for only"),
    Kernel("compiled", compiled.run, compiled.declines, "it takes seconds, so it runs where it is asked for only"),
    Kernel("reference", reference.run, reference.declines),
]


def choose(
    neuron: Neuron, tensors: Tensors | None = None, xs: Tensor | None = None, m: Membrane | None = None
) -> Kernel:
    """The first kernel of the list that takes the run, or the one that was asked for.

    Raises KernelError if a kernel was asked for that does not take it.
    """
    name = asked()
    if not name:
        return next(k for k in KERNELS if not k.only_asked and not k.declines(neuron, tensors, xs, m))
    kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    if why := kernel.declines(neuron, tensors, xs, m):
        raise KernelError(f"the kernel {name!r} was asked for and does not take {neuron}", why=why, instead=_INSTEAD)
    return kernel


_INSTEAD = 'rheobase.kernels.use("reference"), or leave the choice to rheobase'


def in_use() -> str:
    """Which kernels this machine and the one who asks give a network, as a line for provenance."""
    name = asked() or ("reference" if cpu.MISSING else "cpu")
    return f"cpu ({cpu.instruction_set()})" if name == "cpu" and not cpu.MISSING else name


class Choice(NamedTuple):
    """Which kernel runs a layer, and why others do not."""

    kernel: str
    declined: dict[str, str]


class _Spiking(Protocol):
    @property
    def clock(self) -> int: ...
    def sites(self) -> Iterator[tuple[str, Neuron]]: ...
    def __call__(self, xs: Tensor) -> Any: ...
    def present(self, x: Tensor, steps: int, visit: Callable[[Any], None] | None = None) -> Iterator[Tensor]: ...
    def tensors(self, name: str) -> Tensors: ...


@runtime_checkable
class _Compiled(Protocol):
    def explain(self) -> tuple[Any, ...]: ...


def warm(net: _Spiking, example: Tensor, steps: int = 8) -> None:
    """Compile every spiking layer of a network ahead of its first run, for `use("compiled")`: seconds for each.

    example: an input `[N, ...]` with N >= 3; batches of any other size from 2 on run by what is made here, in one call
    or in the pieces of `evaluate` and `predict`, which are in `torch.inference_mode()`. A run with a gradient, or of
    another number of steps, dtype or device, is compiled when it is first met.

        rb.kernels.warm(net, images)
        with rb.kernels.use("compiled"), torch.inference_mode():
            ys, _ = net(rb.constant(images, steps=8))

    Raises KernelError where PyTorch cannot compile a layer, with its reason.
    """
    with use("compiled"), torch.inference_mode():
        for some in (example, example[1:]):  # a size that changes is compiled as one that may be any
            net(some.expand(steps, *some.shape))
            list(net.present(some, steps))


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
        list(net.present(images, net.clock or 1, see))
    return {name: _choice(*question) for name, question in asked.items()}


def _choice(neuron: Neuron, tensors: Tensors | None, xs: Tensor | None) -> Choice:
    if asked():
        return Choice(choose(neuron, tensors, xs).name, {})
    declined: dict[str, str] = {}
    for kernel in KERNELS:
        if not (why := kernel.only_asked or kernel.declines(neuron, tensors, xs, None)):
            return Choice(kernel.name, declined)
        declined[kernel.name] = why
    raise AssertionError("the reference declines nothing")
