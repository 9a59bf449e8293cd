"""Anytime inference: each sample runs until its answer is sure, and then leaves the batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .compile import CompiledNet
from .errors import InputError, context
from .inputs import count, each
from .network import SpikingNet
from .observe import check_inputs, images
from .readout import EarlyExit
from .spec import require
from .state import constant


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers `ys` `[N, classes]` of N samples, each after its own number of `steps` `[N]`."""

    ys: Tensor
    steps: Tensor

    @property
    def labels(self) -> Tensor:
        """The class of each sample `[N]`."""
        return self.ys.argmax(-1)

    @property
    def mean_steps(self) -> float:
        """How many steps a sample took, on average: latency and, nearly, work."""
        return float(self.steps.double().mean())


def predict(snn: SpikingNet | CompiledNet, x: Any, max_steps: int = 8, exit: EarlyExit | None = None) -> Prediction:
    """The answers to `x` `[N, ...]` under constant coding, after `max_steps` steps or as soon as `exit` allows.

    Finished samples leave the batch with their memory, so what is left costs only what it needs. A sample's answer is
    the one that a run without exits gives at the step at which it left. Raises InputError for unsound data.

    >>> import rheobase as rb
    >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> snn, _ = rb.convert(ann, rb.methods.opi(), [torch.rand(64, 4)])
    >>> found = rb.predict(snn, torch.rand(5, 4), max_steps=8, exit=rb.EarlyExit(0.6))
    >>> found.ys.shape, bool((found.steps <= 8).all())
    (torch.Size([5, 2]), True)
    """
    require(max_steps >= 1, f"max_steps={max_steps} is no number of steps", instead="max_steps=8")
    with context("predict"), torch.inference_mode():
        refuse_waiting(snn)
        check_inputs(x, "x")
        left, state = torch.arange(count(x)), None
        found, taken = None, torch.full((count(x),), max_steps)
        for t in range(1, max_steps + 1):
            ys, state = snn(each(lambda part: constant(part, 1), x), state)
            if not isinstance(ys, Tensor) or ys.ndim != 3:
                raise InputError("the network does not answer one vector of classes for each sample")
            found = torch.empty(count(x), ys.shape[-1], dtype=ys.dtype, device=ys.device) if found is None else found
            done = torch.full((len(left),), t == max_steps) if exit is None else exit.finished(ys[0], t).cpu()
            done = done | (t == max_steps)
            found[left[done]], taken[left[done]] = ys[0, done], t
            if bool(done.all()):
                break
            if bool(done.any()):
                left, x, state = left[~done], each(lambda part, stay=~done: part[stay], x), state.of(~done)
        assert found is not None
        return Prediction(found, taken)


def refuse_waiting(snn: SpikingNet | CompiledNet) -> None:
    """InputError for a network whose neurons wait for the whole run: a prefix of it is no answer."""
    if snn.waiting:
        raise InputError(
            "the network has no answer before its last step",
            why="its neurons wait for all of their input before they fire",
            instead="rheobase.evaluate(snn, loader, steps), or a method without Wait",
        )


def calibrate_exit(
    snn: SpikingNet | CompiledNet,
    batches: Iterable[Any],
    max_steps: int = 8,
    *,
    risk: float = 0.01,
    certainty: float = 0.95,
    first: int = 1,
) -> EarlyExit:
    """The lowest confidence at which exits change at most a share `risk` of the answers of step `max_steps`.

    batches: held-out training data, labels unused. From the strictest confidence down, each is tested by the upper
    Clopper-Pearson bound at `certainty` for the share of answers that differ; the last before the first failure is
    chosen, so the promise holds with that certainty for data of the same kind. Source: [angelopoulos2021ltt].

    Raises InputError if there are too few samples to promise anything.
    """
    require(0 < risk < 1 and 0 < certainty < 1, f"risk={risk} and certainty={certainty} must lie in (0, 1)")
    with context("calibrate_exit"), torch.inference_mode():
        refuse_waiting(snn)
        sure, agree = [], []
        for x in images(batches):
            ys = torch.cat(list(snn.present(x, max_steps))).cpu()
            sure.append(ys.softmax(-1).amax(-1))
            agree.append(ys.argmax(-1) == ys[-1].argmax(-1))
        found = _lowest(torch.cat(sure, 1), torch.cat(agree, 1), risk, certainty, first)
    if found is None:
        samples = sum(part.shape[1] for part in sure)
        needed = math.ceil(math.log(1 - certainty) / math.log(1 - risk))
        if samples >= needed:
            raise InputError(
                f"no confidence keeps a risk of {risk:g} from step {first} on",
                why="too many answers change that were as sure as can be",
                instead=f"first={first + 1} or later, or a higher risk",
            )
        raise InputError(
            f"{samples} samples are too few to promise a risk of {risk:g}",
            why=f"even without a single difference the bound is above it at a certainty of {certainty:g}",
            instead=f"at least {needed} samples",
        )
    return EarlyExit(found, first)


def _lowest(sure: Tensor, agree: Tensor, risk: float, certainty: float, first: int) -> float | None:
    """The last of a falling row of confidences that keeps the promise; `sure` and `agree` are `[T, N]`."""
    samples, found = sure.shape[1], None
    for k in range(1000):
        confidence = 1 - (k / 1000) ** 2  # finer where it matters
        leaves = sure >= confidence
        leaves[: first - 1], leaves[-1] = False, True
        at = leaves.int().argmax(0)
        wrong = int((~agree.gather(0, at[None])[0]).sum())
        if upper_bound(wrong, samples, certainty) > risk:
            break
        found = confidence
    return found


def upper_bound(wrong: int, samples: int, certainty: float = 0.95) -> float:
    """The Clopper-Pearson upper bound for a share of which `wrong` in `samples` were seen.

    The p at which P(X <= wrong) = 1 - certainty for X ~ Binomial(samples, p).

    >>> round(upper_bound(0, 299), 4), round(upper_bound(5, 1000), 4)
    (0.01, 0.0105)
    """
    if wrong >= samples:
        return 1.0

    n, k = torch.tensor(float(samples), dtype=torch.float64), torch.arange(wrong + 1, dtype=torch.float64)
    ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)

    def at_most(p: float) -> float:
        return float(torch.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p)).sum())

    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > 1 - certainty else (low, middle)
    return high
