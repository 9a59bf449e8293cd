"""How fast a converted network is simulated, beside other libraries: ratios on one thread, in one process.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/speed.py
    python benchmarks/speed.py --table docs/engine.md

    r = time of T steps / (T x time of one pass of the ANN in float32, channels last)

ResNet-20 with its published weights on CIFAR-10, and VGG-16 for 32 x 32 images with random weights. Thresholds are the
99.9th percentile of each layer, the start is 0, so every library sends the same spikes. A candidate is timed only if
its outputs are those of rheobase's reference up to spikes that rounding moves. Candidates and the ANN take turns;
medians and quartiles over the rounds. Results that exist are kept.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from libraries import libraries
from pairs import Ratio, Work, paired
from plain import converted, network, settled, with_neurons
from torch import Tensor, nn

import rheobase as rb
from rheobase.data import cifar10
from rheobase.evaluate import versions
from rheobase.files import read_json, write_json
from rheobase.recipes.comparison import insert, program

OUT = Path("evidence/speed")
AGREE = 0.05
"""How far outputs may lie from the reference's, in their spread: rounding moves some spikes, errors move many."""


class Case(NamedTuple):
    """A network, how many images at once, and how many steps."""

    net: str
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.net}-b{self.batch}-t{self.steps}"


CASES = (
    Case("vgg16", 16, 8), Case("vgg16", 1, 8), Case("vgg16", 16, 2), Case("vgg16", 8, 32),
    Case("resnet20", 32, 8), Case("resnet20", 1, 8), Case("resnet20", 32, 2), Case("resnet20", 64, 32),
)  # fmt: skip


def prepared(case: Case) -> tuple[nn.Module, rb.SpikingNet, list[float], Tensor]:
    """The ANN, rheobase's network, the thresholds of its layers, and the images to run."""
    x, _ = cifar10("train", limit=256 + case.batch)
    model = network(case.net)
    if case.net != "resnet20":
        model = settled(model, x[:256])
    net, thresholds = converted(model, x[:256])
    return model, net, thresholds, x[256:].contiguous(memory_format=torch.channels_last)


def candidates(
    case: Case, model: nn.Module, net: rb.SpikingNet, thresholds: list[float], x: Tensor
) -> Iterator[tuple[str, Work]]:
    """Everything that runs this network here, each answering the mean output after T steps."""

    def ours(runs: Any) -> Tensor:
        *_, ys = runs.present(x, case.steps)
        return ys[-1]

    yield "rheobase", partial(ours, net)
    for precision in ("fp32", "int8"):
        yield f"rheobase, compiled {precision}", partial(ours, rb.compile(net, x, precision=precision))
    for name, made, run in libraries():
        theirs = with_neurons(model, thresholds, made)
        yield name, lambda theirs=theirs, run=run: run(theirs, x, case.steps) / case.steps


def agrees(found: Any, expected: Tensor, name: str) -> bool:
    """Whether outputs are the reference's up to a few spikes."""
    error = float((found - expected).std() / expected.std())
    if error > AGREE:
        print(f"{name}: left out, its outputs are {error:.1%} from the reference's", flush=True)
    return error <= AGREE


def run(case: Case, rounds: int) -> None:
    """One case: parity first, then times."""
    path = OUT / f"{case}.json"
    if path.exists():
        print(f"{case}: kept", flush=True)
        return
    with torch.inference_mode():
        model, net, thresholds, x = prepared(case)
        with rb.kernels.use("reference"):
            *_, ys = net.present(x, case.steps)
        works = {
            name: work for name, work in candidates(case, model, net, thresholds, x) if agrees(work(), ys[-1], name)
        }  # type: ignore[arg-type]
        ann = with_neurons(model, thresholds, lambda _: nn.ReLU())
        found = {name: scaled(ratio, case.steps) for name, ratio in paired(partial(ann, x), works, rounds).items()}
        rate = float(rb.evaluate(net, [(x, torch.zeros(len(x), dtype=torch.int64))], case.steps).rate[-1])
    about = versions() | {"rounds": rounds, "cpu": processor()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratios = {name: ratio._asdict() for name, ratio in found.items()}
    write_json(path, case._asdict() | {"r": ratios, "rate": rate, "peak_mib": memory, "provenance": about})
    print(f"{case}: " + ", ".join(f"{name} {ratio.median:.3f}" for name, ratio in found.items()), flush=True)


def scaled(ratio: Ratio, steps: int) -> Ratio:
    """r: relative to T passes instead of one."""
    return Ratio(*(value / steps for value in ratio))


def processor() -> str:
    """The name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def table(out: Path) -> Iterator[str]:
    """Every case that has been run: r with its quartiles."""
    found = [(case, read_json(path)) for case in CASES if (path := out / f"{case}.json").exists()]
    if not found:
        return
    yield "| network, batch, T | letters per neuron and step | library | r | quartiles | rheobase int8 is faster by |"
    yield "|---|---|---|---|---|---|"
    for case, result in found:
        ours = result["r"].get("rheobase, compiled int8", {}).get("median")
        for name, r in sorted(result["r"].items(), key=lambda pair: pair[1]["median"]):
            factor = f"{r['median'] / ours:.1f}" if ours else ""
            yield (
                f"| {case.net}, {case.batch}, {case.steps} | {result['rate']:.3f} | {name} | {r['median']:.3f} "
                f"| {r['low']:.3f} to {r['high']:.3f} | {factor} |"
            )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=9)
    asked.add_argument("--cases", nargs="+", choices=[str(case) for case in CASES])
    asked.add_argument("--table", type=Path, help="write the table into this file and run nothing")
    options = asked.parse_args()
    if options.table:
        insert(options.table, {"speed": table(OUT)})
        return
    torch.set_num_threads(1)
    for case in CASES:
        if not options.cases or str(case) in options.cases:
            run(case, options.rounds)


if __name__ == "__main__":
    program(main)
