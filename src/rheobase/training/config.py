"""Everything a training run is made of: one frozen record that prints itself and round-trips through JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

from ..data import Source
from ..errors import SpecError
from ..nets.architecture import Architecture
from ..neuron import Neuron
from ..spec import nearest, require, spec
from .augment import Augmentation
from .mix import Mix
from .objective import CrossEntropy, Objective
from .optimiser import AdamW, Optimiser
from .schedule import Cosine, Schedule


class Data(Protocol):
    """A data set by its name: `read(split)` of "train" and "test"."""

    def read(self, split: str) -> Source: ...


@spec(kw_only=False)
class Saved:
    """A network in a file instead of a new one, converted or trained: training goes on from there.

    Thresholds and starts of a converted one are learned as positive factors (`rheobase.trainable`).
    """

    path: str


@spec
class Training:
    """One run: the same record, the same weights, bit for bit on a CPU, however often it was stopped.

    data, net, neuron: what is trained. threshold, start: theta and v0 of every neuron, in the unit of its drive. With
    `Saved` all three are those of the file. steps: T. batch: samples of one optimiser step over all processes;
    accumulate: the pieces in which each process takes its share. held: training samples kept back to choose by, never
    trained on. ema: decay of the average of the weights that is evaluated, 0 for none. clip: largest norm of the
    gradient, 0 for none. bf16: mixed precision. recompute: neurons whose gradient no kernel has run again backward
    instead of keeping what lies between, which takes less memory and more time. seed: of everything random.

    Raises SpecError for what makes no run.
    """

    data: Data
    net: Architecture | Saved
    neuron: Neuron = Neuron()
    threshold: float = 1.0
    start: float = 0.0
    steps: int = 2
    epochs: int = 40
    batch: int = 128
    accumulate: int = 1
    optimiser: Optimiser = AdamW()
    schedule: Schedule = Cosine()
    objective: Objective = CrossEntropy()
    augment: tuple[Augmentation, ...] = ()
    mix: Mix | None = None
    ema: float = 0.0
    clip: float = 0.0
    bf16: bool = False
    recompute: bool = True
    held: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "batch", "accumulate"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: a run needs at least one")
        require(self.batch % self.accumulate == 0, f"batch={self.batch} is no multiple of accumulate={self.accumulate}")
        require(self.threshold > 0, f"threshold={self.threshold} must be above 0")
        require(0 <= self.ema < 1, f"ema={self.ema} must lie in [0, 1)")
        require(self.held >= 0 and self.clip >= 0, "held and clip must be 0 or more")


def changed(config: Any, settings: Sequence[str]) -> Any:
    """A record with `key=value` settings; a dot goes deeper: `steps=1`, `optimiser.rate=0.01`.

    Values are numbers, true and false, or text, of the kind that is there. Raises SpecError with the nearest names.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise SpecError(f"--set {setting!r} sets nothing", instead="--set steps=2")
        config = _set(config, key.split("."), text, setting)
    return config


def _set(config: Any, path: list[str], text: str, setting: str) -> Any:
    name = nearest(path[0], [f.name for f in fields(config)], f"setting of {type(config).__name__}")
    old = getattr(config, name)
    if len(path) == 1:
        return replace(config, **{name: value(text, old, setting)})
    if not is_dataclass(old):
        raise SpecError(f"--set {setting}: {name} has no settings of its own", instead=f"--set {name}=...")
    return replace(config, **{name: _set(old, path[1:], text, setting)})


def value(text: str, old: Any, setting: str) -> Any:
    """The text as the kind of the old value."""
    if isinstance(old, str):
        return text
    try:
        new = json.loads(text.lower())
    except ValueError:
        new = None
    kind = type(old)
    if type(new) is kind and kind in (bool, int, float):
        return new
    if kind is float and type(new) is int:
        return float(new)
    raise SpecError(f"--set {setting}: {text!r} is no {kind.__name__}", why=f"it is {old!r} now")
