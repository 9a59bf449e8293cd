"""What can go wrong, said in three lines: what failed and where, why, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RheobaseError(Exception):
    """Every error of this library: *what* failed, *why*, and what to write *instead*.

    >>> print(RheobaseError("no images", why="the folder is empty", instead="pass a folder with images"))
    no images
      why: the folder is empty
      try: pass a folder with images
    """

    def __init__(self, what: str, *, why: str = "", instead: str = "") -> None:
        self.what, self.why, self.instead = what, why, instead
        super().__init__(what, why, instead)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.instead:
            lines.append(f"  try: {self.instead}")
        return "\n".join(lines)


class SpecError(RheobaseError):
    """A setting that cannot be: an unknown name, a value out of range, a combination that makes no sense."""


class ConversionError(RheobaseError):
    """A network that cannot be converted as it stands; names the node and the line of the model's code."""


class InputError(RheobaseError):
    """A tensor, state or data set that does not fit: shape, dtype, time axis, NaN, emptiness."""


class FileError(RheobaseError):
    """A file or folder that cannot be read or written, or does not hold what it should."""


class KernelError(RheobaseError):
    """A kernel that was asked for by name and does not take a run, with its reason."""


class TrainingError(RheobaseError):
    """A training run that cannot go on: its loss or gradient is no number; names the step and the layer."""


class MissingExtraError(RheobaseError):
    """An optional dependency is not installed; names the extra that brings it."""


@contextmanager
def context(where: str) -> Iterator[None]:
    """Say *where* an error happened, once, at the public boundary."""
    try:
        yield
    except RheobaseError as error:
        raise type(error)(f"{where}: {error.what}", why=error.why, instead=error.instead) from error


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around the import of an optional package: `with extra("plot", "figures need matplotlib"): import ...`."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(what, why="it is not installed", instead=f"pip install 'rheobase[{name}]'") from error
