"""The commands of direct training: `train`, `recipes`, `cp`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from . import catalogue
from .errors import FileError
from .files import write
from .spec import to_json
from .table import Table
from .terminal import Terminal, require_rich
from .train import train


def run_train(options: argparse.Namespace, terminal: Terminal) -> None:
    """Train a spiking network from scratch by a recipe; killed and started again with --resume it goes on exactly."""
    config = catalogue.config(options.recipe, options.set)
    out = options.out or Path("runs") / Path(options.recipe).stem
    if not options.json:
        require_rich()
    terminal.finished = f"{out / 'last.safetensors'} is written; go on with --resume"
    silent = os.environ.get("RANK", "0") != "0"
    with terminal.pace(silent) as report:
        found = train(config, out, resume=options.resume, save_seconds=options.save_seconds, report=report)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if silent:
        return
    terminal.finished = f"{out / 'snn.safetensors'} is written"
    splits = {split: values[-1] for split, values in found.accuracy.items()}
    rows = [(split, *(f"{value:.2%}" for value in values)) for split, values in found.accuracy.items()]
    shown = Table("accuracy after T steps", ("data", *(f"T={t + 1}" for t in range(config.steps))), rows)
    text = (
        f"wrote {out / 'snn.safetensors'} and {out / 'result.json'}; {found.place.seconds / 60:.0f} minutes of training"
    )
    about = {"recipe": options.recipe, "out": str(out), "config": to_json(config), "place": found.place._asdict()}
    terminal.result(about | {"accuracy": found.accuracy, "final": splits}, shown, text=text)


def run_recipes(options: argparse.Namespace, terminal: Terminal) -> None:
    """List the recipes: complete programs for `train` or `python -m rheobase.recipes.NAME`, and for `cp`."""
    found = catalogue.recipes()
    rows = [(one.name, "rheobase train" if one.trains else "python -m", one.line) for one in found]
    shown = Table(f"{len(rows)} recipes", ("name", "run by", "what it is"), rows, numeric=False)
    terminal.result([one._asdict() for one in found], shown)


def run_cp(options: argparse.Namespace, terminal: Terminal) -> None:
    """Copy a recipe to the current folder, to change it and run it: `rheobase train ./NAME.py`."""
    text = catalogue.source(options.recipe)
    path = options.out or Path(f"{options.recipe}.py")
    path = path / f"{options.recipe}.py" if path.is_dir() else path
    if path.exists():
        raise FileError(f"{str(path)!r} is there already", why="it would be lost", instead="another --out")
    write(path, text)
    terminal.finished = f"{path} is written"
    trains = any(one.trains for one in catalogue.recipes() if one.name == options.recipe)
    run = f"rheobase train ./{path}" if trains else f"python {path}"
    terminal.result({"recipe": options.recipe, "written": str(path), "run": run}, text=f"wrote {path}\nnext: {run}")


COMMANDS = {"train": run_train, "recipes": run_recipes, "cp": run_cp}
