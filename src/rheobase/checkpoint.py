"""A trained network from the function that builds it and a safetensors file of weights; never from a pickle."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import FileError, RheobaseError, SpecError
from .spec import nearest


def network(factory: str, weights: Path | None) -> nn.Module:
    """The module that `package.module:factory` makes, in eval mode, with the weights of a file if one is given.

    Modules are found from the current directory too. Raises SpecError or FileError for whatever does not fit.
    """
    module, colon, name = factory.partition(":")
    if not (module and colon and name):
        raise SpecError(f"--model {factory!r} names no factory", instead="--model package.module:factory")
    state = None if weights is None else read_weights(weights)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with explained(f"importing {module!r}"):
        found = importlib.import_module(module)
    public = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
    if not hasattr(found, name):
        nearest(name, public, f"factory of {module}")
    with explained(f"calling {factory}()"):
        made = getattr(found, name)()
    if not isinstance(made, nn.Module):
        raise SpecError(
            f"{factory}() returned {type(made).__name__}, not a torch.nn.Module",
            why="the factory is called without arguments and must build the network",
            instead="def factory(): return Net(...)",
        )
    if state is not None and weights is not None:
        fit_weights(made, state, weights)
    return made.eval()


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """What the user's own code raises, in one paragraph with its place."""
    try:
        yield
    except RheobaseError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [
            f"{f.filename}:{f.lineno}" for f in frames if f.filename != __file__ and not f.filename.startswith("<")
        ]
        raise SpecError(
            f"{doing} raised {type(error).__name__}: {error}",
            why=f"at {places[-1]}" if places else "",
            instead="--model package.module:factory, from the current directory or installed" if not places else "",
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. A pickle is refused: loading one can run any code."""
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}", instead="check the path")
    with path.open("rb") as file:
        head = file.read(2)
    if path.suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt") or head == b"PK" or head[:1] == b"\x80":
        out = path.with_suffix(".safetensors" if path.suffix != ".safetensors" else ".new.safetensors").name
        raise FileError(
            f"{str(path)!r} is a pickle",
            why="loading a pickle can run any code in it, so weights are read from safetensors only",
            instead=f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), {out!r})",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{str(path)!r} is not a safetensors file: {error}", why="it is damaged or truncated"
        ) from error


def fit_weights(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load weights that fit exactly; otherwise one FileError with what is missing, unexpected or of another shape."""
    own = model.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    other = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in own if k in state
             and state[k].shape != own[k].shape]  # fmt: skip
    problems = {
        "missing": [k for k in own if k not in state and k not in counters],
        "unexpected": [k for k in state if k not in own],
        "of another shape": other,
    }
    why = "; ".join(f"{len(names)} {what}: {few(names)}" for what, names in problems.items() if names)
    if why:
        raise FileError(
            f"the weights in {str(path)!r} do not fit {type(model).__name__}",
            why=why,
            instead="the factory that built the network when it was trained",
        )
    model.load_state_dict(state, strict=False)


def few(names: list[str]) -> str:
    """The first three."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
