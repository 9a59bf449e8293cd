"""The best training-free conversion of the published CIFAR-10 ResNets at T = 1, 2, 4 and 8, with 1, 3 and 15 letters.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_low_latency
    python -m rheobase.recipes.cifar_low_latency --table docs/low-latency.md

Data, weights and calibration as in `cifar_conversion`: 512 unlabelled training images, all 10,000 test images. Each
pair of letters and steps is a conversion of its own by `methods.best(steps, letters)`, and by `fitted`, `distilled`,
`minifloat`, `codebook` and `radix`. Results that exist are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from .. import methods
from ..data import batches, cifar10
from ..evaluate import Curve
from ..files import read_json
from ..method import Method
from .cifar_conversion import NETS, network
from .comparison import converted, insert, parser, program, rounded, slug

LETTERS, STEPS = (1, 3, 15), (1, 2, 4, 8)
METHODS: dict[str, Callable[[int, int], Method]] = {
    "best": methods.best,
    "fitted": methods.fitted,
    "distilled": methods.distilled,
    "minifloat": lambda steps, letters: methods.minifloat(steps, 2, (letters + 1).bit_length() - 3),
    "codebook": methods.codebook,
    "radix": methods.radix,
}
LEVELS = tuple(sorted({k * t for k in LETTERS for t in STEPS}))


def label(method: str, letters: int, steps: int) -> str:
    return f"{method}, {letters} letters, T = {steps}"


def counts(kind: str, letters: int, steps: int) -> bool:
    """Whether the method is one of its own for this budget.

    One digit is a letter of `fitted`, and 8 digits of 15 letters have more levels than float32 tells apart. Uneven
    letters are at least three, and from two steps on of both signs, as many again.
    """
    if kind in ("minifloat", "codebook"):
        return letters >= 3 and steps == 1
    return kind != "radix" or (steps > 1 and (letters + 1) ** steps <= 2**24)


def run(name: str, out: Path, options: argparse.Namespace) -> None:
    """Every chosen budget of one network, by each of the chosen methods."""
    ann = network(name)
    train, _ = cifar10("train", limit=512)
    calibration = list(train.split(128))
    loader = batches(*cifar10("test", limit=options.limit), 100)
    rounded(out / name / "quantised.json", ann, calibration, loader, {}, LEVELS)
    for kind, letters, steps in product(options.methods, options.letters, options.steps):
        if counts(kind, letters, steps):
            title, method = label(kind, letters, steps), METHODS[kind](steps, letters)
            converted(out / name / f"{slug(title)}.json", title, method, ann, calibration, loader, {}, steps)


def table(folder: Path) -> Iterator[str]:
    """Accuracy of each budget by each method, beside the quantised ANN; events and energy of the last method run."""
    levels = dict(zip(*(read_json(folder / "quantised.json")[key] for key in ("levels", "accuracy")), strict=True))
    found = {
        (k, t): curves
        for k in LETTERS
        for t in STEPS
        if (curves := {kind: Curve.from_json(read_json(path)) for kind, path in _results(folder, k, t)})
    }
    if not found:
        return
    one = next(iter(next(iter(found.values())).values()))
    yield f"{folder.name}, {one.samples} test images, ANN {one.ann_accuracy:.2%}"
    yield ""
    yield f"| letters | T | {' | '.join(METHODS)} | below ANN | quantised ANN | events per neuron | energy / ANN |"
    yield f"|{'---|' * (6 + len(METHODS))}"
    for (letters, steps), curves in found.items():
        cells = " | ".join(f"{curves[kind].accuracy[-1]:.2%}" if kind in curves else "" for kind in METHODS)
        curve = list(curves.values())[-1]
        events = curve.events[-1] * curve.rate[-1] * steps / curve.spikes[-1]
        below = 100 * (curve.ann_accuracy - curve.accuracy[-1])
        yield (
            f"| {letters} | {steps} | {cells} | {below:.2f} | {levels[letters * steps]:.2%} "
            f"| {events:.3f} | {curve.energy_pj[-1] / curve.ann_energy_pj:.2f} |"
        )


def _results(folder: Path, letters: int, steps: int) -> Iterator[tuple[str, Path]]:
    paths = ((kind, folder / f"{slug(label(kind, letters, steps))}.json") for kind in METHODS)
    return ((kind, path) for kind, path in paths if path.exists())


def tables(out: Path) -> dict[str, list[str]]:
    """The tables of every network, under the mark that they have in docs/low-latency.md."""
    blocks = [[*table(out / name), ""] for name in NETS if (out / name / "quantised.json").exists()]
    return {"results": [line for block in blocks for line in block][:-1]}


def main() -> None:
    asked = parser(__doc__, Path("evidence/low-latency"))
    asked.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    asked.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    asked.add_argument("--letters", nargs="+", type=int, default=list(LETTERS), choices=LETTERS)
    asked.add_argument("--steps", nargs="+", type=int, default=list(STEPS), choices=STEPS)
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables(options.out))
        return
    for name in options.nets:
        run(name, options.out, options)


if __name__ == "__main__":
    program(main)
