"""The cheapest method, letters and steps that meet a target; a candidate is dropped as soon as the evidence allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .candidate import Candidate
from .convert import convert
from .errors import InputError, RheobaseError, context
from .evaluate import evaluate
from .evidence import Evidence
from .inputs import called
from .network import SpikingNet
from .spec import require, to_json
from .study import Study
from .trial import Goal, Trial, pareto

RUNGS = (64, 128, 256, 512, 1024, 2048, 4096)
"""After how many samples a candidate is judged; between two rungs it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a search found. promise: what was seen of the candidate on samples that took no part in choosing it.

    met: whether the promise meets the goal. trials: everything tried, in order. snn: the spiking network itself.
    """

    goal: Goal
    promise: Trial
    met: bool
    ann_accuracy: float
    trials: tuple[Trial, ...]
    snn: SpikingNet

    @property
    def candidate(self) -> Candidate:
        """What was chosen."""
        return self.promise.candidate

    @property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front of the complete trials: no other is both cheaper and more accurate; cheapest first."""
        return pareto(self.trials)

    @property
    def accuracy(self) -> float:
        """The accuracy that is promised for data of the same kind."""
        return self.ann_accuracy - self.promise.drop

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the network."""
        trials = {"trials": [t.to_json() for t in self.trials], "front": [t.to_json() for t in self.front]}
        chosen = {"candidate": to_json(self.candidate), "method": to_json(self.candidate.method), "met": self.met}
        known = {"goal": to_json(self.goal), "promise": self.promise.to_json(), "ann_accuracy": self.ann_accuracy}
        return known | chosen | trials


def search(
    ann: nn.Module,
    batches: Iterable[Any],
    loader: Iterable[tuple[Any, Tensor]],
    *,
    max_drop: float = 0.01,
    max_energy: float | None = None,
    steps: int = 8,
    letters: int = 15,
    binary: bool = False,
    pipelined: bool = False,
    trials: int = 40,
    certainty: float = 0.95,
    seed: int = 0,
    journal: str | Path | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> Choice:
    """The cheapest method, letters and steps by which `ann` loses at most `max_drop` of its accuracy, see `Goal`.

    batches: training data to calibrate on, as in `convert`. loader: labelled training data held out from it, never test
    data; its second half takes no part in choosing, and the choice is what first meets the goal there, from the
    cheapest on. Each candidate is seen on more and more samples of the first half and pruned once, at `certainty`, it
    must miss the target or costs more than one that must meet it. journal: a file that is added to and read again, so
    that an interrupted search goes on where it stopped; the same seed finds the same. Report the choice on test data
    once, with `evaluate(choice.snn, ...)`.

    Raises MissingExtraError without Optuna (extra `search`), InputError for unsound data. Source: [akiba2019optuna].
    """
    goal = Goal(
        max_drop=max_drop, max_energy=max_energy, steps=steps, letters=letters, binary=binary, pipelined=pipelined
    )
    require(trials >= 1, f"trials={trials} tries nothing")
    require(0 < certainty < 1, f"certainty={certainty} must lie in (0, 1)")
    with context("search"):
        seeker = Seeker(ann, list(batches), *halves(ann, loader), goal, certainty)
        study = Study(goal, seed, journal)
        while len(study.trials) < trials:
            candidate = study.ask()
            known = {trial.candidate: trial for trial in study.trials}
            trial = known.get(candidate) or seeker.judge(candidate, study.trials)
            study.tell(trial)
            if progress:
                progress(trial)
        return seeker.choose(study.trials)


Sample = tuple[Any, Tensor, Tensor]
"""Inputs, labels, and which of them the ANN has right."""


def halves(ann: nn.Module, loader: Iterable[tuple[Any, Tensor]]) -> tuple[list[Sample], list[Sample]]:
    """The labelled data in two, batch by batch in turn, so that an order of the data spoils neither."""
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    with torch.inference_mode():
        for index, (x, y) in enumerate(loader):
            parts[index % 2].append((x, y, called(ann, x).argmax(1) == y))
    if not parts[1]:
        raise InputError(
            f"the labelled data has {len(parts[0])} batches",
            why="one half is to choose by, the other to confirm the choice",
            instead="at least two batches of (x, y)",
        )
    return parts


@dataclass(frozen=True, slots=True)
class Seeker:
    """Judges candidates on one half of the labelled data, `held`, and confirms the choice on the other, `fresh`."""

    ann: nn.Module
    batches: Sequence[Any]
    held: list[Sample]
    fresh: list[Sample]
    goal: Goal
    certainty: float

    def judge(self, candidate: Candidate, before: Sequence[Trial]) -> Trial:
        """The candidate on the first half, as far as the evidence leaves it open."""
        try:
            snn, _ = convert(self.ann, candidate.method, self.batches)
        except RheobaseError as error:
            return Trial.failed(candidate, str(error).split("\n")[0])
        safe = [t.energy for t in before if t.fate == "complete" and t.high <= self.goal.max_drop]
        dearest = min([self.goal.max_energy or math.inf, *safe])
        return self.seen(snn, candidate, self.held, lambda evidence, energy: self.hopeless(evidence, energy, dearest))

    def seen(
        self,
        snn: SpikingNet,
        candidate: Candidate,
        samples: list[Sample],
        hopeless: Callable[[Evidence, float], str] = lambda evidence, energy: "",
    ) -> Trial:
        """What is seen of a network on `samples`, up to the first rung at which it is `hopeless`."""
        trial = priced(snn, candidate, samples[0])
        evidence, rungs = Evidence(self.certainty), list(RUNGS)
        for x, y, right in samples:
            with torch.inference_mode():
                *_, ys = snn.present(x, candidate.steps)
            evidence.add(right, ys[-1].argmax(1).cpu() == y.cpu())
            if rungs and evidence.samples >= rungs[0]:
                rungs = [rung for rung in rungs if rung > evidence.samples]
                if why := hopeless(evidence, trial.energy):
                    return _filled(trial, evidence, why)
        return _filled(trial, evidence, "complete")

    def hopeless(self, evidence: Evidence, energy: float, dearest: float) -> str:
        """Why more samples cannot make this candidate the choice, or an empty string."""
        if energy > dearest:
            return "costs more than one that meets the target, or than is allowed"
        return "must miss the target" if evidence.bounds[0] > self.goal.max_drop else ""

    def choose(self, trials: Sequence[Trial]) -> Choice:
        """The cheapest that meets the goal on the first half and again on the second; or else the most accurate."""
        complete = {t.candidate: t for t in trials if t.fate == "complete"}
        able = sorted((t for t in complete.values() if self.goal.met(t)), key=lambda t: (t.energy, t.drop))
        best = min(complete.values() or [t for t in trials if t.samples], key=lambda t: t.drop, default=None)
        if best is None:
            raise InputError("no candidate could be converted", why=trials[-1].fate)
        for trial in able:
            snn, promise = self.promised(trial.candidate)
            if self.goal.met(promise):
                break
        else:
            snn, promise = self.promised(best.candidate)
        accuracy = sum(int(right.sum()) for _, _, right in self.fresh) / promise.samples
        met = self.goal.met(promise)
        return Choice(
            goal=self.goal, promise=promise, met=met, ann_accuracy=accuracy, trials=tuple(trials), snn=snn
        )  # fmt: skip

    def promised(self, candidate: Candidate) -> tuple[SpikingNet, Trial]:
        """The network of a candidate, and what is seen of it on samples that took no part in choosing it."""
        snn, _ = convert(self.ann, candidate.method, self.batches)
        return snn, self.seen(snn, candidate, self.fresh)


def priced(snn: SpikingNet, candidate: Candidate, sample: Sample) -> Trial:
    """What one batch says of the cost of a candidate; nothing yet of its drop."""
    curve = evaluate(snn, [sample[:2]], candidate.steps)
    neurons = curve.spikes[-1] / max(curve.rate[-1] * candidate.steps, 1e-30)
    return Trial(
        candidate=candidate,
        samples=0,
        drop=0.0,
        low=-1.0,
        high=1.0,
        energy=float(curve.energy_pj[-1] / curve.ann_energy_pj),
        events=float(curve.events[-1] / max(neurons, 1e-30)),
        latency=int(curve.latency[-1]),
    )


def _filled(trial: Trial, evidence: Evidence, fate: str) -> Trial:
    low, high = evidence.bounds
    return replace(trial, samples=evidence.samples, drop=evidence.drop, low=low, high=high, fate=fate)
