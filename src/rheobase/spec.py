"""A spec is a choice a person makes: a frozen record that prints itself and round-trips through JSON."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, dataclass_transform, overload

from .errors import SpecError

C = TypeVar("C", bound=type)
_KINDS: dict[str, type] = {}


@overload
def spec(cls: C, /) -> C: ...
@overload
def spec(*, kw_only: bool = True) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, kw_only_default=True)
def spec(cls: Any = None, /, *, kw_only: bool = True) -> Any:
    """Make a class a spec: frozen, slotted, keyword-only, known to `from_json` by its name.

    `kw_only=False` is for specs that read better by position, `Percentile(99.9)`.
    """

    def made(cls: type) -> type:
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = _show  # type: ignore[method-assign,assignment]
        known = dataclass(frozen=True, slots=True, kw_only=kw_only, repr=False)(cls)
        before = _KINDS.setdefault(known.__name__, known)
        if (before.__module__, before.__qualname__) != (known.__module__, known.__qualname__):
            raise TypeError(f"{known.__name__} already is a spec of {before.__module__}: JSON tells them by this name")
        _KINDS[known.__name__] = known
        return known

    return made if cls is None else made(cls)


def _show(self: Any) -> str:
    """Only what differs from the default, so that the print is the line to write."""
    chosen = [f for f in fields(self) if f.default is MISSING or getattr(self, f.name) != f.default]
    return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in chosen)})"


def to_json(value: Any) -> Any:
    """Plain data for `json.dumps`: a spec becomes `{"kind": its class name, **its fields}`, a tuple a list.

    >>> from rheobase import Percentile
    >>> to_json(Percentile(99.9))
    {'kind': 'Percentile', 'p': 99.9, 'channelwise': False}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SpecError(
        f"{value!r} cannot be part of a spec", why="a spec holds numbers, strings, tuples and other specs only"
    )


def from_json(data: Any) -> Any:
    """The inverse of `to_json`. Only specs of this library are made; nothing in the data is ever run.

    Raises SpecError for an unknown kind or field, with the nearest known name.
    """
    if isinstance(data, list):
        return tuple(from_json(v) for v in data)
    if not isinstance(data, dict):
        return data
    kind = _KINDS[nearest(data.get("kind"), _KINDS, "kind of spec")]
    given = {name: from_json(value) for name, value in data.items() if name != "kind"}
    names = [f.name for f in fields(kind)]
    for name in given:
        nearest(name, names, f"field of {kind.__name__}")
    missing = [f.name for f in fields(kind) if f.name not in given and f.default is MISSING]
    if missing:
        raise SpecError(f"{kind.__name__} needs {', '.join(missing)}", why="the JSON does not have it")
    try:
        return kind(**given)
    except TypeError as error:
        raise SpecError(f"{kind.__name__} cannot be made of {given}", why=str(error)) from error


def nearest(name: Any, known: Iterable[str], what: str) -> str:
    """`name` itself if it is among `known`; otherwise a SpecError with the names it may have meant."""
    known = list(known)
    if name in known:
        return name
    close = difflib.get_close_matches(str(name), known, n=3)
    raise SpecError(
        f"unknown {what} {name!r}",
        why=f"known are {', '.join(known)}",
        instead=f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "",
    )


def require(holds: bool, what: str, *, why: str = "", instead: str = "") -> None:
    """Raise SpecError(what) unless `holds`: one line for the range checks of a spec."""
    if not holds:
        raise SpecError(what, why=why, instead=instead)
