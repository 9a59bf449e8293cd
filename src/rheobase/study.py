"""Which candidate next: Optuna proposes, a journal remembers. The only file that imports Optuna."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from .candidate import Candidate, space
from .errors import FileError, extra
from .spec import to_json
from .trial import Goal, Trial

FIRST = [
    Candidate(family=family, letters=letters, correction=correction)
    for family, letters, correction in (
        ("signed", 3, "step"), ("signed", 15, "step"), ("rate", 3, "step"), ("rate", 1, "step"), ("power", 15, "none"),
        ("wait", 1, "channel"), ("radix", 1, "channel"),
    )
]  # fmt: skip
"""Proposed first, each at the most steps allowed, as far as the space holds them."""


class Study:
    """The trials of one goal so far, and the next to try.

    Proposals are those of a tree-structured Parzen estimator that minimises energy under the constraint of the drop.
    Its random numbers are a function of the seed and the number of trials done, so a search that was interrupted goes
    on as it would have. Raises MissingExtraError without Optuna, FileError for a journal of another goal. Source:
    [akiba2019optuna].
    """

    def __init__(self, goal: Goal, seed: int = 0, journal: str | Path | None = None) -> None:
        with extra("search", "a search needs Optuna"):
            import optuna
            from optuna.storages.journal import JournalFileBackend
        self.optuna, self.goal, self.seed = optuna, goal, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space(goal.steps, goal.letters, binary=goal.binary, pipelined=goal.pipelined)
        storage = None
        if journal is not None:
            Path(journal).parent.mkdir(parents=True, exist_ok=True)
            backend = JournalFileBackend(str(journal))
            storage = optuna.storages.JournalStorage(backend)
        self.study = optuna.create_study(storage=storage, study_name="rheobase", load_if_exists=True)
        self._same(journal)
        self.running: Any = None
        self.trials: list[Trial] = []
        for trial in self.study.get_trials(deepcopy=False):
            if "seen" in trial.user_attrs:
                self.trials.append(Trial.from_json(trial.user_attrs["seen"]))
            elif trial.state == optuna.trial.TrialState.RUNNING:
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def _same(self, journal: str | Path | None) -> None:
        """Refuse a journal of another goal or seed."""
        asked = {"goal": to_json(self.goal), "seed": self.seed}
        found = self.study.user_attrs.get("asked")
        if found is None:
            self.study.set_user_attr("asked", asked)
        elif found != asked:
            raise FileError(
                f"{str(journal)!r} is the journal of another search",
                why=f"it is for {found}, this one for {asked}",
                instead="another file, or the goal and seed it was begun with",
            )

    def ask(self) -> Candidate:
        """The next candidate: the known good ones first, then what the trials so far suggest."""
        done = len(self.trials)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
            seed = self.seed * 100_003 + done
            self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, multivariate=True)
            first = [replace(candidate, steps=self.goal.steps) for candidate in FIRST]
            first = [c for c in first if all(getattr(c, name) in allowed for name, allowed in self.space.items())]
            if done < len(first):
                self.study.enqueue_trial({name: getattr(first[done], name) for name in self.space})
            self.running = self.study.ask()
            chosen: Any = {name: self.running.suggest_categorical(name, list(v)) for name, v in self.space.items()}
        return Candidate(**chosen)

    def tell(self, trial: Trial) -> None:
        """What was seen of the candidate asked for last."""
        self.running.set_user_attr("seen", trial.to_json())
        self.running.set_constraint("drop", trial.drop - self.goal.max_drop)
        if math.isinf(trial.energy):
            self.study.tell(self.running, state=self.optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(self.running, trial.energy)
        self.trials.append(trial)
