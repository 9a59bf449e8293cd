"""The log of a run: one JSON line for each row, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from ..files import write


class Journal:
    """Rows of a run in `folder/log.jsonl`; `folder/tensorboard` has the same as curves.

    A run that resumes after step `done` forgets the rows behind it, and half of a line that a kill has left.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / "log.jsonl"
        kept = [row for row in rows(self.path) if row["step"] <= done] if done else []
        write(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.curves = _summary(folder / "tensorboard", done)

    def add(self, row: dict[str, Any]) -> None:
        """A row with its step, and numbers by their names."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.curves is not None:
            for name, value in row.items():
                if isinstance(value, (int, float)) and name != "step":
                    self.curves.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self.curves is not None:
            self.curves.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _summary(folder: Path, done: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
