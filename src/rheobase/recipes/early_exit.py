"""Answers as soon as they are sure: early exit on CIFAR-10 by a margin that training images calibrate.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.early_exit
    python -m rheobase.recipes.early_exit --table docs/low-latency.md

Data and weights as in `cifar_conversion`. Each network is `methods.best(8, letters)`, calibrated on 512 unlabelled
training images; the confidence at which a sample leaves is chosen on the next 2,000, unlabelled too, such that at most
a share `RISK` of the answers of step 8 changes, with a certainty of 95 %. Then all 10,000 test images are answered
twice: after 8 steps, and with exits. Results that exist are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from .. import calibrate_exit, convert, methods, predict
from ..data import batches, cifar10
from ..evaluate import versions
from ..files import read_json, write_json
from ..spec import to_json
from .cifar_conversion import NETS, network
from .comparison import insert, parser, program

FIRST, STEPS, RISK = {1: 4, 3: 2, 15: 1}, 8, 0.0025
"""Letters, and from which step on they may leave: before it, answers of few levels are sure and wrong."""
CALIBRATION, CHOICE = 512, 2000


def run(name: str, letters: int, out: Path, limit: int | None) -> None:
    """One network with one alphabet: the exit chosen, then the test images with and without it."""
    path, started = out / name / f"exit-{letters}.json", time.perf_counter()
    if path.exists():
        print(f"{name}, {letters} letters: kept", flush=True)
        return
    images, _ = cifar10("train", limit=CALIBRATION + CHOICE)
    snn, _ = convert(network(name), methods.best(STEPS, letters), list(images[:CALIBRATION].split(128)))
    exit = calibrate_exit(snn, images[CALIBRATION:].split(100), STEPS, risk=RISK, first=FIRST[letters])
    loader = batches(*cifar10("test", limit=limit), 100)
    fixed, early, taken, changed = 0, 0, torch.zeros(STEPS, dtype=torch.int64), 0
    for x, y in loader:
        with torch.inference_mode():
            last = torch.cat(list(snn.present(x, STEPS)))[-1].argmax(-1)
        found = predict(snn, x, STEPS, exit)
        fixed, early = fixed + int((last == y).sum()), early + int((found.labels == y).sum())
        changed += int((last != found.labels).sum())
        taken += torch.bincount(found.steps - 1, minlength=STEPS)
    samples = int(taken.sum())
    mean = float((taken * torch.arange(1, STEPS + 1)).sum() / samples)
    result = {
        "samples": samples, "fixed_accuracy": fixed / samples, "accuracy": early / samples, "mean_steps": mean,
        "changed": changed / samples, "left_at": taken.tolist(), "exit": to_json(exit), "risk": RISK,
        "calibration_samples": CALIBRATION, "choice_samples": CHOICE,
        "method": to_json(methods.best(STEPS, letters)), "provenance": versions() | {"recipe": "early_exit"},
    }  # fmt: skip
    write_json(path, result)
    print(f"{name}, {letters} letters: {time.perf_counter() - started:.0f} s", flush=True)


def table(out: Path) -> Iterator[str]:
    """Accuracy with and without exits, and the steps they take, of every network and alphabet that has been run."""
    found = [(name, k, path) for name in NETS for k in FIRST if (path := out / name / f"exit-{k}.json").exists()]
    if not found:
        return
    yield f"| network | letters | from step | confidence | T = {STEPS} | with exits | changed | mean steps |"
    yield f"|{'---|' * 8}"
    for name, letters, path in found:
        r = read_json(path)
        kind = "ternary" if letters == 1 else f"up to {letters}"
        yield (
            f"| {name} | {kind} | {r['exit']['first']} | {r['exit']['confidence']:.3f} | {r['fixed_accuracy']:.2%} "
            f"| {r['accuracy']:.2%} | {r['changed']:.2%} | {r['mean_steps']:.2f} |"
        )


def tables(out: Path) -> dict[str, list[str]]:
    """The table under the mark that it has in docs/low-latency.md."""
    return {"exits": list(table(out))}


def main() -> None:
    asked = parser(__doc__, Path("evidence/low-latency"))
    asked.add_argument("--nets", nargs="+", default=["resnet20"], choices=list(NETS))
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables(options.out))
        return
    for name in options.nets:
        for letters in FIRST:
            run(name, letters, options.out, options.limit)


if __name__ == "__main__":
    program(main)
