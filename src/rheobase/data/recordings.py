"""Event-camera data sets as frames: recordings in a local npz, split by time, and the public sets through tonic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FileError, extra
from ..spec import require, spec
from .events import ByTime, Cut, Events, frames
from .places import local, root
from .source import Recordings

ARRAYS = ("dt_us", "x", "y", "polarity", "offsets", "label_name")


def counted(
    samples: Iterable[tuple[Events, int]], cut: Cut, side: tuple[int, int], size: int, classes: int
) -> Recordings:
    """Every sample as frames, `xs` `[T, N, 2, size, size]`."""
    made = [(frames(events, cut, side, size), label) for events, label in samples]
    if not made:
        raise FileError("there are no recordings in this split")
    xs = torch.from_numpy(np.stack([x for x, _ in made], axis=1))
    return Recordings(xs=xs, y=torch.tensor([label for _, label in made]), classes=classes)


def recordings(path: Path) -> Iterator[tuple[Events, str]]:
    """Each recording of an npz with its label: `dt_us` since the event before, `x`, `y`, `polarity`, and `offsets`."""
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}", instead="export RHEOBASE_DATA=/path/to/data")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file]
            if missing:
                raise FileError(f"{str(path)!r} has no array {', '.join(missing)}", why=f"it needs {', '.join(ARRAYS)}")
            dt, x, y, p, offsets, names = (file[name] for name in ARRAYS)
    except (ValueError, OSError, EOFError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}", why="it is damaged") from error
    for start, stop, name in zip(offsets[:-1], offsets[1:], names, strict=True):
        piece = slice(int(start), int(stop))
        yield Events(np.cumsum(dt[piece].astype(np.int64)), x[piece], y[piece], p[piece]), str(name)


@spec
class LocalRecordings:
    """Long recordings of one object each, cut in windows and split by time.

    The windows of the first `train` of each recording are for training, those behind a gap of `gap` for testing:
    neighbouring windows show nearly the same view, so a random split would test on what was trained.
    file: below RHEOBASE_DATA. window_ms: of a sample. side: height and width of the sensor. size: of the frames.
    """

    file: str = "dvs_objects/session_A.npz"
    cut: Cut = ByTime(4)
    window_ms: float = 200.0
    side: tuple[int, int] = (128, 128)
    size: int = 32
    train: float = 0.7
    gap: float = 0.05

    def __post_init__(self) -> None:
        fits = self.train > 0 and self.gap > 0 and self.train + self.gap < 1
        require(fits, "the parts of a recording for training and the gap must be above 0 and below 1 together")

    def read(self, split: str) -> Recordings:
        found = list(recordings(root() / self.file))
        classes = sorted({name for _, name in found})
        windows = (
            (events.between(start, start + 1000 * self.window_ms), classes.index(name))
            for events, name in found
            for start in self.starts(events, split)
        )
        return counted(windows, self.cut, self.side, self.size, len(classes))

    def starts(self, events: Events, split: str) -> np.ndarray:
        """Where the windows of a split begin, in microseconds."""
        first, last = float(events.t[0]), float(events.t[-1])
        a, b = (0.0, self.train) if split == "train" else (self.train + self.gap, 1.0)
        begin, end, window = first + a * (last - first), first + b * (last - first), 1000 * self.window_ms
        return begin + window * np.arange(int((end - begin) // window))


@spec
class NMNIST:
    """MNIST seen by a moving event camera, 34 x 34, through tonic [orchard2015nmnist]."""

    cut: Cut = ByTime(4)
    size: int = 34

    def read(self, split: str) -> Recordings:
        data = _tonic().NMNIST(save_to=str(_folder()), train=split == "train")
        return counted(_events(data), self.cut, (34, 34), self.size, 10)


@spec
class DVSGesture:
    """Eleven hand and arm gestures, 128 x 128, through tonic [amir2017gesture]."""

    cut: Cut = ByTime(8)
    size: int = 48

    def read(self, split: str) -> Recordings:
        data = _tonic().DVSGesture(save_to=str(_folder()), train=split == "train")
        return counted(_events(data), self.cut, (128, 128), self.size, 11)


@spec
class DVSCIFAR10:
    """10,000 images of CIFAR-10 seen by an event camera, 128 x 128, through tonic [li2017cifardvs].

    The set has no split of its own: of each class the first 900 recordings are for training, the others for testing.
    """

    cut: Cut = ByTime(10)
    size: int = 48
    train: int = 900

    def read(self, split: str) -> Recordings:
        data = _tonic().CIFAR10DVS(save_to=str(_folder()))
        seen = np.zeros(10, dtype=np.int64)
        chosen = []
        for index in np.argsort([_numbered(path) for path in data.data], kind="stable"):
            label = data.targets[index]
            if (seen[label] < self.train) == (split == "train"):
                chosen.append(int(index))
            seen[label] += 1
        return counted(_events(data, chosen), self.cut, (128, 128), self.size, 10)


def _numbered(path: str) -> int:
    """The number in the name of a recording, `cifar10_airplane_12.aedat4`."""
    return int("".join(c for c in Path(path).stem.rpartition("_")[2] if c.isdigit()) or 0)


def _events(data: Any, chosen: Iterable[int] | None = None) -> Iterator[tuple[Events, int]]:
    """tonic's structured arrays as events, in the order of time."""
    for index in range(len(data)) if chosen is None else chosen:
        raw, label = data[index]
        raw = raw[np.argsort(raw["t"], kind="stable")]
        yield Events(raw["t"].astype(np.int64), raw["x"], raw["y"], raw["p"]), int(label)


def _tonic() -> Any:
    with extra("events", "this data set is read through tonic"):
        import tonic.datasets
    return tonic.datasets


def _folder() -> Path:
    """Where tonic keeps what it downloads: RHEOBASE_DATA."""
    return local(".")
