"""The batches of a run: order, augmentation and coding in time, each a function of (seed, epoch, batch)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Source
from ..data.source import check_labels
from ..errors import InputError
from ..state import constant
from .chance import order, uniform
from .config import Training


class Feed:
    """What one process of `world` sees of a source: its share of every batch, augmented.

    The chance of a sample depends on its place in the whole batch, so that the shares together are what one process
    alone would see. Samples behind the last whole batch of an epoch are left out; the next epoch has another order.
    """

    def __init__(self, source: Source, config: Training, rank: int = 0, world: int = 1) -> None:
        self.source, self.config, self.rank = source, config, rank
        self.share = config.batch // world
        self.batches = len(source) // config.batch
        if config.batch % (world * config.accumulate):
            raise InputError(
                f"a batch of {config.batch} cannot be shared by {world} processes in {config.accumulate} pieces each",
                instead=f"batch={world * config.accumulate * max(1, self.share // config.accumulate)}",
            )
        if config.mix is not None and self.share // config.accumulate % 2:
            raise InputError(
                f"pieces of {self.share // config.accumulate} samples cannot be mixed in pairs",
                instead="an even number",
            )
        if not self.batches:
            raise InputError(
                f"{len(source)} training samples fill no batch of {config.batch}", instead=f"batch={len(source)}"
            )
        if (config.augment or config.mix) and len(source.shape) != 3:
            raise InputError(f"samples of shape {source.shape} are no images to augment", instead="augment=()")

    def epoch(self, number: int, start: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from `start` on, each read while the one before is trained on."""
        order_ = order(len(self.source), self.config.seed, number)
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.batch, order_, number, start, device)] if start < self.batches else []
            for batch in range(start, self.batches):
                ready = waiting.pop().result()
                if batch + 1 < self.batches:
                    waiting.append(pool.submit(self.batch, order_, number, batch + 1, device))
                yield ready

    def batch(self, order_: Tensor, epoch: int, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """This process's share of one batch: `xs` `[T, n, ...]` and target probabilities `[n, classes]`."""
        config, source = self.config, self.source
        first = number * config.batch + self.rank * self.share
        index = order_[first : first + self.share]
        parts = (source.draws, *(one.draws for one in config.augment), config.mix.draws if config.mix else 0)
        u = uniform(config.batch, sum(parts), config.seed, epoch, number)
        u = u[self.rank * self.share : (self.rank + 1) * self.share]
        ends = torch.tensor([0, *parts]).cumsum(0).tolist()
        us = [u[:, a:b] for a, b in pairwise(ends)]
        x = unit(source, source.take(index, us[0] if source.draws else None).to(device))
        target = F.one_hot(source.y[index], source.classes).float().to(device)
        if config.augment or config.mix:
            x, target = self.augmented(x, target, [one.to(device) for one in us[1:]])
        return coded(normalised(source, x), source.steps, config.steps), target

    def augmented(self, x: Tensor, target: Tensor, us: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The images changed; all steps of a recording alike."""
        steps = self.source.steps
        x = x.transpose(0, 1).flatten(1, 2) if steps else x
        for augment, u in zip(self.config.augment, us, strict=False):
            x = augment(x, u)
        if self.config.mix:
            x, target = self.config.mix(x, target, us[-1])
        return (x.unflatten(1, (steps, -1)).transpose(0, 1) if steps else x), target


def check_source(source: Source, config: Training, name: str) -> None:
    """Refuse data of other steps than the network's, and labels that are no classes."""
    if source.steps is not None and source.steps != config.steps:
        raise InputError(
            f"the {name} data have {source.steps} steps, the run has {config.steps}",
            why="a recording is cut in as many frames as the network takes steps",
            instead=f"steps={source.steps}, or data cut in {config.steps} frames",
        )
    check_labels(source.y, source.classes, f"the {name} data")


def divided(source: Source, held: int) -> tuple[Source, Source | None]:
    """The training samples, and `held` others kept back: the same for every seed, so that runs compare."""
    if not held:
        return source, None
    if held >= len(source):
        raise InputError(f"held={held} leaves nothing of {len(source)} samples", instead=f"held={len(source) // 10}")
    chosen = order(len(source), 0, -1)
    return source.part(chosen[held:].sort().values), source.part(chosen[:held].sort().values)


def unit(source: Source, x: Tensor) -> Tensor:
    """The stored numbers as float32 in the unit of the source: images in 0..1."""
    return x.float() / source.unit if source.unit != 1 else x.float()


def normalised(source: Source, x: Tensor) -> Tensor:
    """`(x - mean) / std` for each channel, the axis before the places."""
    shape = (-1,) + (1,) * (len(source.shape) - 1)
    x = x - x.new_tensor(source.mean).reshape(shape) if source.mean else x
    return x / x.new_tensor(source.std).reshape(shape) if source.std else x


def coded(x: Tensor, has: int | None, steps: int) -> Tensor:
    """`xs` `[T, n, ...]`: a static sample at every step, a recording as it is."""
    return x if has else constant(x, steps)


def plain(source: Source, steps: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples in order, not augmented: `xs` `[T, n, ...]` and class indices `[n]`."""
    for index in torch.arange(len(source)).split(size):
        x = normalised(source, unit(source, source.take(index).to(device)))
        yield coded(x, source.steps, steps), source.y[index].to(device)
