"""What is added to the drives or to the start, fitted forward so that on average the right amount leaves."""

from __future__ import annotations

from typing import Protocol

from .spec import require, spec


class Correction(Protocol):
    """How many steps are corrected (0: none), and whether each step has a bias of its own."""

    @property
    def steps(self) -> int: ...
    @property
    def per_step(self) -> bool: ...


@spec
class Uncorrected:
    """Nothing is added."""

    @property
    def steps(self) -> int:
        return 0

    @property
    def per_step(self) -> bool:
        return False


@spec(kw_only=False)
class ChannelBias:
    """One bias per channel, the same in each of the first `steps` steps:

        mean over samples and positions of sum_{t < steps} y_t  =  steps * mean of the activation

    Fitted layer after layer, each on inputs that already spike; no weight changes and no label is seen. Behind the last
    corrected step nothing is added, so that long runs still reach the network they came from. It is a shift before the
    neuron; one behind it would reach the next neurons through their weights as a shift before them, which is theirs
    (at a border padded with zeros as another one than inside).
    Source: the bias correction of [li2021calibration].
    """

    steps: int

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"ChannelBias({self.steps}) corrects no step", instead="Uncorrected()")

    @property
    def per_step(self) -> bool:
        return False


@spec(kw_only=False)
class NeuronStart:
    """A start for each neuron, such that what it sent too little of is there from the beginning:

        v0 <- v0 + sum_{t < steps} (a - y_t),   mean over samples, for every channel and position

    a: the activation of the network, y_t: what left in step t. Fitted layer after layer, each on inputs that already
    spike, in one update without search; nothing is added to any drive. It costs a word of constants a neuron, and no
    neuron of another position helps to estimate it, so it wants more samples than `ChannelBias`, and inputs whose
    places mean something. Source: the potential calibration of [li2021calibration].
    """

    steps: int

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"NeuronStart({self.steps}) corrects no step", instead="Uncorrected()")

    @property
    def per_step(self) -> bool:
        return False


@spec(kw_only=False)
class StepBias:
    """One bias per channel and step, such that after every step t of the first `steps`

        mean over samples and positions of sum_{i <= t} y_i  =  t * mean of the activation

    Otherwise as `ChannelBias`. Source: forward temporal bias correction [wu2024ftbc], here on the sum sent so far
    instead of each step alone, so that what one step could not send the next one does.
    """

    steps: int

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"StepBias({self.steps}) corrects no step", instead="Uncorrected()")

    @property
    def per_step(self) -> bool:
        return True
