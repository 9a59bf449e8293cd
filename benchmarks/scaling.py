"""How the time of a network grows with steps, batch, width, depth and threads, for the compiled network and the law.

    RHEOBASE_DATA=/path/to/data python benchmarks/scaling.py
    python benchmarks/scaling.py --table docs/engine.md

    t(n) = a + b n^p     least squares of the relative error; p = 2 for width, -1 for threads, 1 else
    t(n) ~ n^e           e the slope of the logarithms

Convolutions of 3 x 3 with batch norm on 16 x 16 maps, all of one width, random weights, noise as images. One number
varies, the others stay: 8 steps, batch 8, 64 channels, 8 layers, 1 thread. Times are in those of one pass of the ANN of
the network in the middle, on one thread, run before and after each (pairs.py). The compiled network is timed only if it
gives the answer of the law for its weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import agrees, ours, reference
from pairs import Work, paired, plainly
from plain import converted, settled, spread_norms, with_neurons
from suite import OUT, Benchmark, Found
from torch import Tensor, nn

import rheobase as rb
from rheobase.nets import Plain
from rheobase.recipes.comparison import program


class Size(NamedTuple):
    """How large a run is; `channels` wide, `layers` deep."""

    steps: int = 8
    batch: int = 8
    channels: int = 64
    layers: int = 8
    threads: int = 1


class Case(NamedTuple):
    """Which number varies, over which values, the others as in `size`."""

    axis: str
    values: tuple[int, ...]
    size: Size = Size()

    def __str__(self) -> str:
        return self.axis


POWERS = {"steps": 1, "batch": 1, "channels": 2, "layers": 1, "threads": -1}
THREADS = tuple(n for n in (1, 2, 4, 8, 16, 32) if n <= (os.cpu_count() or 1))
CASES = (
    Case("steps", (1, 2, 4, 8, 16, 32)), Case("batch", (1, 2, 4, 8, 16, 32)), Case("channels", (16, 32, 64, 128)),
    Case("layers", (2, 4, 8, 16)), Case("threads", THREADS),
)  # fmt: skip
SMALL = Size(2, 2, 4, 2)
TINY = (Case("steps", (1, 2), SMALL), Case("channels", (2, 4), SMALL), Case("threads", (1, 2), SMALL))


class Law(NamedTuple):
    """`a + b n^p` with its largest relative error, and the slope of a straight line through the logarithms."""

    a: float
    b: float
    power: int
    exponent: float
    error: float


def fitted(values: Sequence[int], times: Sequence[float], power: int) -> Law | None:
    """The law of times, each counted by its share; None for fewer than three values."""
    if len(values) < 3:
        return None
    n, t = np.asarray(values, float), np.asarray(times)
    columns = np.stack([np.ones_like(n), n**power], 1)
    (a, b), *_ = np.linalg.lstsq(columns / t[:, None], np.ones_like(t), rcond=None)
    exponent = np.polyfit(np.log(n), np.log(t), 1)[0]
    return Law(float(a), float(b), power, float(exponent), float(np.abs((a + b * n**power) / t - 1).max()))


def network(size: Size) -> nn.Module:
    """Layers of one width, and a mean over the places."""
    torch.manual_seed(0)
    plain = Plain(layers="-".join([f"{size.channels}C3"] * size.layers + ["G"]))
    return spread_norms(plain.made((3, 16, 16), 10, nn.ReLU)).eval()


def noise(count: int) -> Tensor:
    """Images that are the same in every run."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def ready(size: Size) -> tuple[dict[str, Work], Work, float]:
    """What runs a network of this size, one pass of its ANN on one thread, and letters per neuron and step."""
    calibration, x = noise(64), noise(64 + size.batch)[64:].contiguous(memory_format=torch.channels_last)
    model = settled(network(size), calibration)
    net, thresholds = converted(model, calibration)
    fast = rb.compile(net, x)
    runs: dict[str, Callable[[], Any]] = {
        "rheobase, compiled int8": lambda: ours(fast, x, size.steps),
        "rheobase, reference": lambda: reference(net, x, size.steps),
    }
    runs = {name: threaded(work, size.threads) for name, work in runs.items()}
    name = "rheobase, compiled int8"
    if not agrees(runs[name](), reference(fast.net, x, size.steps), f"{name}, {size}"):
        del runs[name]
    ann = with_neurons(model, thresholds, lambda _: nn.ReLU())
    labels = torch.zeros(size.batch, dtype=torch.int64)
    rate = float(rb.evaluate(net, [(x, labels)], size.steps).rate[-1])
    return runs, threaded(lambda: ann(x), 1), rate


def threaded(work: Work, threads: int) -> Work:
    """The same on so many threads."""

    def run() -> object:
        torch.set_num_threads(threads)
        return work()

    return run


@torch.inference_mode()
def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Times at every value, and the laws through their medians."""
    _, beside, _ = ready(case.size)
    times: dict[str, list[dict[str, float]]] = {}
    rates = []
    for value in case.values:
        runs, _, rate = ready(case.size._replace(**{case.axis: value}))
        rates.append(rate)
        for name, time in plainly(paired(beside, runs, rounds)).items():
            times.setdefault(name, []).append({"n": value} | time)
    torch.set_num_threads(1)
    laws = {name: law(points, POWERS[case.axis]) for name, points in times.items()}
    return {"times": times, "laws": laws, "rates": rates}


def law(points: list[dict[str, Any]], power: int) -> dict[str, float] | None:
    """The law through the medians of points, as JSON has it."""
    found = fitted([point["n"] for point in points], [point["median"] for point in points], power)
    return found._asdict() if found else None


def rows(found: Found) -> Iterator[str]:
    """Times at every value, and the law through them."""
    yield "| what grows | network | time, in passes of one ANN | law | largest error | exponent |"
    yield "|---|---|---|---|---|---|"
    for case, result in found:
        for name, points in result["times"].items():
            times = ", ".join(f"{point['n']}: {point['median']:.2f}" for point in points)
            law = result["laws"][name]
            power = {1: "n", 2: "n²", -1: "/ n"}[POWERS[case.axis]]
            text = (
                f"{law['a']:.3g} + {law['b']:.3g} {power} | {law['error']:.0%} | {law['exponent']:.2f}"
                if law
                else " | | "
            )
            yield f"| {case.axis} | {name} | {times} | {text} |"


SCALING = Benchmark(name="scaling", cases=CASES, quick=TINY, measure=measure, rows=rows, out=OUT / "scaling")

if __name__ == "__main__":
    program(lambda: SCALING.program(__doc__))
