"""The demo: train a small network on scikit-learn's digits, convert it with each method, compare. Offline, a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import methods, plot
from .convert import convert
from .data import batches
from .errors import extra
from .evaluate import Curve, evaluate, versions
from .files import write_json
from .method import Method
from .nets import DigitsNet

STEPS, TRAINING, EPOCHS = 32, 1200, 20
PRESETS = {
    "VGG16": methods.msat(),
    "ResNet20": methods.msat_resnet20(),
    "ResNet20/C10": methods.msat_resnet20_cifar10(),
}
"""Its authors' constants of MSAT are absolute and made for their networks; training data say which suit this one."""


NOTES = (
    "MSAT: of its authors' sets of constants the one that does best on 300 training images",
    "DTIF (ours): our reconstruction, the authors' formula is not public",
)


class Advance(Protocol):
    """Hears how work goes on: `n` more of `of` are done in `stage`."""

    def __call__(self, stage: str, n: int, of: int) -> None: ...


class Split(NamedTuple):
    """Images `[N, 1, 8, 8]` in 0..1 and labels `[N]`, apart for training and calibration and for the test."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


class Progress(NamedTuple):
    """What of the demo is finished: a line about the files that can be read now, and every curve so far."""

    finished: str
    curves: list[Curve]


def run(out: Path, seed: int, advance: Advance) -> Iterator[Progress]:
    """Train, convert and evaluate with each method; yields after each one, when `out/demo.json` is complete again.

    The figures `curve.png` and `curve.svg` come last. The same seed gives the same numbers. Raises MissingExtraError
    before any work, FileError if `out` cannot be written.
    """
    plot.require_matplotlib()
    with one_thread():
        split = digits(seed)
        ann = train(split, seed, advance, EPOCHS)
        preset, trials = choose_preset(ann, split, advance)
        rows, curves = named(preset), []
        about = {"seed": seed, "training": len(split.x), "test": len(split.x_test), "msat_trials": trials}
        for label, method in rows.items():
            curves.append(measure(ann, split, label, method, advance))
            write_json(out / "demo.json", {**about, **versions(), "curves": [curve.to_json() for curve in curves]})
            yield Progress(f"{len(curves)} of {len(rows)} methods are in {out / 'demo.json'}", curves)
        figure = plot.accuracy_latency(curves, title="DigitsNet on scikit-learn's digits")
        for name in ("curve.png", "curve.svg"):
            plot.save(out / name, figure)
        yield Progress(f"wrote demo.json, curve.png and curve.svg to {out}", curves)


@contextmanager
def one_thread() -> Iterator[None]:
    """These tensors are too small to share out, and sums in another order would be other numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def digits(seed: int) -> Split:
    """scikit-learn's 1797 digits, shuffled by `seed`: 1200 to train and calibrate, the rest to test."""
    with extra("demo", "the demo's digits need scikit-learn"):
        from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8)[order] / 16
    y = torch.from_numpy(labels).long()[order]
    return Split(x[:TRAINING], y[:TRAINING], x[TRAINING:], y[TRAINING:])


def train(split: Split, seed: int, advance: Advance, epochs: int) -> nn.Module:
    """DigitsNet after `epochs` of Adam with a one-cycle schedule, in eval mode."""
    stage, pieces = "training", -(-len(split.x) // 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DigitsNet()
        optimiser = torch.optim.Adam(net.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, epochs * pieces)
        for _ in range(epochs):
            for piece in torch.randperm(len(split.x)).split(64):
                optimiser.zero_grad()
                F.cross_entropy(net(split.x[piece]), split.y[piece]).backward()
                optimiser.step()
                schedule.step()
            advance(stage, 1, epochs)
    return net.eval()


def choose_preset(ann: nn.Module, split: Split, advance: Advance) -> tuple[str, dict[str, float]]:
    """Which of MSAT's published constants suit, by the accuracy on 300 training images, mean over T = 1..32."""
    trials = {}
    for name, method in PRESETS.items():
        with quiet():
            net, _ = convert(ann, method, [split.x])
        trials[name] = float(evaluate(net, batches(split.x[:300], split.y[:300], 100), STEPS).accuracy.mean())
        advance("choosing MSAT's constants on training images", 1, len(PRESETS))
    return max(trials, key=trials.__getitem__), trials


@contextmanager
def quiet() -> Iterator[None]:
    """No warning that constants do not suit, where finding that out is the purpose."""
    log = logging.getLogger("rheobase")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def named(preset: str) -> dict[str, Method]:
    """The rows of the demo: label and method."""
    return {
        "max-norm": methods.max_norm(),
        "constant 0.5": methods.constant(0.5),
        "percentile 99.9": methods.percentile(99.9),
        "OPI, 99.9": methods.opi(),
        f"MSAT, {preset}": PRESETS[preset],
        "DTIF (ours)": methods.dtif(),
        "burst 5, 99.9": methods.burst(5),
    }


def measure(ann: nn.Module, split: Split, label: str, method: Method, advance: Advance) -> Curve:
    """Convert by `method`, calibrated on the training images, and run the test images once."""
    net, _ = convert(ann, method, [split.x])

    def count(n: int) -> None:
        advance(label, n, len(split.x_test))

    count(0)
    return evaluate(net, batches(split.x_test, split.y_test, 100), STEPS, label=label, ann=ann, progress=count)
