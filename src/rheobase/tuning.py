"""What is learned from the source network's own answers, without labels and without touching a weight."""

from __future__ import annotations

from typing import Protocol

from .spec import require, spec


class Tuning(Protocol):
    """How many passes over the calibration data are spent, and how fast weights are learned, 0 if they stay."""

    @property
    def passes(self) -> int: ...
    @property
    def weights(self) -> float: ...


@spec
class Untuned:
    """Nothing is learned."""

    @property
    def passes(self) -> int:
        return 0

    @property
    def weights(self) -> float:
        return 0.0


@spec(kw_only=False)
class Distilled:
    """Thresholds and starts of all layers together, such that the answers are those of the source network:

        minimise KL(softmax(ANN(x)) || softmax(staircases(x)))  over  log theta and v0,   softmax over the last axis

    where every neuron is the staircase of its levels, which is what it computes when its input comes evenly; floors
    pass gradients straight through. Adam at `rate` with a cosine to 0, `passes` times through the calibration data in
    batches of `batch` samples. mix: the share of samples, where inputs are real numbers, to which a random part of
    another one is added, `x + lambda (x' - x)`, so that few samples serve longer. Answers that are no vectors of two or
    more are compared in their squared error. Labels are not seen; it is gradient descent all the same, and costs about
    three runs of the source network on every sample in every pass. Ours, by distillation [hinton2015distilling] and
    straight-through estimators [bengio2013estimating].

    weights: the rate at which the weights and biases of all synapses are learned with them, 0: they are not touched.
    With it the network is another than the one it came from: no longer conversion alone but tuning of weights, and a
    long run does not reach that network. Of several methods in one network the largest rate holds. As an option of
    calibration from [li2021calibration], there layer by layer.
    """

    passes: int = 20
    rate: float = 3e-3
    mix: float = 0.5
    batch: int = 32
    weights: float = 0.0

    def __post_init__(self) -> None:
        require(self.passes >= 1, f"Distilled(passes={self.passes}) learns nothing", instead="Untuned()")
        require(self.rate > 0 and self.batch >= 1, f"{self} needs a positive rate and batch")
        require(0 <= self.mix <= 1, f"Distilled(mix={self.mix}) must lie in [0, 1]")
        require(
            self.weights >= 0, f"Distilled(weights={self.weights}) is no rate", instead="0 leaves the weights alone"
        )
