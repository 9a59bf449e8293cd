"""MNIST and Fashion-MNIST: the idx files as they are published, gzipped or not."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from ..errors import FileError
from ..spec import nearest, spec
from . import hub
from .places import found
from .source import Samples

SPLITS = {"train": "train", "test": "t10k"}


def idx(path: Path) -> np.ndarray:
    """The array of an idx file of bytes: a magic number, the sizes, the numbers.

    Raises FileError for another type and for a file that is shorter or longer than its sizes say.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read()
    except (OSError, EOFError) as error:
        raise FileError(f"cannot read {str(path)!r}: {error}", why="it is missing, damaged or truncated") from error
    if raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise FileError(f"{str(path)!r} is no idx file of bytes", instead="train-images-idx3-ubyte.gz as published")
    start = 4 + 4 * raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4"))
    if len(raw) - start != math.prod(shape):
        raise FileError(f"{str(path)!r} holds {len(raw) - start} bytes for an array {shape}", why="it is damaged")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `[N, H, W]` and labels `[N]` of "train" or "test" in a folder of idx files."""
    part = SPLITS[nearest(split, SPLITS, "split")]
    arrays = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        known = [folder / file for file in (f"{name}.gz", name) if (folder / file).is_file()]
        if not known:
            raise FileError(f"{str(folder)!r} holds no {name}.gz", instead="the four files as they are published")
        arrays.append(idx(known[0]))
    if len(arrays[0]) != len(arrays[1]):
        raise FileError(f"{str(folder)!r} has {len(arrays[0])} {split} images and {len(arrays[1])} labels")
    return arrays[0], arrays[1]


def samples(arrays: tuple[np.ndarray, np.ndarray], mean: float, std: float) -> Samples:
    """Ten classes of grey images `[N, 1, H, W]`."""
    x, y = (torch.from_numpy(array.copy()) for array in arrays)
    return Samples(x=x.unsqueeze(1), y=y.long(), classes=10, mean=(mean,), std=(std,))


@spec
class MNIST:
    """Handwritten digits, 60,000 + 10,000, 28 x 28: `RHEOBASE_DATA/mnist`, or the hub [lecun1998gradient]."""

    def read(self, split: str) -> Samples:
        folder = found("mnist", "MNIST")
        arrays = read(folder, split) if folder else hub.images("ylecun/mnist", split, "image", "label")
        return samples(arrays, 0.1307, 0.3081)


@spec
class FashionMNIST:
    """Clothes in the form of MNIST: `RHEOBASE_DATA/fashion-mnist`, Debian's package, or the hub [xiao2017fashion]."""

    def read(self, split: str) -> Samples:
        folder = found("fashion-mnist", "fashion_mnist", "FashionMNIST", "/usr/share/datasets/fashion-mnist")
        arrays = (
            read(folder, split) if folder else hub.images("zalando-datasets/fashion_mnist", split, "image", "label")
        )
        return samples(arrays, 0.2860, 0.3530)
