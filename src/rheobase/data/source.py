"""Labelled samples that are read by their index: images in memory, and recordings with a time axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError


class Source(Protocol):
    """What a training run reads.

    y: class indices `[N]`. classes: how many there are. shape: of one sample at one step. steps: how many a sample has,
    None for a static one, which is shown at every step. unit: what 1.0 is in the stored numbers, 255 for images.
    mean, std: of each channel, after that unit, empty to leave the numbers as they are. draws: how many uniform numbers
    the reading of a sample takes, for a random crop out of a large picture.
    """

    @property
    def y(self) -> Tensor: ...
    @property
    def classes(self) -> int: ...
    @property
    def unit(self) -> float: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def draws(self) -> int: ...
    def __len__(self) -> int: ...
    def take(self, index: Tensor, u: Tensor | None = None) -> Tensor:
        """The samples of these indices: `[n, ...]`, or `[T, n, ...]` where they have steps."""
        ...

    def part(self, index: Tensor) -> Source:
        """These samples as a source."""
        ...


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Static samples `x` `[N, ...]` in memory, uint8 or floating, with labels `y` `[N]`.

    Raises InputError for labels out of range, for lengths that differ, and for what is no number.

    >>> Samples(x=torch.zeros(3, 1, 8, 8), y=torch.tensor([0, 1, 1]), classes=2).shape
    (1, 8, 8)
    """

    x: Tensor
    y: Tensor
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_values(self.x, "the samples")
        if self.x.ndim < 2 or len(self.x) != len(self.y):
            raise InputError(
                f"there are samples {tuple(self.x.shape)} and {len(self.y)} labels",
                why="the first axis of static samples counts them",
                instead="Samples(x=x [N, ...], y=y [N]), or Recordings(xs=xs [T, N, ...], y=y [N])",
            )
        check_labels(self.y, self.classes, "the data")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    @property
    def steps(self) -> None:
        return None

    @property
    def unit(self) -> float:
        return 255.0 if self.x.dtype == torch.uint8 else 1.0

    @property
    def draws(self) -> int:
        return 0

    def take(self, index: Tensor, u: Tensor | None = None) -> Tensor:
        return self.x[index]

    def part(self, index: Tensor) -> Samples:
        return replace(self, x=self.x[index], y=self.y[index])


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Samples with a time axis: `xs` `[T, N, ...]`, time first, in memory; labels `y` `[N]`.

    A batch-first tensor is refused and never turned round by guessing.

    >>> Recordings(xs=torch.zeros(4, 3, 2, 8, 8), y=torch.tensor([0, 1, 1]), classes=2).steps
    4
    """

    xs: Tensor
    y: Tensor
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_values(self.xs, "the recordings")
        if self.xs.ndim < 3 or self.xs.shape[1] != len(self.y):
            turned = self.xs.ndim > 2 and len(self.xs) == len(self.y)
            raise InputError(
                f"the recordings are {tuple(self.xs.shape)} for {len(self.y)} labels, expected [T, {len(self.y)}, ...]",
                why="they are batch first, and time is the first axis everywhere" if turned else "time is first",
                instead="xs.transpose(0, 1)" if turned else "one label for each recording",
            )
        check_labels(self.y, self.classes, "the data")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.xs.shape[2:])

    @property
    def steps(self) -> int:
        return len(self.xs)

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def draws(self) -> int:
        return 0

    def take(self, index: Tensor, u: Tensor | None = None) -> Tensor:
        return self.xs[:, index]

    def part(self, index: Tensor) -> Recordings:
        return replace(self, xs=self.xs[:, index], y=self.y[index])


def check_labels(y: Tensor, classes: int, where: str) -> None:
    """Refuse labels that are no class indices from 0 to classes - 1."""
    if y.ndim != 1 or y.is_floating_point() or len(y) == 0:
        raise InputError(
            f"the labels of {where} are {y.dtype} {tuple(y.shape)}",
            why="they must be one class index for each sample",
            instead="y.long() of shape [N]",
        )
    least, most = int(y.min()), int(y.max())
    if least < 0 or most >= classes:
        raise InputError(
            f"the labels of {where} go from {least} to {most}",
            why=f"they must be class indices from 0 to {classes - 1}",
            instead=f"classes={most + 1}" if least >= 0 else "labels that count from 0",
        )


def check_values(x: Tensor, where: str) -> None:
    """Refuse NaN and infinity before they cost an epoch."""
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise InputError(f"{where} have NaN or infinite values", why="no loss of them is a number")
