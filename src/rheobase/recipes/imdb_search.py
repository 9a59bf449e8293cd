"""Search on a network it was not made for: the review classifier of `imdb_sentiment`, three targets, test data once.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.imdb_search
    python -m rheobase.recipes.imdb_search --table docs/search.md

Calibration sees 512 training reviews without labels; the 2,500 reviews on which the classifier was not trained choose
and confirm, half of them each. Then the choice answers the 25,000 test reviews, once. Results that exist are kept; an
interrupted search goes on from the journal beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import FileError, SpikingNet, search
from ..data import batches
from ..evaluate import versions
from ..files import read_json, write_json
from .comparison import insert, parser, program, slug
from .imdb_sentiment import TRAINING, SentimentNet, reviews, tokens, vocabulary

GOALS = {
    "1 point, T at most 8": {"max_drop": 0.01, "steps": 8},
    "0.5 points, binary spikes, T at most 8": {"max_drop": 0.005, "steps": 8, "binary": True},
    "0.5 points, T at most 2": {"max_drop": 0.005, "steps": 2},
}
TRIALS = 30


def network(weights: Path) -> nn.Module:
    """The classifier that `imdb_sentiment` trained."""
    if not weights.exists():
        raise FileError(
            f"there is no {str(weights)!r}", instead="python -m rheobase.recipes.imdb_sentiment --train-only"
        )
    model = SentimentNet()
    model.load_state_dict(load_file(weights))
    return model.eval()


def paired(ann: nn.Module, snn: SpikingNet, loader: list[tuple[Tensor, Tensor]], steps: int) -> dict[str, float]:
    """Accuracy of both on the same samples, and the share of samples that only one of them has right."""
    both = torch.zeros(2, dtype=torch.int64)
    apart = samples = 0
    with torch.inference_mode():
        for x, y in loader:
            *_, ys = snn.present(x, steps)
            right = torch.stack([ann(x).argmax(1) == y, ys[-1].argmax(1) == y])
            both, apart, samples = both + right.sum(1), apart + int((right[0] != right[1]).sum()), samples + len(y)
    accuracy = (both.double() / samples).tolist()
    return {"ann_accuracy": accuracy[0], "accuracy": accuracy[1], "apart": apart / samples, "samples": samples}


def run(label: str, ann: nn.Module, x: Tensor, y: Tensor, out: Path, test: list[tuple[Tensor, Tensor]]) -> None:
    """One target: search, then the choice on the test reviews."""
    path = out / f"{slug(label)}.json"
    if path.exists():
        print(f"{label}: kept", flush=True)
        return
    held = batches(x[TRAINING:], y[TRAINING:], 125)
    journal = out / f"{slug(label)}.log"
    choice = search(
        ann, list(x[:512].split(128)), held, trials=TRIALS, journal=journal,
        progress=lambda trial: print(f"{trial.candidate}: {trial.fate}", flush=True), **GOALS[label],
    )  # fmt: skip
    found = paired(ann, choice.snn, test, choice.candidate.steps)
    write_json(path, choice.to_json() | {"test": found, "provenance": versions() | {"recipe": "imdb_search"}})
    journal.unlink(missing_ok=True)  # the result holds all that it held


def table(out: Path) -> Iterator[str]:
    """What each search promised, and what the test reviews say; the standard error is that of the promised drop."""
    found = [(label, read_json(path)) for label in GOALS if (path := out / f"{slug(label)}.json").exists()]
    if not found:
        return
    yield "| at most lost | chosen | energy / ANN | points lost, promised | on the test reviews | standard error |"
    yield f"|{'---|' * 6}"
    for label, r in found:
        c, promise, test = r["candidate"], r["promise"], r["test"]
        error = math.sqrt(test["apart"] / promise["samples"])
        one = "binary" if c["family"] in ("rate", "wait") else "one letter of each sign"
        kind = one if c["letters"] == 1 else f"letters up to {c['letters']}"
        yield (
            f"| {label} | {c['family']}, {kind}, T = {c['steps']}, {c['scale']}, bias: {c['correction']} "
            f"| {promise['energy']:.2f} | {100 * promise['drop']:.2f} "
            f"| {100 * (test['ann_accuracy'] - test['accuracy']):.2f} | {100 * error:.2f} |"
        )


def main() -> None:
    asked = parser(__doc__, Path("evidence/search"))
    asked.add_argument("--weights", type=Path, default=Path("evidence/imdb/ann.safetensors"))
    options = asked.parse_args()
    if options.table:
        insert(options.table, {"searches": table(options.out)})
        return
    ann = network(options.weights)
    texts, y = reviews("train")
    numbers = vocabulary(texts[:TRAINING])
    x = tokens(texts, numbers)
    texts, answers = reviews("test")
    test = batches(tokens(texts, numbers), answers, 200)
    for label in GOALS:
        run(label, ann, x, y, options.out, test)


if __name__ == "__main__":
    program(main)
