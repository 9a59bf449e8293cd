"""What is run: a network, how many images at once and for how many steps; and everything that runs it here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from libraries import Activation, Law, Library, libraries
from pairs import Work, graphed
from plain import converted, images, network, settled, with_neurons
from torch import Tensor, nn

import rheobase as rb

AGREE, AGREE_INT8 = 0.05, 0.2
"""How far outputs may lie from the reference's, in their spread: rounding moves some spikes, errors move many.
Weights of 8 bits move more; such a network is compared with the reference on its own weights besides."""


class Case(NamedTuple):
    """A network, how many images at once, how many steps, which percentile of its activations is a threshold; where."""

    net: str
    batch: int
    steps: int
    percentile: float = 99.9
    device: str = "cpu"

    def __str__(self) -> str:
        usual = self.percentile == Case._field_defaults["percentile"]
        return f"{self.net}-b{self.batch}-t{self.steps}{'' if usual else f'-p{self.percentile:g}'}{at(self.device)}"


def at(device: str) -> str:
    """How the name of a case ends on a device."""
    return "" if device == "cpu" else f"-{device}"


TINY = Case("tiny", 2, 2)
"""Seconds, and no data: for a first try of a benchmark, not for figures."""


class Prepared(NamedTuple):
    """The ANN, rheobase's network with the thresholds of its layers, and the images to run."""

    ann: nn.Module
    net: rb.SpikingNet
    thresholds: list[float]
    x: Tensor


def prepared(case: Case) -> Prepared:
    """All that a case needs; 256 other images calibrate."""
    x = images(case.net, 256 + case.batch)
    model = network(case.net)
    if case.net != "resnet20":
        model = settled(model, x[:256])
    net, thresholds = converted(model, x[:256], case.percentile)
    x = x[256:].contiguous(memory_format=torch.channels_last).to(case.device)
    return Prepared(model.to(case.device), net.to(case.device), thresholds, x)


def ours(runs: Any, x: Tensor, steps: int) -> Tensor:
    """The mean output after all steps of a network of rheobase, in pieces as it chooses them."""
    *_, ys = runs.present(x, steps)
    return ys[-1]


def reference(net: rb.SpikingNet, x: Tensor, steps: int) -> Tensor:
    """The same by the law alone."""
    with rb.kernels.use("reference"):
        return ours(net, x, steps)


def candidates(given: Prepared, steps: int, name: str = "") -> dict[str, Callable[[], Work]]:
    """Everything that runs a network here, by name: what makes it ready. Each answers the mean output.

    name: the one that is wanted, if only one is; no other library is imported.
    """
    ann, net, thresholds, x = given
    gpu = x.device.type == "cuda"

    def usual() -> Tensor:
        with kernel(x):
            return ours(net, x, steps)

    def compiled(precision: str) -> Work:
        fast = ready(net, x, precision)
        return lambda: ours(fast, x, steps)

    def theirs(library: Library) -> Work:
        spiking = with_neurons(ann, thresholds, lambda threshold: Activation(library, Law(threshold))).to(x.device)
        return lambda: library.outputs(spiking, x.expand(steps, *x.shape)).mean(0)

    graphs = {"rheobase, compiled int8, CUDA graph": lambda: graphed(compiled("int8"))} if gpu else {}
    return {
        "rheobase": lambda: usual,
        "rheobase, reference": lambda: lambda: reference(net, x, steps),
        **{f"rheobase, compiled {p}": lambda p=p: compiled(p) for p in ("fp32", "int8")},
        **graphs,
        **{library.name: lambda library=library: theirs(library) for library in libraries(name=name)},
    }


def kernel(x: Tensor) -> AbstractContextManager[None]:
    """The kernels of rheobase for where `x` is: on a GPU they run where they are asked for."""
    return rb.kernels.use("triton") if x.device.type == "cuda" else nullcontext()


def ready(net: rb.SpikingNet, x: Tensor, precision: str = "int8") -> Any:
    """The compiled network."""
    with kernel(x):
        return rb.compile(net, x, precision=precision)


def error(found: Any, expected: Tensor) -> float:
    """How far outputs lie from the reference's, in their spread."""
    return float((found - expected).std() / expected.std())


def agrees(found: Any, expected: Tensor, name: str) -> bool:
    """Whether outputs are the reference's up to a few spikes; says so where they are not."""
    off = error(found, expected)
    if not (right := off <= (AGREE_INT8 if "int8" in name else AGREE)):
        print(f"{name}: left out, its outputs are {off:.1%} from the reference's", flush=True)
    return right


def agreeing(given: Prepared, steps: int, expected: Tensor) -> dict[str, Work]:
    """Everything that runs the network and gives the answer that is expected, made ready."""
    works = {name: made() for name, made in candidates(given, steps).items()}
    fast = ready(given.net, given.x)
    if not agrees(ours(fast, given.x, steps), reference(fast.net, given.x, steps), "rheobase, compiled"):
        works = {name: work for name, work in works.items() if "int8" not in name}
    return {name: work for name, work in works.items() if agrees(work(), expected, name)}
