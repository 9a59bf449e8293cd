"""How fast a converted network is simulated, beside other libraries: ratios on one thread, in one process.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/speed.py
    python benchmarks/speed.py --table docs/engine.md
    benchmarks/.venv/bin/python benchmarks/speed.py --device cuda

    r = time of T steps / (T x time of one pass of the ANN in float32, channels last)

ResNet-20 with its published weights on CIFAR-10, and VGG-16 and ResNet-18 for such images with random weights.
Thresholds are a percentile of each layer, the 99.9th or, for higher rates, a lower one; the start is 0, so every
library sends the same spikes. A candidate is timed only if its outputs are those of rheobase's reference up to spikes
that rounding moves; with weights of 8 bits also those of the reference on the same rounded weights. Candidates and the
ANN take turns; medians and quartiles over the rounds. One pass of the ANN in 8 bits on PyTorch's own kernels is timed
beside them, on a GPU one in bfloat16, and the compiled network as a CUDA graph. Results that exist are kept.
"""

from __future__ import annotations

import copy
import resource
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from cases import TINY, Case, agreeing, prepared, reference
from pairs import Work, paired, plainly
from plain import quantised, with_neurons
from suite import Benchmark, Found, across
from torch import Tensor, nn

import rheobase as rb
from rheobase.recipes.comparison import program

CASES = (
    Case("vgg16", 16, 8), Case("vgg16", 16, 8, 97), Case("vgg16", 16, 8, 80), Case("vgg16", 64, 8, 97),
    Case("vgg16", 1, 8), Case("vgg16", 1, 8, 97), Case("vgg16", 16, 1, 90), Case("vgg16", 16, 2, 97),
    Case("vgg16", 8, 32), Case("resnet18", 16, 8, 97), Case("resnet18", 1, 8, 97), Case("resnet20", 32, 8),
    Case("resnet20", 64, 8), Case("resnet20", 1, 8), Case("resnet20", 32, 1, 90), Case("resnet20", 32, 2),
    Case("resnet20", 32, 32),
)  # fmt: skip


@torch.inference_mode()
def measure(case: Case, rounds: int) -> dict[str, Any]:
    """r of everything that gives the answer of the reference."""
    given = prepared(case)
    works = agreeing(given, case.steps, reference(given.net, given.x, case.steps))
    ann = with_neurons(given.ann, given.thresholds, lambda _: nn.ReLU())
    found = paired(partial(ann, given.x), works | once(ann, given.x), rounds)
    labels = torch.zeros(case.batch, dtype=torch.int64, device=case.device)
    rate = float(rb.evaluate(given.net, [(given.x, labels)], case.steps).rate[-1])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    r = {name: ratio.times(1 / case.steps) for name, ratio in found.items()}
    return {"r": plainly(r), "rate": rate, "peak_mib": memory}


def once(ann: nn.Module, x: Tensor) -> dict[str, Work]:
    """One pass of the ANN as cheaply as PyTorch has it by itself: in 8 bits on a CPU, in bfloat16 on a GPU."""
    if x.device.type == "cpu":
        return {"PyTorch int8, one pass of the ANN": partial(quantised(ann, x), x)}
    return {"PyTorch bf16, one pass of the ANN": partial(copy.deepcopy(ann).bfloat16(), x.bfloat16())}


def rows(found: Found) -> Iterator[str]:
    """r of every library."""
    ratios = (
        (f"| {case.net}, {case.batch}, {case.steps} | {result['rate']:.3f}", result["r"]) for case, result in found
    )
    return across("| network, batch, T | spikes per neuron and step", ratios, "rheobase, compiled int8")


NETS = Benchmark(name="speed", cases=CASES, quick=(TINY,), measure=measure, rows=rows, anywhere=True)

if __name__ == "__main__":
    program(lambda: NETS.program(__doc__))
