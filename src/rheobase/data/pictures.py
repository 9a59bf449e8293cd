"""Picture files: one by one, a folder of them by class, and large sets that are read as they are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import FileError, extra
from .source import check_labels

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CENTRE = 224 / 256
"""The share of the short side that a centre crop keeps."""


def pillow() -> Any:
    """Pillow's Image, or MissingExtraError."""
    with extra("data", "reading images needs Pillow"):
        from PIL import Image
    return Image


def listed(path: Path) -> tuple[list[Path], list[int], list[str]]:
    """The pictures of a folder with one subfolder for each class, their labels, and the classes in order."""
    classes = sorted(p for p in path.iterdir() if p.is_dir())
    pairs = [(f, i) for i, c in enumerate(classes) for f in sorted(c.iterdir()) if f.suffix.lower() in IMAGES]
    if not pairs:
        raise FileError(
            f"{str(path)!r} holds no images",
            why="a data folder has one subfolder for each class with images in it",
            instead=f"files that end in {', '.join(IMAGES)}",
        )
    return [file for file, _ in pairs], [label for _, label in pairs], [c.name for c in classes]


def picture(file: Path, size: int | None) -> np.ndarray:
    """RGB `[H, W, 3]`; `size` scales the short side and crops the centre square."""
    image = pillow().open(file).convert("RGB")
    if size is not None:
        scale = size / min(image.size)
        image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))))
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def centre(file: Path, size: int) -> np.ndarray:
    """The centre square of 224 / 256 of the short side, resized, bicubic."""
    image = pillow().open(file).convert("RGB")
    side = round(CENTRE * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.crop(box).resize((size, size), pillow().Resampling.BICUBIC))


def crop(file: Path, size: int, u: Sequence[float]) -> np.ndarray:
    """A random piece of 8 to 100 % of the area and of ratio 3:4 to 4:3, resized: what ImageNet is trained on.

    u: four numbers in [0, 1), for area, ratio, left and top. Where the piece does not fit it is clipped to the picture.
    """
    image = pillow().open(file).convert("RGB")
    area = (0.08 + 0.92 * u[0]) * image.width * image.height
    ratio = math.exp(math.log(4 / 3) * (2 * u[1] - 1))
    width = max(1, min(image.width, round(math.sqrt(area * ratio))))
    height = max(1, min(image.height, round(math.sqrt(area / ratio))))
    left, top = int(u[2] * (image.width - width + 1)), int(u[3] * (image.height - height + 1))
    box = (left, top, left + width, top + height)
    return np.asarray(image.crop(box).resize((size, size), pillow().Resampling.BICUBIC))


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A large set of picture files `[3, size, size]`, decoded as they are used, on several threads.

    With four uniform numbers for each sample a random crop is read, without them the centre.
    """

    files: tuple[Path, ...]
    y: Tensor
    classes: int
    size: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    threads: int = 8

    def __post_init__(self) -> None:
        check_labels(self.y, self.classes, "the pictures")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    @property
    def steps(self) -> None:
        return None

    @property
    def unit(self) -> float:
        return 255.0

    @property
    def draws(self) -> int:
        return 4

    def take(self, index: Tensor, u: Tensor | None = None) -> Tensor:
        """uint8 `[n, 3, size, size]`."""
        files = [self.files[i] for i in index.tolist()]
        with ThreadPoolExecutor(self.threads) as pool:
            if u is None:
                read = list(pool.map(lambda file: centre(file, self.size), files))
            else:
                read = list(pool.map(lambda file, row: crop(file, self.size, row), files, u.tolist()))
        return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2)

    def part(self, index: Tensor) -> Pictures:
        return replace(self, files=tuple(self.files[i] for i in index.tolist()), y=self.y[index])
