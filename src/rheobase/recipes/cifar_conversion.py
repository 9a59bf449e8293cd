"""Convert the published CIFAR-10 ResNet-20 and ResNet-56 with each method; accuracy, spikes and energy at T = 1..64.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_conversion              # one JSON for each result
    python -m rheobase.recipes.cifar_conversion --table README.md                        # tables from the JSON

Reads `cifar10/` and `pretrained/cifar10_resnet{20,56}.safetensors` under RHEOBASE_DATA. The weights are those of
akamaster/pytorch_resnet_cifar10 (`safetensors.torch.save_file` of their state dicts). Calibration sees the first 512
training images without labels; DTIF's beta is chosen on 500 other training images. Results that exist are kept, so a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from .. import (
    DTIF,
    MSAT_RESNET20_CIFAR10,
    Fixed,
    Half,
    Max,
    Method,
    Percentile,
    RheobaseError,
    burst,
    convert,
    evaluate,
    methods,
)  # fmt: skip
from ..data import batches, cifar10, local
from ..evaluate import Curve, versions
from ..files import read_json, write, write_json
from ..nets import cifar_resnet20, cifar_resnet56
from ..quantise import accuracy, quantised
from ..search import calibrate_beta

STEPS = 64
SHOWN = (1, 2, 4, 8, 16, 32, 64)
NETS = {"resnet20": cifar_resnet20, "resnet56": cifar_resnet56}
METHODS = {
    "max-norm": methods.max_norm(),
    "percentile 99.9": methods.percentile(99.9),
    "OPI, max": methods.opi(Max()),
    "OPI, 99.9": methods.opi(Percentile(99.9)),
    "MSAT": methods.msat_resnet20_cifar10(),
    "constant 0.5": methods.constant(0.5),
    "constant 0.3": methods.constant(0.3),
    "constant 0.2": methods.constant(0.2),
    "DTIF (ours)": methods.dtif(),
    "MSAT + confidence": methods.msat_resnet20_cifar10(confidence=True),
    "MSAT + half": replace(methods.msat_resnet20_cifar10(), initial=Half()),
    "MSAT normalised": methods.msat(replace(MSAT_RESNET20_CIFAR10, normalised=True)),
    "burst 5": methods.burst(5),
    "OPI, 99.9, channels": methods.opi(Percentile(99.9, channelwise=True)),
    "MSAT, ResNet-20 constants": methods.msat_resnet20(),
    "MSAT, VGG-16 constants": methods.msat(),
    "constant 0.2, burst 5": Method(threshold=Fixed(0.2), alphabet=burst(5)),
}
QUANTISED = "quantised ANN, K = T"


def network(name: str) -> nn.Module:
    """The pretrained network in eval mode."""
    model = NETS[name]()
    model.load_state_dict(load_file(local("pretrained") / f"cifar10_{name}.safetensors"))
    return model.eval()


def run(name: str, label: str, out: Path, limit: int | None, steps: int) -> None:
    """One network, one method, one JSON."""
    path = out / name / f"{slug(label)}.json"
    if path.exists():
        print(f"{name} {label}: kept", flush=True)
        return
    started = time.perf_counter()
    ann = network(name)
    train, _ = cifar10("train", limit=512)
    calibration = list(train.split(128))
    x, y = cifar10("test", limit=limit)
    loader = batches(x, y, 100)
    if label == QUANTISED:
        graphs = quantised(ann, Percentile(99.9), calibration, SHOWN)
        found = {"levels": list(SHOWN), "accuracy": [accuracy(graph, loader) for graph in graphs.values()]}
        write_json(path, found | {"label": label, "samples": len(x), "provenance": versions()})
    else:
        method, extra = chosen(name, label, ann, calibration)
        net, report = convert(ann, method, calibration)
        curve = evaluate(net, loader, steps, label=label, ann=ann)
        write_json(path, curve.to_json() | {"provenance": curve.provenance | extra | {"report": report.to_json()}})
    print(f"{name} {label}: {time.perf_counter() - started:.0f} s", flush=True)


def chosen(name: str, label: str, ann: nn.Module, calibration: list[torch.Tensor]) -> tuple[Method, dict[str, object]]:
    """The method of a label; DTIF's beta comes from training images that calibrate nothing else."""
    method = METHODS[label]
    if not isinstance(method.threshold, DTIF):
        return method, {}
    x, y = cifar10("train", limit=1500)
    choice = calibrate_beta(ann, calibration, batches(x[1000:], y[1000:], 100), steps=32, threshold=method.threshold)
    trials = [[trial.beta, trial.accuracy, trial.rate_ratio] for trial in choice.trials]
    return choice.method, {"beta_trials": trials, "beta_decided_by": choice.decided_by}


def slug(label: str) -> str:
    return "".join(c if c.isalnum() or c == "." else "-" for c in label.lower()).strip("-").replace("--", "-")


def table(name: str, out: Path) -> Iterator[str]:
    """The results of one network as a Markdown table."""
    curves = [
        Curve.from_json(read_json(path)) for label in METHODS if (path := out / name / f"{slug(label)}.json").exists()
    ]
    if not curves:
        return
    samples, reference = curves[0].samples, curves[0].ann_accuracy
    yield f"{name}, CIFAR-10, {samples} test images, ANN {reference:.2%}"
    yield ""
    yield f"| method | {' | '.join(f'T = {t}' for t in SHOWN)} | spikes per neuron at T = 32 | energy / ANN at T = 32 |"
    yield f"|---|{'---|' * (len(SHOWN) + 2)}"
    for curve in curves:
        cells = " | ".join(f"{100 * curve.accuracy[t - 1]:.1f}" for t in SHOWN)
        spikes, energy = curve.rate[31] * 32, curve.energy_pj[31] / curve.ann_energy_pj
        graded = " (graded)" if curve.graded[-1] else ""
        yield f"| {curve.label} | {cells} | {spikes:.2f} | {energy:.2f}{graded} |"
    strong = out / name / f"{slug(QUANTISED)}.json"
    if strong.exists():
        found = dict(zip(*(read_json(strong)[key] for key in ("levels", "accuracy")), strict=True))
        yield f"| {QUANTISED} | {' | '.join(f'{100 * found[t]:.1f}' for t in SHOWN)} | | |"


def insert(path: Path, out: Path) -> None:
    """Replace what stands between the marks `<!-- results -->` and `<!-- /results -->` by the tables."""
    begin, end = "<!-- results -->", "<!-- /results -->"
    before, _, rest = path.read_text().partition(begin)
    after = rest.partition(end)[2]
    tables = "\n\n".join("\n".join(table(name, out)) for name in NETS if (out / name).is_dir())
    write(path, f"{before}{begin}\n\n{tables}\n\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--methods", nargs="+", default=[*METHODS, QUANTISED], choices=[*METHODS, QUANTISED])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("evidence/cifar10"))
    parser.add_argument("--table", type=Path, help="write the tables into this file and run nothing")
    options = parser.parse_args()
    if options.table:
        insert(options.table, options.out)
        return
    for name in options.nets:
        for label in options.methods:
            run(name, label, options.out, options.limit, options.steps)


if __name__ == "__main__":
    try:
        main()
    except RheobaseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
