"""Convert the published CIFAR-10 ResNet-20 and ResNet-56 with each method; accuracy, spikes and energy at T = 1..64.

    RHEOBASE_DATA=/path/to/data python -m rheobase.recipes.cifar_conversion              # one JSON for each result
    python -m rheobase.recipes.cifar_conversion --table README.md                        # tables from the JSON

Reads `cifar10/` and `pretrained/cifar10_resnet{20,56}.safetensors` under RHEOBASE_DATA. The weights are those of
akamaster/pytorch_resnet_cifar10 (`safetensors.torch.save_file` of their state dicts). Calibration sees the first 512
training images without labels; DTIF's beta is chosen on 500 other training images. Results that exist are kept, so a
run that was stopped goes on where it was.
"""

from __future__ import annotations

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
    burst,
    methods,
)  # fmt: skip
from ..beta import calibrate_beta
from ..data import batches, cifar10, local
from ..nets import cifar_resnet20, cifar_resnet56
from .comparison import QUANTISED, converted, insert, parser, program, rounded, rows, slug

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


def network(name: str) -> nn.Module:
    """The pretrained network in eval mode."""
    model = NETS[name]()
    model.load_state_dict(load_file(local("pretrained") / f"cifar10_{name}.safetensors"))
    return model.eval()


def run(name: str, label: str, out: Path, limit: int | None, steps: int) -> None:
    """One network, one method, one JSON."""
    path, ann = out / name / f"{slug(label)}.json", network(name)
    train, _ = cifar10("train", limit=512)
    calibration = list(train.split(128))
    loader = batches(*cifar10("test", limit=limit), 100)
    if label == QUANTISED:
        rounded(path, ann, calibration, loader, {}, SHOWN)
    else:
        method, about = (METHODS[label], {}) if path.exists() else chosen(label, ann, calibration)
        converted(path, label, method, ann, calibration, loader, about, steps)


def chosen(label: str, ann: nn.Module, calibration: list[torch.Tensor]) -> tuple[Method, dict[str, object]]:
    """The method of a label; DTIF's beta comes from training images that calibrate nothing else."""
    method = METHODS[label]
    if not isinstance(method.threshold, DTIF):
        return method, {}
    x, y = cifar10("train", limit=1500)
    choice = calibrate_beta(ann, calibration, batches(x[1000:], y[1000:], 100), steps=32, threshold=method.threshold)
    trials = [[trial.beta, trial.accuracy, trial.rate_ratio] for trial in choice.trials]
    return choice.method, {"beta_trials": trials, "beta_decided_by": choice.decided_by}


def tables(out: Path) -> dict[str, list[str]]:
    """The tables of every network, under the mark that they have in README.md."""
    found = {name: list(rows(out / name, METHODS, SHOWN, 32, "test images")) for name in NETS}
    blocks = [[f"{name}, CIFAR-10, {lines[0]}", *lines[1:], ""] for name, lines in found.items() if lines]
    return {"results": [line for block in blocks for line in block][:-1]}


def main() -> None:
    asked = parser(__doc__, Path("evidence/cifar10"))
    asked.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    asked.add_argument("--methods", nargs="+", default=[*METHODS, QUANTISED], choices=[*METHODS, QUANTISED])
    asked.add_argument("--steps", type=int, default=STEPS)
    asked.add_argument("--limit", type=int, help="the first test images only, for a quick look")
    options = asked.parse_args()
    if options.table:
        insert(options.table, tables(options.out))
        return
    for name in options.nets:
        for label in options.methods:
            run(name, label, options.out, options.limit, options.steps)


if __name__ == "__main__":
    program(main)
