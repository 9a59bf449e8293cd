"""What a search must reach, and what it saw of each candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .candidate import Candidate, space
from .spec import from_json, require, spec, to_json


@spec
class Goal:
    """What a choice must meet: at most `max_drop` of accuracy below the ANN, at most `max_energy` of its energies.

    steps, letters: the most of each. binary: spikes of one size and sign only. pipelined: neurons may wait for all of
    their input, since runs follow each other and only throughput counts.
    """

    max_drop: float = 0.01
    max_energy: float | None = None
    steps: int = 8
    letters: int = 15
    binary: bool = False
    pipelined: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.max_drop < 1, f"max_drop={self.max_drop} must lie in [0, 1)", instead="0.01 for one point")
        positive = self.max_energy is None or self.max_energy > 0
        require(positive, f"max_energy={self.max_energy} must be positive", instead="0.5 for half the ANN's energy")
        space(self.steps, self.letters)

    def met(self, trial: Trial) -> bool:
        """Whether what was seen of a trial meets the goal."""
        return trial.drop <= self.max_drop and trial.energy <= (self.max_energy or math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was seen of a candidate on `samples` samples. drop: accuracy of the ANN minus its own on the same samples.

    low, high: bounds of the drop. energy: that of a sample in energies of the ANN, the input paid at each step. events:
    messages that are not 0, a neuron. fate: "complete", or why it was pruned or failed.
    """

    candidate: Candidate
    samples: int
    drop: float
    low: float
    high: float
    energy: float
    events: float
    latency: int
    fate: str = "complete"

    @classmethod
    def failed(cls, candidate: Candidate, why: str) -> Trial:
        """A candidate that could not be converted at all."""
        return cls(
            candidate=candidate,
            samples=0,
            drop=1.0,
            low=-1.0,
            high=1.0,
            energy=math.inf,
            events=0.0,
            latency=0,
            fate=why,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; the infinite energy of a candidate that failed is null."""
        data = {name: getattr(self, name) for name in Trial.__dataclass_fields__}
        energy = None if math.isinf(self.energy) else self.energy
        return data | {"candidate": to_json(self.candidate), "energy": energy}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trial:
        """The trial that `to_json` wrote."""
        energy = math.inf if data["energy"] is None else data["energy"]
        return cls(**(data | {"candidate": from_json(data["candidate"]), "energy": energy}))


def pareto(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Of the complete trials those that none beats in both energy and drop, cheapest first."""
    found: list[Trial] = []
    for trial in sorted((t for t in trials if t.fate == "complete"), key=lambda t: (t.energy, t.drop)):
        if not found or trial.drop < found[-1].drop:
            found.append(trial)
    return tuple(found)
