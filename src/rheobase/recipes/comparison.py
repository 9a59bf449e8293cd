"""What the recipes share: train a small network, convert it by each method, and write one JSON for each."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import Half, Max, Method, Percentile, RheobaseError, convert, evaluate, methods
from ..evaluate import Curve, versions
from ..files import read_json, write, write_json
from ..quantise import accuracy, quantised

SHOWN = (1, 2, 4, 8, 16, 32)
QUANTISED = "quantised ANN, K = T"
BESIDE = {
    "max-norm": methods.max_norm(),
    "constant 0.5": methods.constant(0.5),
    "constant 0.3": methods.constant(0.3),
    "constant 0.2": methods.constant(0.2),
    "percentile 99.9": methods.percentile(99.9),
    "OPI, max": methods.opi(Max()),
    "OPI, 99.9": methods.opi(Percentile(99.9)),
    "MSAT": methods.msat(),
    "MSAT, mild constants": methods.msat_resnet20_cifar10(),
    "MSAT, mild constants, half": replace(methods.msat_resnet20_cifar10(), initial=Half()),
    "DTIF (ours)": methods.dtif(),
    "best, 1 letter, T = 4": methods.best(4, 1),
    "best, 3 letters, T = 2": methods.best(2, 3),
    "best, 15 letters, T = 1": methods.best(1, 15),
    "best, 15 letters, T = 4": methods.best(4, 15),
}
"""What every recipe compares: the weak and strong baselines, the three papers, and the best for a budget."""


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rate: float,
    seed: int,
    vary: Callable[[Tensor], Tensor] = lambda x: x,
    validate: Callable[[nn.Module], float] | None = None,
    size: int = 64,
    decay: float = 0.01,
) -> nn.Module:
    """`model` after AdamW with a one-cycle schedule of `epochs`, in eval mode; `vary` augments each batch."""
    torch.manual_seed(seed)
    pieces = math.ceil(len(x) / size)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * pieces)
    for epoch in range(epochs):
        model.train()
        started, losses = time.perf_counter(), []
        for index in torch.randperm(len(x)).split(size):
            loss = F.cross_entropy(model(vary(x[index])), y[index], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        found = f", validation {validate(model):.2%}" if validate else ""
        print(
            f"epoch {epoch + 1}: loss {sum(losses) / pieces:.4f}{found}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    return model.eval()


def compare(
    ann: nn.Module,
    chosen: Mapping[str, Method],
    calibration: list[Tensor],
    loader: list[tuple[Tensor, Tensor]],
    out: Path,
    about: Mapping[str, Any],
    steps: int = SHOWN[-1],
) -> None:
    """One JSON in `out` for each method, and one for the quantised network; those that exist are kept."""
    for label, method in chosen.items():
        converted(out / f"{slug(label)}.json", label, method, ann, calibration, loader, about, steps)
    rounded(out / f"{slug(QUANTISED)}.json", ann, calibration, loader, about)


def converted(
    path: Path,
    label: str,
    method: Method,
    ann: nn.Module,
    calibration: list[Tensor],
    loader: list[tuple[Tensor, Tensor]],
    about: Mapping[str, Any],
    steps: int,
) -> None:
    """One method: convert, evaluate, write the curve with its provenance and the report."""
    if path.exists():
        print(f"{label}: kept", flush=True)
        return
    started = time.perf_counter()
    net, report = convert(ann, method, calibration)
    curve = evaluate(net, loader, steps, label=label, ann=ann)
    provenance = curve.provenance | dict(about) | {"report": report.to_json()}
    write_json(path, curve.to_json() | {"provenance": provenance})
    print(f"{label}: {time.perf_counter() - started:.0f} s", flush=True)


def rounded(
    path: Path,
    ann: nn.Module,
    calibration: list[Tensor],
    loader: list[tuple[Tensor, Tensor]],
    about: Mapping[str, Any],
    levels: tuple[int, ...] = SHOWN,
) -> None:
    """The strong baseline: the network with activations rounded to K levels, for each K of `levels`."""
    if path.exists():
        print(f"{QUANTISED}: kept", flush=True)
        return
    graphs = quantised(ann, Percentile(99.9), calibration, levels)
    found = {"levels": list(levels), "accuracy": [accuracy(graph, loader) for graph in graphs.values()]}
    samples = sum(len(y) for _, y in loader)
    write_json(path, found | {"label": QUANTISED, "samples": samples, "provenance": versions() | dict(about)})


def slug(label: str) -> str:
    """A label as a file name."""
    return "".join(c if c.isalnum() or c == "." else "-" for c in label.lower()).strip("-").replace("--", "-")


def rows(
    out: Path, labels: Iterable[str], shown: tuple[int, ...] = SHOWN, at: int = SHOWN[-1], what: str = "test samples"
) -> Iterator[str]:
    """The results in a folder as a Markdown table: accuracy in percent, spikes and energy after `at` steps."""
    paths = [path for label in labels if (path := out / f"{slug(label)}.json").exists()]
    curves = [Curve.from_json(read_json(path)) for path in paths]
    if not curves:
        return
    yield f"{curves[0].samples} {what}, ANN {curves[0].ann_accuracy:.2%}"
    yield ""
    ends = f"spikes per neuron at T = {at} | energy / ANN at T = {at}"
    yield f"| method | {' | '.join(f'T = {t}' for t in shown)} | {ends} |"
    yield f"|---|{'---|' * (len(shown) + 2)}"
    for curve in curves:
        last = min(at, len(curve.steps))
        cells = " | ".join(f"{100 * curve.accuracy[t - 1]:.1f}" if t <= len(curve.steps) else "" for t in shown)
        spikes, energy = curve.rate[last - 1] * last, curve.energy_pj[last - 1] / curve.ann_energy_pj
        graded = " (graded)" if curve.graded[-1] else ""
        graded += f" (T = {last})" if last < at else ""
        yield f"| {curve.label} | {cells} | {spikes:.2f} | {energy:.2f}{graded} |"
    strong = out / f"{slug(QUANTISED)}.json"
    if strong.exists():
        found = dict(zip(*(read_json(strong)[key] for key in ("levels", "accuracy")), strict=True))
        yield f"| {QUANTISED} | {' | '.join(f'{100 * found[t]:.1f}' for t in shown)} | | |"


def parser(about: str | None, out: Path | None) -> argparse.ArgumentParser:
    """What every recipe is asked: where its results lie, and which file is given their table."""
    asked = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=out, help=f"folder of the results{f' ({out})' if out else ''}")
    asked.add_argument("--table", type=Path, help="write the table of the results into this file and run nothing")
    return asked


def program(main: Callable[[], None]) -> None:
    """Run a recipe as a program: bad input is one paragraph, no traceback."""
    try:
        main()
    except RheobaseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def insert(path: Path, tables: Mapping[str, Iterable[str]]) -> None:
    """Put the lines of each table between the marks `<!-- name -->` and `<!-- /name -->` of a file."""
    text = path.read_text()
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = "\n".join([before + begin, "", *lines, "", end]) + rest.partition(end)[2]
    write(path, text)
