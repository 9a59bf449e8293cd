"""What whole weights cost: converted CIFAR-10 ResNets compiled in int8 beside fp32, on all test images, at T = 8.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_precision
    python -m rheobase.recipes.cifar_precision --table docs/engine.md

Data and weights as in `cifar_conversion`: 512 unlabelled training images calibrate thresholds, and choose the kernels
of a layer; int8 needs no data. `--draws 5` does so five times, each with the next 512 images: which answers of one
network change is chance, and so is part of the difference. Results that exist are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from .. import compile as made_ready
from .. import convert, methods
from ..data import batches, cifar10
from ..evaluate import versions
from ..files import read_json, write_json
from ..method import Method
from .cifar_conversion import NETS, network
from .comparison import insert, parser, program, slug

STEPS, CALIBRATION, PRECISIONS = 8, 512, ("fp32", "int8")
METHODS = {
    "opi": methods.opi(),
    "best, 1 letter": methods.best(STEPS, 1),
    "best, 3 letters": methods.best(STEPS, 3),
}


def measured(
    ann: nn.Module, method: Method, calibration: Tensor, loader: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Accuracy after every step in each precision, and the share of last answers that are not those of fp32."""
    snn, _ = convert(ann, method, list(calibration.split(128)))
    nets = {precision: made_ready(snn, calibration[:32], precision=precision) for precision in PRECISIONS}
    right = {precision: torch.zeros(STEPS, dtype=torch.int64) for precision in PRECISIONS}
    changed = 0
    with torch.inference_mode():
        for x, y in loader:
            called = {}
            for precision, net in nets.items():
                called[precision] = torch.cat(list(net.present(x, STEPS))).argmax(2)
                right[precision] += (called[precision] == y).sum(1)
            changed += int((called["int8"][-1] != called["fp32"][-1]).sum())
    samples = sum(len(y) for _, y in loader)
    accuracy = {precision: (hits.double() / samples).tolist() for precision, hits in right.items()}
    kernels = {precision: [layer.kernel for layer in net.explain()] for precision, net in nets.items()}
    return {"accuracy": accuracy, "changed": changed / samples, "samples": samples, "kernels": kernels}


def run(name: str, chosen: Sequence[str], out: Path, draws: int, limit: int | None) -> None:
    """Every chosen method of one network, from each draw of calibration images."""
    ann, (train, _) = network(name), cifar10("train", limit=CALIBRATION * draws)
    loader = batches(*cifar10("test", limit=limit), 100)
    for label in chosen:
        path = out / name / f"{slug(label)}.json"
        found = read_json(path) if path.exists() else {"label": label, "steps": STEPS, "draws": []}
        for draw, calibration in enumerate(train.split(CALIBRATION)):
            if draw < len(found["draws"]):
                print(f"{name}, {label}, draw {draw + 1}: kept", flush=True)
                continue
            started = time.perf_counter()
            found["draws"].append(measured(ann, METHODS[label], calibration, loader) | {"provenance": versions()})
            write_json(path, found)
            print(f"{name}, {label}, draw {draw + 1}: {time.perf_counter() - started:.0f} s", flush=True)


def difference(found: Mapping[str, Any]) -> tuple[float, float]:
    """Accuracy of int8 less that of fp32 at the last step: mean and standard error of the draws, NaN for one."""
    at = [draw["accuracy"]["int8"][-1] - draw["accuracy"]["fp32"][-1] for draw in found["draws"]]
    return mean(at), stdev(at) / math.sqrt(len(at)) if len(at) > 1 else math.nan


def rows(out: Path) -> Iterator[str]:
    """Accuracy at the last step of each network and method, in both precisions, the mean of its draws."""
    paths = [path for name in NETS for label in METHODS if (path := out / name / f"{slug(label)}.json").exists()]
    if paths:
        yield f"| network | method | calibrations | {' | '.join(PRECISIONS)} | difference | answers changed |"
        yield f"|---|---|{'---|' * (len(PRECISIONS) + 3)}"
    for path in paths:
        found = read_json(path)
        draws = found["draws"]
        cells = " | ".join(f"{mean(draw['accuracy'][precision][-1] for draw in draws):.2%}" for precision in PRECISIONS)
        off, error = difference(found)
        less = f"{100 * off:+.2f}" + ("" if math.isnan(error) else f" ± {100 * error:.2f}")
        changed = mean(draw["changed"] for draw in draws)
        yield f"| {path.parent.name} | {found['label']} | {len(draws)} | {cells} | {less} | {changed:.2%} |"


def main() -> None:
    asked = parser(__doc__, Path("evidence/precision"))
    asked.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    asked.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    asked.add_argument("--draws", type=int, default=1, help="how many times to calibrate, each with other images")
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, {"precision": rows(options.out)})
        return
    for name in options.nets:
        run(name, options.methods, options.out, options.draws, options.limit)


if __name__ == "__main__":
    program(main)
