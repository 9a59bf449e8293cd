"""Converted networks beside spikingjelly's best recipes: the same weights, images and calibration data, in one process.

    bash benchmarks/environment.sh
    RHEOBASE_DATA=/path/to/data benchmarks/.venv/bin/python benchmarks/accuracy.py
    python benchmarks/accuracy.py --table docs/low-latency.md

512 unlabelled training images calibrate, all 10,000 test images are answered at T = 1, 2, 4, 8. Each of spikingjelly's
networks runs once, all prefixes are read from that run; its delayed readout sums the last five steps, as its own
estimate has it. Ours are `methods.best(T, 1)`, binary or ternary spikes, and `methods.radix(T, 1)`, binary spikes as
digits. spikingjelly's tracer refuses slices and pads, so all get the shortcut of the ResNets as the fixed convolution
that it is. Rows that exist are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.data import batches, cifar10
from rheobase.evaluate import versions
from rheobase.files import read_json, write_json
from rheobase.nets.cifar_resnet import Block
from rheobase.recipes.cifar_conversion import network
from rheobase.recipes.comparison import insert, program

OUT, STEPS = Path("evidence/beside"), (1, 2, 4, 8)
PASSES = 98
"""How often local threshold balancing sees the calibration images: 392 batches of 128, as in its own example."""


class Spelled(nn.Module):
    """A block of the CIFAR ResNets with modules only: the shortcut is a fixed convolution of zeros and ones."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = block.conv1, block.bn1, block.relu1
        self.conv2, self.bn2, self.relu2 = block.conv2, block.bn2, block.relu2
        self.shortcut: nn.Module = nn.Identity()
        if block.padding:
            channels, out = block.conv1.in_channels, block.conv1.out_channels
            self.shortcut = nn.Conv2d(channels, out, 1, 2, bias=False)
            with torch.no_grad():
                self.shortcut.weight.zero_()
                self.shortcut.weight[block.padding + torch.arange(channels), torch.arange(channels)] = 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


def spelled(name: str) -> nn.Module:
    """The pretrained network in modules that every library reads."""
    given: Any = network(name)
    blocks = [Spelled(block) for stage in (given.layer1, given.layer2, given.layer3) for block in stage]
    stem = (given.conv1, given.bn1, given.relu)
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(8), nn.Flatten(), given.linear).eval()


def recipes(calibration: list[Tensor]) -> dict[str, Callable[[], Any]]:
    """spikingjelly's recipes as its own examples set them."""
    from spikingjelly.activation_based import ann2snn  # pyright: ignore[reportMissingImports]

    pairs = [(x, torch.zeros(len(x), dtype=torch.int64)) for x in calibration]
    return {
        "spikingjelly, channel-wise 99.9, half threshold": lambda: ann2snn.RateCodingRecipe(
            pairs, mode="99.9%", channel_wise=True, half_threshold=True, pre_spike_maxpool=True
        ),
        "spikingjelly, local threshold balancing": lambda: ann2snn.LocalThresholdBalancingRecipe(pairs * PASSES),
    }


def theirs(recipe: Any, ann: nn.Module, loader: list[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """Accuracy at each of STEPS of one converted network, and with its delayed readout."""
    from spikingjelly.activation_based import ann2snn, functional  # pyright: ignore[reportMissingImports]

    snn = ann2snn.Converter(recipe).convert(ann).eval()
    right = torch.zeros(2, len(STEPS), dtype=torch.int64)
    with torch.inference_mode():
        for x, y in loader:
            functional.reset_net(snn)
            sums = torch.stack([snn(x) for _ in range(STEPS[-1])]).cumsum(0)
            for k, t in enumerate(STEPS):
                late = sums[t - 1] - sums[t - 6] if t > 5 else sums[t - 1]
                right[:, k] += torch.stack([(out.argmax(1) == y).sum() for out in (sums[t - 1], late)])
    samples = sum(len(y) for _, y in loader)
    return dict(zip(("", ", delayed"), (right / samples).tolist(), strict=True))


OURS = {"rheobase, best": rb.methods.best, "rheobase, radix": rb.methods.radix}


def ours(
    label: str, steps: int, ann: nn.Module, calibration: list[Tensor], loader: list[tuple[Tensor, Tensor]]
) -> float:
    """Accuracy of a network of ours for a budget of steps."""
    snn, _ = rb.convert(ann, OURS[label](steps, 1), calibration)
    return float(rb.evaluate(snn, loader, steps).accuracy[-1])


def run(name: str, limit: int | None) -> None:
    """One network: one JSON with a row for each library and recipe."""
    path, started = OUT / f"{name}.json", time.perf_counter()
    rows: dict[str, list[float]] = read_json(path)["accuracy"] if path.exists() else {}
    images, _ = cifar10("train", limit=512)
    calibration, loader = list(images.split(128)), batches(*cifar10("test", limit=limit), 100)
    about = versions() | {"spikingjelly": version("spikingjelly"), "calibration_samples": 512}
    samples = sum(len(y) for _, y in loader)

    def keep(found: dict[str, list[float]]) -> None:
        rows.update(found)
        write_json(path, {"steps": list(STEPS), "accuracy": rows, "samples": samples, "provenance": about})
        print(f"{name}, {' and '.join(found)}: {time.perf_counter() - started:.0f} s", flush=True)

    for label, made in recipes(calibration).items():
        if label not in rows:
            keep({label + which: found for which, found in theirs(made(), spelled(name), loader).items()})
    for label in OURS:
        if label not in rows:
            keep({label: [ours(label, steps, spelled(name), calibration, loader) for steps in STEPS]})


def table(out: Path) -> Iterator[str]:
    """Every network and row that has been run."""
    found = [(path.stem, read_json(path)) for path in sorted(out.glob("*.json"))]
    if found:
        yield f"| network | library and recipe | {' | '.join(f'T = {t}' for t in STEPS)} |"
        yield f"|---|---|{'---|' * len(STEPS)}"
    for name, result in found:
        for label, accuracy in result["accuracy"].items():
            yield f"| {name} | {label} | {' | '.join(f'{a:.1%}' for a in accuracy)} |"


def tables() -> dict[str, Iterable[str]]:
    """The table under the mark that it has in docs/low-latency.md."""
    return {"beside": table(OUT)}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--nets", nargs="+", default=["resnet20", "resnet56"])
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    asked.add_argument("--table", type=Path, help="write the table into this file and run nothing")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables())
        return
    torch.set_num_threads(1)
    for name in options.nets:
        run(name, options.limit)


if __name__ == "__main__":
    program(main)
