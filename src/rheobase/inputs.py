"""What a network reads and answers: one tensor, or several in a tuple or by name, all with the samples first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import InputError


def tensors(x: Any) -> Iterator[Any]:
    """The tensors of `x`, or whatever else is at their places, in order."""
    if isinstance(x, Mapping):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        for part in x:
            yield from tensors(part)
    else:
        yield x


def each(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """`f` of every tensor (or leaf) of `x`, and of those at the same place of the others, in the same structure."""
    if isinstance(x, Mapping):
        return {name: each(f, value, *(other[name] for other in others)) for name, value in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(each(f, *parts) for parts in zip(x, *others, strict=True))
    return f(x, *others)


def count(x: Any) -> int:
    """How many samples there are."""
    return len(next(tensors(x)))


def first(x: Any, n: int) -> Any:
    """The first n samples."""
    return each(lambda part: part[:n], x)


def joined(batches: Sequence[Any]) -> Any:
    """Several batches as one."""
    return each(lambda *parts: torch.cat(parts), batches[0], *batches[1:])


def split(x: Any, n: int) -> Iterator[Any]:
    """Pieces of at most n samples."""
    for start in range(0, count(x), n):
        stop = start + n
        yield each(lambda part, start=start, stop=stop: part[start:stop], x)


def named(x: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of `x` by the names of a network's inputs. Raises InputError if they are not those."""
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise InputError(f"the inputs are {', '.join(x)}, expected {', '.join(names)}")
        return {name: x[name] for name in names}
    parts = list(x) if isinstance(x, (tuple, list)) else [x]
    if len(parts) != len(names):
        raise InputError(
            f"there are {len(parts)} inputs, expected {len(names)}: {', '.join(names)}",
            instead=f"({', '.join(names)}) in a tuple, or a dict" if len(names) > 1 else "one tensor",
        )
    return dict(zip(names, parts, strict=True))


def called(model: Callable[..., Any], x: Any) -> Any:
    """The answer of a model: a dict goes in by name, a tuple by position."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)
