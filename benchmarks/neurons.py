"""How fast neurons alone are, beside other libraries: forward for inference, and forward and backward for training.

    bash benchmarks/environment.sh
    benchmarks/.venv/bin/python benchmarks/neurons.py
    python benchmarks/neurons.py --table docs/engine.md
    benchmarks/.venv/bin/python benchmarks/neurons.py --device cuda

    r = time of T steps of the neurons / time of one ReLU over the same numbers [T, N, ...], into memory at hand

IF and LIF neurons (leak 0.5) with soft reset and the surrogate ATan. Drives are multiples of 1/4096 that never meet a
threshold, where libraries differ. A candidate is timed only if its spikes are those of rheobase's reference, and, where
it has this surrogate and reset, its gradients. One that is called step by step is given and gives a tensor for each
step, so nothing is stacked. The kernel "compiled" needs seconds and a C++ compiler for its first run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from cases import at
from libraries import STEPPED, Law, Library, kernel, libraries
from pairs import Work, paired, plainly
from suite import OUT, Benchmark, Found, across
from torch import Tensor

from rheobase.kernels import compiled, cpu, triton
from rheobase.recipes.comparison import program
from rheobase.testing import dyadic

LAWS = {"if": Law(), "lif": Law(leak=0.5)}
SHAPES = {"layer": (16, 64, 32, 32), "small": (1, 64, 8, 8)}
"""A layer of a network at batch 16, larger than the caches, and one that is all overhead."""
AGREE = 1e-5
"""What share of spikes or gradients may be others: libraries that write the leak otherwise round otherwise."""
KERNELS = {"cpu": ("reference", "cpu", "compiled"), "cuda": ("reference", "triton", "compiled")}
"""By device. The last has to be compiled first, so a first try leaves it out."""
PASSES = ("forward", "forward and backward")


class Case(NamedTuple):
    """Which neuron, the shape of one step, how many steps, and where."""

    neuron: str
    shape: tuple[int, ...]
    steps: int
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.neuron}-{math.prod(self.shape)}-t{self.steps}{at(self.device)}"


CASES = [Case(neuron, shape, steps) for shape in SHAPES.values() for neuron in LAWS for steps in (1, 4, 8, 32)]
TINY = [Case(neuron, (2, 3, 5), 4) for neuron in LAWS]


def drives(case: Case) -> tuple[Tensor, Tensor]:
    """Drives that make about a tenth of the neurons fire in a step, and gradients by the spikes."""
    xs = dyadic(case.steps, *case.shape, seed=1, low=-0.75, high=1.0) + 1 / 4096
    return xs.to(case.device), dyadic(case.steps, *case.shape, seed=2).to(case.device)


class Leaves(NamedTuple):
    """Drives as a library takes them, with gradients: one tensor, or one for each step."""

    xs: Any

    @classmethod
    def of(cls, library: Library, xs: Tensor, wanted: bool) -> Leaves:
        steps = list(xs) if library.axes == "step" else [xs]
        leaves = [x.clone().requires_grad_() for x in steps] if wanted else steps
        return cls(leaves if library.axes == "step" else leaves[0])

    def gradient(self) -> Tensor:
        found = torch.stack([x.grad for x in self.each()])
        return found[0] if isinstance(self.xs, Tensor) else found

    def each(self) -> list[Any]:
        return [self.xs] if isinstance(self.xs, Tensor) else self.xs

    def fresh(self) -> None:
        for x in self.each():
            x.grad = None


def forward(library: Library, law: Law, xs: Tensor) -> Callable[[], Any]:
    """One run without gradients, answering the spikes."""
    layer, given = library.neuron(law).to(xs.device), Leaves.of(library, xs, False).xs

    @torch.inference_mode()
    def run() -> Any:
        return library.spikes(layer, given)

    return run


def both(library: Library, law: Law, xs: Tensor, grads: Tensor) -> Callable[[], tuple[Any, Leaves]]:
    """One run and its gradients by the drives, answering spikes and drives."""
    layer, given = library.neuron(law).to(xs.device), Leaves.of(library, xs, True)

    def run() -> tuple[Any, Leaves]:
        given.fresh()
        ys = library.spikes(layer, given.xs)
        if isinstance(ys, Tensor):
            ys.backward(grads)
        else:
            torch.autograd.backward(list(ys), list(grads))
        return ys, given

    return run


def off(found: Tensor, expected: Tensor) -> float:
    """The share of numbers that are not the expected ones up to rounding."""
    return float((~found.isclose(expected, rtol=1e-3, atol=1e-4)).float().mean())


def wrong(library: Library, law: Law, xs: Tensor, grads: Tensor, expected: tuple[Tensor, Tensor]) -> str:
    """Why a library does not run this neuron, or "": its spikes, and its gradients where they are to be the same."""
    ys, given = both(library, law, xs, grads)()
    spikes = off(torch.stack(list(ys)).detach(), expected[0])
    still = off(torch.stack(list(forward(library, law, xs)())), expected[0])
    if max(spikes, still) > AGREE:
        return f"{max(spikes, still):.2%} of its spikes are others"
    gradients = off(given.gradient(), expected[1]) if library.same_gradient else 0.0
    return f"{gradients:.2%} of its gradients are others" if gradients > AGREE else ""


def by_law(law: Law, xs: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and gradients of the law, step by step."""
    ys, given = both(STEPPED, law, xs, grads)()
    return torch.stack(list(ys)).detach(), given.gradient()


def candidates(law: Law, kernels: tuple[str, ...]) -> Iterator[Library]:
    """rheobase on those of its kernels that this machine has, and every other library."""
    missing = {"cpu": cpu.MISSING, "triton": triton.MISSING, "compiled": compiled.MISSING}
    for name in kernels:
        if why := missing.get(name):
            print(f"rheobase, {name} is left out: {why}", flush=True)
        else:
            yield kernel(name)
    yield from libraries(law)


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """r of both passes, of everything that sends the spikes of the law."""
    law, (xs, grads) = LAWS[case.neuron], drives(case)
    expected = by_law(law, xs, grads)
    works: dict[str, dict[str, Work]] = {name: {} for name in PASSES}
    kernels = KERNELS[case.device]
    for library in candidates(law, kernels if case._replace(device="cpu") in CASES else kernels[:2]):
        if why := wrong(library, law, xs, grads, expected):
            print(f"{library.name} is left out: {why}", flush=True)
            continue
        works["forward"][library.name] = forward(library, law, xs)
        works["forward and backward"][library.name] = both(library, law, xs, grads)
    held = torch.empty_like(xs)
    r = {name: plainly(paired(partial(torch.clamp_min, xs, 0.0, out=held), works[name], rounds)) for name in PASSES}
    return {"r": r, "rate": float(expected[0].mean())}


def rows(found: Found) -> Iterator[str]:
    """r of every library, of both passes."""
    found = list(found)
    ratios = (
        (f"| {case.neuron.upper()}, {math.prod(case.shape)}, {case.steps} | {name}", result["r"][name])
        for name in PASSES
        for case, result in found
    )
    own = KERNELS[found[0][0].device][1]
    return across("| neuron, numbers in a step, T | pass", ratios, f"rheobase, {own}")


NEURONS = Benchmark(
    name="neurons", cases=CASES, quick=TINY, measure=measure, rows=rows, out=OUT / "neurons", anywhere=True
)

if __name__ == "__main__":
    program(lambda: NEURONS.program(__doc__))
