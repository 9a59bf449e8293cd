"""Import order is reading order: a module imports only from what comes before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "rheobase"
RANKS = (
    "version errors spec files lloyd",
    "membrane histogram pairs alphabet surrogate threshold scale initial reset gate leak link rehearsal",
    "correction tuning",
    "neuron",
    "kernels.named kernels.law kernels.fixed kernels.room kernels.operators kernels.cpu kernels.events kernels.gpu",
    "kernels.gpu_stages kernels.triton kernels.compiled kernels.reference",
    "kernels.term kernels.convolution kernels.tiles kernels.engine kernels.stage kernels",
    "recompute layers relatives",
    "inputs modules ops.op ops.synapses ops.carriers ops.nonlinear ops.training ops.activations ops graph fold",
    "readout method direct methods state network store",
    "readers.call readers.synapses readers.neurons readers.activations readers.pools",
    "readers.shapes readers.attention readers",
    "capture trace observe spiking trainable",
    "preflight refine staircase distil message lower",
    "convert",
    "rounding spelling stages exact plan compile",
    "energy measure shards evaluate predict",
    "samples balance limit certificate independence verify worth diagnosis parts remedy diagnose",
    "quantise beta candidate trial study evidence search table plot cite pages",
    "data.source data.places data.pictures data.arrays data.hub data.idx data.cifar data.natural data.events",
    "data.recordings data.weights data",
    "nets.architecture nets.plain nets.spiking_resnet nets.digits nets.cifar_resnet nets.efficientnet_lite nets",
    "training.objective training.optimiser training.schedule training.chance training.augment training.mix",
    "training.randaugment training.ema training.journal training.config training.snapshot training.feed",
    "training.score training.model training train",
    "testing checkpoint demo catalogue recipes",
    "arguments terminal cli_training cli",
)
ORDER = [name for rank in RANKS for name in rank.split()]
OPTIONAL = {
    "triton": {"kernels.gpu", "kernels.gpu_stages"},
    "matplotlib": {"plot"},
    "rich": {"terminal", "demo"},
    "sklearn": {"demo"},
    "PIL": {"data.pictures"},
    "optuna": {"study"},
    "datasets": {"data.hub"},
    "tonic": {"data.recordings"},
    "accelerate": {"train", "shards"},
    "scipy": set(),
}
"""Which modules may import an optional package; recipes may import any."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the library but its face, by its name below `rheobase`."""
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if name:
            yield name, path


@cache
def imports(name: str, path: Path) -> list[str]:
    """Everything a module imports, own modules as `rheobase.x.y`, wherever in the file the import stands."""
    return list(found(name, path))


def found(name: str, path: Path) -> Iterator[str]:
    package = ["rheobase", *name.split(".")] if path.name == "__init__.py" else ["rheobase", *name.split(".")][:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            inside = [f"{source}.{alias.name}" for alias in node.names]
            yield from (full if full.removeprefix("rheobase.") in KNOWN else source for full in inside)


KNOWN = dict(modules())


def out_of_order(name: str, path: Path) -> list[str]:
    """What a module imports of the library although it comes later, or is the face of the library itself."""
    own = [full for full in imports(name, path) if full.split(".")[0] == "rheobase"]
    before = set(ORDER[: ORDER.index(name)])
    return [full for full in own if full.removeprefix("rheobase.") not in before]


def test_every_module_has_a_rank() -> None:
    unknown = [name for name in KNOWN if name not in ORDER and not name.startswith("recipes")]
    assert not unknown, f"give {unknown} a place in ORDER"


@pytest.mark.parametrize("name", [name for name in KNOWN if name in ORDER and not name.startswith("recipes")])
def test_imports_only_what_comes_before(name: str) -> None:
    assert out_of_order(name, KNOWN[name]) == []


def test_nothing_imports_recipes() -> None:
    readers = [
        n for n, p in KNOWN.items() if not n.startswith("recipes") and "rheobase.recipes" in " ".join(imports(n, p))
    ]
    assert readers == []


@pytest.mark.parametrize("package", OPTIONAL)
def test_optional_packages_stay_in_their_files(package: str) -> None:
    users = {n for n, p in KNOWN.items() if any(full.split(".")[0] == package for full in imports(n, p))}
    assert {user for user in users if not user.startswith("recipes")} <= OPTIONAL[package]


def test_wrong_order_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "errors.py"
    path.write_text("def late():\n    from . import cli\n    from .spec import nearest\n    import rheobase.plot\n")
    assert out_of_order("errors", path) == ["rheobase.cli", "rheobase.spec", "rheobase.plot"]


def test_import_needs_nothing_optional() -> None:
    code = f"import rheobase, sys; print([p for p in {list(OPTIONAL)} if p in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
