"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from .errors import FileError


def write(path: str | Path, content: bytes | str) -> None:
    """Write to a temporary name in the same folder, then rename: the file is complete or unchanged.

    Raises FileError if the folder cannot be written.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(
            f"cannot write {str(path)!r}: {error.strerror}", instead="a folder that exists and that you may write"
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def sweep(path: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left beside it."""
    for left in path.parent.glob(f".{path.name}.????????"):
        left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as readable JSON."""
    write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; FileError if the file is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}", instead="check the path") from error
    except ValueError as error:
        raise FileError(f"{str(path)!r} is not JSON: {error}", instead="a file that this program wrote") from error
