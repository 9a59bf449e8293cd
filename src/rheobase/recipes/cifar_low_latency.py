"""The best training-free conversion of the published CIFAR-10 ResNets at T = 1, 2, 4 and 8, with 1, 3 and 15 letters.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_low_latency
    python -m rheobase.recipes.cifar_low_latency --table docs/low-latency.md

Data, weights and calibration as in `cifar_conversion`: 512 unlabelled training images, all 10,000 test images. Each
pair of letters and steps is a conversion of its own, `methods.best(steps, letters)`. Results that exist are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import methods
from ..data import batches, cifar10
from ..evaluate import Curve
from ..files import read_json
from .cifar_conversion import NETS, network
from .comparison import converted, insert, parser, program, rounded, slug

LETTERS, STEPS = (1, 3, 15), (1, 2, 4, 8)
LEVELS = tuple(sorted({k * t for k in LETTERS for t in STEPS}))


def label(letters: int, steps: int) -> str:
    return f"{letters} letters, T = {steps}"


def run(name: str, out: Path, limit: int | None) -> None:
    """Every budget of one network."""
    ann = network(name)
    train, _ = cifar10("train", limit=512)
    calibration = list(train.split(128))
    loader = batches(*cifar10("test", limit=limit), 100)
    rounded(out / name / "quantised.json", ann, calibration, loader, {}, LEVELS)
    for steps in STEPS:
        for letters in LETTERS:
            title, method = label(letters, steps), methods.best(steps, letters)
            converted(out / name / f"{slug(title)}.json", title, method, ann, calibration, loader, {}, steps)


def table(folder: Path) -> Iterator[str]:
    """Accuracy, events per neuron and energy of each budget, beside the quantised ANN with as many levels."""
    levels = dict(zip(*(read_json(folder / "quantised.json")[key] for key in ("levels", "accuracy")), strict=True))
    found = {
        (k, t): Curve.from_json(read_json(path))
        for k in LETTERS
        for t in STEPS
        if (path := folder / f"{slug(label(k, t))}.json").exists()
    }
    if not found:
        return
    one = next(iter(found.values()))
    yield f"{folder.name}, {one.samples} test images, ANN {one.ann_accuracy:.2%}"
    yield ""
    yield "| letters | T | accuracy | below ANN | quantised ANN, as many levels | events per neuron | energy / ANN |"
    yield f"|{'---|' * 7}"
    for (letters, steps), curve in found.items():
        accuracy, events = curve.accuracy[-1], curve.events[-1] * curve.rate[-1] * steps / curve.spikes[-1]
        energy = curve.energy_pj[-1] / curve.ann_energy_pj
        kind = "binary" if letters == steps == 1 else "ternary" if letters == 1 else f"up to {letters}"
        yield (
            f"| {kind} | {steps} | {accuracy:.2%} | {100 * (curve.ann_accuracy - accuracy):.2f} "
            f"| {levels[letters * steps]:.2%} | {events:.3f} | {energy:.2f} |"
        )


def tables(out: Path) -> dict[str, list[str]]:
    """The tables of every network, under the mark that they have in docs/low-latency.md."""
    blocks = [[*table(out / name), ""] for name in NETS if (out / name / "quantised.json").exists()]
    return {"results": [line for block in blocks for line in block][:-1]}


def main() -> None:
    asked = parser(__doc__, Path("evidence/low-latency"))
    asked.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables(options.out))
        return
    for name in options.nets:
        run(name, options.out, options.limit)


if __name__ == "__main__":
    program(main)
