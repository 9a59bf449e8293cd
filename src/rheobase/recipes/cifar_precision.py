"""What whole weights cost: converted CIFAR-10 ResNets compiled in int8 beside fp32, on all test images, at T = 8.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_precision
    python -m rheobase.recipes.cifar_precision --table docs/engine.md

Data, weights and calibration as in `cifar_conversion`: 512 unlabelled training images calibrate thresholds, and choose
the kernels of a layer; int8 needs no data. Results that exist are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
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

STEPS, PRECISIONS = 8, ("fp32", "int8")
METHODS = {
    "opi": methods.opi(),
    "best, 1 letter": methods.best(STEPS, 1),
    "best, 3 letters": methods.best(STEPS, 3),
}


def measured(
    ann: nn.Module, method: Method, calibration: list[Tensor], loader: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Accuracy after every step in each precision, and the share of last answers that are not those of fp32."""
    snn, _ = convert(ann, method, calibration)
    nets = {precision: made_ready(snn, calibration[0][:32], precision=precision) for precision in PRECISIONS}
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


def run(name: str, chosen: Sequence[str], out: Path, limit: int | None) -> None:
    """Every chosen method of one network."""
    ann, (train, _) = network(name), cifar10("train", limit=512)
    loader = batches(*cifar10("test", limit=limit), 100)
    for label in chosen:
        path, started = out / name / f"{slug(label)}.json", time.perf_counter()
        if path.exists():
            print(f"{name}, {label}: kept", flush=True)
            continue
        found = measured(ann, METHODS[label], list(train.split(128)), loader)
        write_json(path, {"label": label, "steps": STEPS} | found | {"provenance": versions()})
        print(f"{name}, {label}: {time.perf_counter() - started:.0f} s", flush=True)


def rows(out: Path) -> Iterator[str]:
    """Accuracy at the last step of each network and method, in both precisions."""
    paths = [path for name in NETS for label in METHODS if (path := out / name / f"{slug(label)}.json").exists()]
    if paths:
        yield f"| network | method | {' | '.join(PRECISIONS)} | difference | answers changed |"
        yield f"|---|---|{'---|' * (len(PRECISIONS) + 2)}"
    for path in paths:
        found = read_json(path)
        last = [found["accuracy"][precision][-1] for precision in PRECISIONS]
        cells = " | ".join(f"{a:.2%}" for a in last)
        difference = f"{100 * (last[1] - last[0]):+.2f}"
        yield f"| {path.parent.name} | {found['label']} | {cells} | {difference} | {found['changed']:.2%} |"


def main() -> None:
    asked = parser(__doc__, Path("evidence/precision"))
    asked.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    asked.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, {"precision": rows(options.out)})
        return
    for name in options.nets:
        run(name, options.methods, options.out, options.limit)


if __name__ == "__main__":
    program(main)
