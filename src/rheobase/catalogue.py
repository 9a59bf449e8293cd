"""The recipes that come with the library, found by their file names; and recipes in files of one's own."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from .checkpoint import explained
from .errors import SpecError
from .spec import nearest
from .training.config import Training, changed, value

FOLDER = Path(__file__).parent / "recipes"


class Recipe(NamedTuple):
    """A recipe as it is listed. trains: whether `rheobase train` runs it; otherwise `python -m` does."""

    name: str
    line: str
    trains: bool


def recipes() -> list[Recipe]:
    """All recipes in the order of their names, without running any."""
    return [found for path in sorted(FOLDER.glob("*.py")) if (found := _listed(path))]


def _listed(path: Path) -> Recipe | None:
    tree = ast.parse(path.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if not names & {"recipe", "main"}:
        return None
    line = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    return Recipe(path.stem, line, "recipe" in names)


def source(name: str) -> str:
    """The text of a recipe, so that it runs wherever it is copied to: its imports name the library."""
    nearest(name, [found.name for found in recipes()], "recipe")
    text = (FOLDER / f"{name}.py").read_text()
    text = re.sub(r"^from \.\. import", "from rheobase import", text, flags=re.MULTILINE)
    text = re.sub(r"^from \.\.", "from rheobase.", text, flags=re.MULTILINE)
    return re.sub(r"^from \.", "from rheobase.recipes.", text, flags=re.MULTILINE)


def config(name: str, settings: Sequence[str] = ()) -> Training:
    """The record of a recipe, or of the recipe in a file `path.py`, with `key=value` settings.

    A key is an argument of its function, `levels=1`, or a field of the record, `optimiser.rate=0.01`.
    """
    make = _function(name)
    known = {k: p.default for k, p in inspect.signature(make).parameters.items()}
    own = [setting for setting in settings if setting.partition("=")[0] in known]
    given = {k: value(text, known[k], f"{k}={text}") for k, _, text in (setting.partition("=") for setting in own)}
    with explained(f"calling recipe() of {name!r}"):
        made = make(**given)
    if not isinstance(made, Training):
        raise SpecError(f"recipe() of {name!r} returned {type(made).__name__}", why="it must return a Training")
    return changed(made, [setting for setting in settings if setting not in own])


def _function(name: str) -> Callable[..., Training]:
    module = _file(Path(name)) if name.endswith(".py") else None
    if module is None:
        nearest(name, [found.name for found in recipes() if found.trains], "recipe to train")
        module = importlib.import_module(f"rheobase.recipes.{name}")
    make: Any = getattr(module, "recipe", None)
    if make is None:
        raise SpecError(f"{name!r} has no function recipe()", instead="def recipe() -> Training: ...")
    return make


def _file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SpecError(f"there is no recipe {str(path)!r}", instead="rheobase cp NAME copies one to here")
    module = importlib.util.module_from_spec(spec)
    with explained(f"reading {str(path)!r}"):
        spec.loader.exec_module(module)
    return module
