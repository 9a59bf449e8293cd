"""Results of direct training: keep those of finished runs, check them again, and write their table.

    python -m rheobase.recipes.training_results --keep runs/mt_lif_mnist ...  # to evidence/training
    python -m rheobase.recipes.training_results --check                       # the kept networks once more
    python -m rheobase.recipes.training_results --table docs/training.md      # mean and deviation over the seeds

A row of the table is all seeds of one configuration. Beside them stand the figures of the papers, as far as they could
be read, which are not ours: their networks and settings are known in part only.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import FileError, from_json, load
from ..files import read_json, write, write_json
from ..spec import to_json
from ..training import Saved, Training
from ..training.score import accuracy
from .comparison import insert, program, slug

EVIDENCE = Path("evidence/training")
PAPERS = {
    "MNIST": [("Xu et al. 2022, multi-threshold LIF, T = 2", 0.9956)],
    "FashionMNIST": [("Xu et al. 2022, multi-threshold LIF, T = 2", 0.9308)],
    "CIFAR10": [("Xu et al. 2022, multi-threshold LIF, T = 2", 0.8790)],
    "ImageNet": [("Wang and Zhang 2023, multi-threshold PLIF ResNet-34, T = 1", 0.7217)],
}
"""What the abstracts of [xu2022mtlif] and [wang2023mtsnn] state."""


class Result(NamedTuple):
    """One finished run: its record, accuracy on the test data, letters per neuron and energy relative to the ANN."""

    config: Training
    accuracy: float
    spikes: float | None
    energy: float | None

    @property
    def data(self) -> str:
        return type(self.config.data).__name__

    @property
    def label(self) -> str:
        """The neuron in words."""
        k, config = len(self.config.neuron.alphabet.levels), self.config
        if k > 1 and config.steps == 1 and config.start:
            return f"activation rounded to {k} levels"
        return f"{k} thresholds" if k > 1 else "single threshold"


def read(path: Path) -> Result:
    """A kept result; FileError for what is none."""
    found = read_json(path)
    try:
        config, final, curve = from_json(found["config"]), found["accuracy"]["test"][-1], found.get("curve")
    except (KeyError, TypeError, IndexError) as error:
        raise FileError(f"{str(path)!r} is no result of a training run", instead="the result.json of a run") from error
    if curve is None:
        return Result(config, final, None, None)
    spikes = curve["rate"][-1] * config.steps
    return Result(config, final, spikes, curve["energy_pj"][-1] / curve["ann_energy_pj"])


def keep(run: Path, out: Path) -> Path:
    """Copy the result of a run and its network to the evidence; the path of the result."""
    found = run / "result.json"
    config = read(found).config
    name = slug(f"k{len(config.neuron.alphabet.levels)}-t{config.steps}-e{config.epochs}-seed{config.seed}")
    path = out / type(config.data).__name__.lower() / f"{name}.json"
    write_json(path, read_json(found))
    write(path.with_suffix(".safetensors"), (run / "snn.safetensors").read_bytes())
    return path


def check(path: Path, limit: int | None = None) -> tuple[float, float]:
    """The accuracy in a kept result, and that of its network on the test data now."""
    found = read(path)
    test = found.config.data.read("test")
    test = test if limit is None else test.part(torch.arange(limit))
    net = load(path.with_suffix(".safetensors"))
    return found.accuracy, float(accuracy(net, test, found.config.steps, torch.device("cpu"))[-1])


def table(out: Path) -> Iterator[str]:
    """The kept results as a Markdown table: one row for each configuration, its seeds together."""
    groups: dict[str, list[Result]] = {}
    for path in sorted(out.glob("*/*.json")):
        result = read(path)
        key = {k: v for k, v in to_json(result.config).items() if k != "seed"}
        groups.setdefault(repr(key), []).append(result)
    if not groups:
        return
    yield "| data | network | neurons | T | epochs | seeds | accuracy in % | spikes per neuron | energy / ANN |"
    yield "|---|---|---|---|---|---|---|---|---|"
    order = sorted(groups.values(), key=lambda g: (g[0].data, -statistics.mean(r.accuracy for r in g)))
    for index, group in enumerate(order):
        yield _row(group)
        if index + 1 == len(order) or order[index + 1][0].data != group[0].data:
            for label, figure in PAPERS.get(group[0].data, []):
                yield f"| {group[0].data} | {label} | | | | | {100 * figure:.2f} | | |"


def _row(group: list[Result]) -> str:
    first, config = group[0], group[0].config
    values = [100 * result.accuracy for result in group]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    name = _name(config.net)
    cost = ["", ""] if first.spikes is None else [f"{_mean(group, 'spikes'):.2f}", f"{_mean(group, 'energy'):.2f}"]
    cells = [first.data, name, first.label, config.steps, config.epochs, len(group)]
    cells += [f"{statistics.mean(values):.2f}{spread}", *cost]
    return "| " + " | ".join(map(str, cells)) + " |"


def _name(net: Any) -> str:
    """A network in a word: its layers, its kind and depth, or the file that it began with."""
    if isinstance(net, Saved):
        return f"{Path(net.path).stem}, tuned"
    return getattr(net, "layers", None) or f"{type(net).__name__}-{net.depth}"


def _mean(group: list[Result], name: str) -> float:
    return statistics.mean(getattr(result, name) for result in group)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--check", action="store_true", help="try the kept networks on the test data again")
    parser.add_argument("--limit", type=int, help="the first test samples only, for --check")
    parser.add_argument("--table", type=Path, help="write the table into this file")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    for run in options.keep or ():
        print(f"kept {keep(run, options.out)}")
    for path in sorted(options.out.glob("*/*.json")) if options.check else ():
        written, now = check(path, options.limit)
        print(f"{path}: {written:.4f} written, {now:.4f} now")
    if options.table:
        insert(options.table, {"training": table(options.out)})


if __name__ == "__main__":
    program(main)
