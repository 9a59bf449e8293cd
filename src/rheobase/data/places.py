"""Where data lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FileError


def root() -> Path:
    """RHEOBASE_DATA, or the current directory."""
    return Path(os.environ.get("RHEOBASE_DATA") or ".")


def local(name: str) -> Path:
    """The folder `name` under RHEOBASE_DATA."""
    path = root() / name
    if not path.exists():
        raise FileError(
            f"there is no {name!r} under RHEOBASE_DATA={os.environ.get('RHEOBASE_DATA') or '(not set)'}",
            why="data is read from local folders",
            instead="export RHEOBASE_DATA=/path/to/data",
        )
    return path


def found(*places: str) -> Path | None:
    """The first of these folders that exists, each absolute or under RHEOBASE_DATA."""
    return next((path for path in (root() / place for place in places) if path.is_dir()), None)
