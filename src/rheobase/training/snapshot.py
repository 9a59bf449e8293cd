"""Everything a run needs to go on, in one file: tensors in safetensors, the rest as JSON in its header.

There is no generator to keep: the order of the data, the augmentation and the dropout are functions of (seed, epoch,
batch), and the rate is one of the step. The file is written under a temporary name and renamed, so a kill at any moment
leaves the one before or the new one. Loading it never runs code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from ..errors import FileError
from ..files import write
from ..spec import to_json
from ..version import VERSION

KIND = "rheobase training"


class Place(NamedTuple):
    """How far a run is. step: optimiser steps done; epoch, batch: the next; loss, seen: sums over the epoch so far."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    best: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0


def save(path: Path, config: Any, shapes: str, place: Place, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a snapshot. parts: tensors of the network, the optimiser and the average by their names."""
    tensors = {
        f"{part}/{name}": value.detach().cpu().contiguous().clone()
        for part, named in parts.items()
        for name, value in named.items()
    }
    header = {
        "kind": KIND,
        "version": VERSION,
        "config": to_json(config),
        "architecture": shapes,
        "place": place._asdict(),
    }
    write(path, serialise(tensors, metadata={"rheobase": json.dumps(header)}))


def load(path: Path, config: Any, shapes: str) -> tuple[Place, dict[str, dict[str, Tensor]]]:
    """Read a snapshot of this very run.

    Raises FileError for a damaged file, another library version, another configuration and another architecture.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("rheobase", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(
            f"the checkpoint {str(path)!r} cannot be read: {error}",
            why="it is damaged or truncated",
            instead="another checkpoint, or start anew in another folder",
        ) from error
    _belongs(path, header, config, shapes)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = value
    return Place(**header["place"]), parts


def _belongs(path: Path, header: dict[str, Any], config: Any, shapes: str) -> None:
    """Refuse a file that would not go on as it began."""
    if header.get("kind") != KIND:
        raise FileError(f"{str(path)!r} is no checkpoint of a training run", instead="the last.safetensors of a run")
    if header["version"] != VERSION:
        raise FileError(
            f"the checkpoint {str(path)!r} is of rheobase {header['version']}, this is {VERSION}",
            why="a run goes on exactly only with the version it began with",
            instead=f"pip install rheobase=={header['version']}, or start anew in another folder",
        )
    if header["architecture"] != shapes:
        raise FileError(
            f"the checkpoint {str(path)!r} is of another network",
            why=differences(json.loads(header["architecture"]), json.loads(shapes)),
            instead="the network that the run began with, or another folder",
        )
    other = differences(header["config"], to_json(config))
    if other:
        raise FileError(
            f"the checkpoint {str(path)!r} is of another configuration",
            why=other,
            instead="the settings that the run began with, or another folder",
        )


def differences(old: Any, new: Any, where: str = "") -> str:
    """The first places where two JSON documents differ: `epochs is 10, now 20`."""
    found: list[str] = []

    def walk(a: Any, b: Any, where: str) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in dict.fromkeys([*a, *b]):
                walk(a.get(key), b.get(key), f"{where}.{key}" if where else str(key))
        elif a != b:
            found.append(f"{where} is {json.dumps(a)}, now {json.dumps(b)}")

    walk(old, new, where)
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
