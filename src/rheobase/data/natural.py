"""Natural images of 224 x 224: ImageNet as a folder, and a small set with its labels."""

from __future__ import annotations

import csv

import numpy as np
import torch
from torch import Tensor

from ..errors import FileError
from ..spec import spec
from .pictures import Pictures, centre, listed
from .places import local


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
    x = np.stack([centre(root / row["file"], 224) for row in rows])
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    return (x - 127) / 128, torch.tensor([int(row["class_index"]) for row in rows])


@spec
class ImageNet:
    """A folder with `train/` and `val/`, one subfolder for each class, under RHEOBASE_DATA; read as it is used.

    folder: its name. size: of the square images. In training a random piece is cropped out. Source: [deng2009imagenet].
    """

    folder: str = "imagenet"
    size: int = 224

    def read(self, split: str) -> Pictures:
        root = local(self.folder)
        part = root / ("train" if split == "train" else "val")
        if not part.is_dir():
            raise FileError(f"there is no folder {str(part)!r}", instead="train/<class>/*.JPEG and val/<class>/*.JPEG")
        files, labels, classes = listed(part)
        return Pictures(
            files=tuple(files),
            y=torch.tensor(labels),
            classes=len(classes),
            size=self.size,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
