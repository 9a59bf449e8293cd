"""CIFAR-10 and CIFAR-100: the published binary files, or strips of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import FileError
from ..spec import spec
from . import hub
from .arrays import images, normalise
from .pictures import pillow
from .places import found, local
from .source import Samples

CIFAR10_MEAN, CIFAR10_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the published CIFAR ResNets were trained with (the values of ImageNet)."""


def cifar10(split: str, *, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """CIFAR-10 `split` "train" or "test", normalised: `[N, 3, 32, 32]` and labels, the first `limit` of them.

    Reads `RHEOBASE_DATA/cifar10`: the published binary version (`data_batch_1.bin` ... `test_batch.bin` of
    `cifar-10-binary.tar.gz`), or strips of images (`train_000.webp` ... and `train_labels.npy`). Source:
    [krizhevsky2009cifar].
    """
    x, y = _cifar10(local("cifar10"), split, limit)
    return normalise(images(x), CIFAR10_MEAN, CIFAR10_STD), torch.from_numpy(y.astype(np.int64))


def _cifar10(root: Path, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `[N, 32, 32, 3]` and labels."""
    binaries = sorted(root.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
    strips = sorted(root.glob(f"{split}_*.webp"))
    if binaries:
        return _rows(binaries, 1, limit)
    if not strips:
        raise FileError(
            f"{str(root)!r} holds no CIFAR-10 {split} images",
            instead="unpack cifar-10-binary.tar.gz there (data_batch_1.bin, ..., test_batch.bin)",
        )
    wanted = strips if limit is None else strips[: -(-limit // 500)]
    x = np.concatenate([np.asarray(pillow().open(f)).reshape(-1, 32, 32, 3) for f in wanted])[:limit]
    return x, np.load(root / f"{split}_labels.npy", allow_pickle=False)[: len(x)]


def _rows(files: list[Path], labels: int, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The published rows: one or two labels, the last of them the finest, then the planes of the image."""
    width = labels + 3072
    raw = [np.fromfile(file, np.uint8) for file in files]
    for file, array in zip(files, raw, strict=True):
        if len(array) == 0 or len(array) % width:
            raise FileError(f"{str(file)!r} has {len(array)} bytes, no multiple of {width}", why="it is damaged")
    rows = np.concatenate(raw).reshape(-1, width)[:limit]
    return rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, labels - 1]


def _samples(arrays: tuple[np.ndarray, np.ndarray], classes: int, mean: tuple, std: tuple) -> Samples:
    x, y = arrays
    channels_first = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return Samples(x=channels_first, y=torch.from_numpy(y.astype(np.int64)), classes=classes, mean=mean, std=std)


@spec
class CIFAR10:
    """Small photographs of ten classes: `RHEOBASE_DATA/cifar10`, or the hub [krizhevsky2009cifar].

    mean, std: what is subtracted from each colour and divided by, as a pretrained network has it.
    """

    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)

    def read(self, split: str) -> Samples:
        folder = found("cifar10", "cifar-10-batches-bin")
        arrays = _cifar10(folder, split) if folder else hub.images("uoft-cs/cifar10", split, "img", "label")
        return _samples(arrays, 10, self.mean, self.std)


@spec
class CIFAR100:
    """The same of a hundred: `{train,test}.bin` in `RHEOBASE_DATA/cifar100`, or the hub [krizhevsky2009cifar]."""

    def read(self, split: str) -> Samples:
        folder = found("cifar100", "cifar-100-binary")
        if folder and not (folder / f"{split}.bin").is_file():
            raise FileError(f"{str(folder)!r} holds no {split}.bin", instead="unpack cifar-100-binary.tar.gz there")
        arrays = (
            _rows([folder / f"{split}.bin"], 2)
            if folder
            else hub.images("uoft-cs/cifar100", split, "img", "fine_label")
        )
        return _samples(arrays, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
