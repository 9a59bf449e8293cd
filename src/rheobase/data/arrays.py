"""Arrays and folders of images as tensors with their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import FileError
from .pictures import listed, picture


def load(
    path: str | Path,
    *,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Samples `x` `[N, ...]` float32 and labels `y` `[N]` int64 from an npz file or a folder of images.

    An npz holds the arrays `x` and `y`. A folder holds one subfolder for each class, in alphabetical order; `size`
    scales the short side and crops the centre square. Images (uint8, `[N, H, W, C]` or `[N, H, W]` in an npz) become
    `[N, C, H, W]` in 0..1. `mean` and `std` normalise each channel, as the network was trained. `limit` takes the first
    samples of an npz, and of a folder, which is sorted by class, as many evenly spread over it.

    Raises FileError if there is nothing readable, and for arrays that hold Python objects, which could run code.
    """
    path = Path(path)
    if path.is_dir():
        x, y = _folder(path, size, limit)
    elif path.suffix == ".npz" and path.is_file():
        x, y = (array[:limit] for array in _npz(path))
    else:
        raise FileError(
            f"{str(path)!r} is no data",
            why="data is an .npz file with arrays x and y, or a folder with one subfolder of images for each class",
            instead="np.savez('data.npz', x=images, y=labels)",
        )
    x = images(x) if x.dtype == np.uint8 else torch.from_numpy(np.ascontiguousarray(x)).float()
    return normalise(x, mean, std), torch.from_numpy(np.ascontiguousarray(y)).long()


def images(x: np.ndarray) -> Tensor:
    """uint8 `[N, H, W, C]` or `[N, H, W]` to float32 `[N, C, H, W]` in 0..1."""
    x = x[..., None] if x.ndim == 3 else x
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 255


def normalise(x: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
    """`(x - mean) / std` for each channel (axis 1)."""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) not in (1, x.shape[1]):
            raise FileError(f"{name} has {len(values)} values, the data {x.shape[1]} channels")
    shape = (1, -1) + (1,) * (x.ndim - 2)
    x = x if mean is None else x - torch.tensor(mean).reshape(shape)
    return x if std is None else x / torch.tensor(std).reshape(shape)


def batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """`(x, y)` in pieces of `size` samples, in order, without a copy."""
    return list(zip(x.split(size), y.split(size), strict=True))


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ("x", "y") if name not in file]
            if missing:
                raise FileError(
                    f"{str(path)!r} has no array {' and '.join(missing)}",
                    why=f"it holds {', '.join(file.files) or 'nothing'}",
                    instead="np.savez('data.npz', x=images, y=labels)",
                )
            x, y = file["x"], file["y"]
    except (ValueError, OSError, EOFError) as error:
        why = "it is damaged, or holds Python objects"
        raise FileError(f"{str(path)!r} cannot be read: {error}", why=why) from error
    if len(x) != len(y) or y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise FileError(
            f"{str(path)!r} has x {x.shape} and y {y.dtype} {y.shape}",
            why="y must hold one class index for each sample",
        )
    return x, y


def _folder(path: Path, size: int | None, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    files, labels, _ = listed(path)
    chosen = (
        range(len(files)) if limit is None or limit >= len(files) else [i * len(files) // limit for i in range(limit)]
    )
    pictures = [picture(files[i], size) for i in chosen]
    shapes = {one.shape for one in pictures}
    if len(shapes) > 1:
        raise FileError(f"the images in {str(path)!r} differ in size", why=f"{sorted(shapes)[:3]}", instead="size=224")
    return np.stack(pictures), np.array([labels[i] for i in chosen])
