"""The beta of our DTIF reconstruction, chosen on training data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from . import methods
from .convert import convert
from .evaluate import evaluate
from .method import Method
from .spec import require
from .threshold import DTIF

PAPER_RATE = 3.1
"""Spikes per neuron and step over max-norm that follow from DTIF's abstract: 7.14 x faster at 0.44 x the energy."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One beta on training data: accuracy after the last step, and the firing rate relative to max-norm."""

    beta: float
    accuracy: float
    rate_ratio: float


@dataclass(frozen=True, slots=True)
class BetaChoice:
    """The method with its calibrated beta, every trial, and which constraint decided ("accuracy" or "rate")."""

    method: Method
    trials: tuple[Trial, ...]
    decided_by: str


def calibrate_beta(
    ann: nn.Module,
    batches: Iterable[Any],
    training: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    *,
    threshold: DTIF = DTIF(),
    betas: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    progress: Callable[[float], None] | None = None,
) -> BetaChoice:
    """The beta of our DTIF reconstruction, on labelled `training` data, never on test data.

    Of all betas whose accuracy after `steps` steps is within one standard error of the best, the one whose firing rate
    is nearest to `PAPER_RATE` times that of max-norm. `batches` calibrate theta0 as in `convert`.
    """
    require(len(betas) > 0 and min(betas) >= 0, f"betas {tuple(betas)} must not be negative nor empty")
    batches, training = list(batches), list(training)
    base, _ = convert(ann, methods.max_norm(), batches)
    rest = evaluate(base, training, steps).rate[-1]
    trials, made = [], []
    for beta in betas:
        method = methods.dtif(replace(threshold, inverse=replace(threshold.inverse, beta=float(beta))))
        net, _ = convert(ann, method, batches)
        curve = evaluate(net, training, steps)
        trials.append(Trial(float(beta), float(curve.accuracy[-1]), float(curve.rate[-1] / max(rest, 1e-12))))
        made.append(method)
        if progress:
            progress(beta)
    best = max(trial.accuracy for trial in trials)
    samples = sum(len(x) for x, _ in training)
    tied = [i for i, trial in enumerate(trials) if trial.accuracy >= best - math.sqrt(best * (1 - best) / samples)]
    chosen = min(tied, key=lambda i: abs(math.log(max(trials[i].rate_ratio, 1e-12) / PAPER_RATE)))
    return BetaChoice(made[chosen], tuple(trials), "rate" if len(tied) > 1 else "accuracy")
