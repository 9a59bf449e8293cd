"""Where a command speaks: its result on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import demo
from .errors import extra
from .table import Table
from .train import Pace


class Terminal:
    """Where a command speaks: one result on stdout, progress on stderr, and what Ctrl-C will find finished."""

    def __init__(self, as_json: bool) -> None:
        self.as_json, self.finished = as_json, "nothing was written"

    def result(self, data: Any, *tables: Table, text: str = "") -> None:
        """The one result of a command: `data` for machines, tables and text for people."""
        if self.as_json:
            print(json.dumps(data, indent=1, allow_nan=False))
            return
        for shown in tables:
            show(shown)
        if text:
            print(text)

    def say(self, line: str) -> None:
        """A line of progress."""
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def progress(self) -> Iterator[demo.Advance]:
        """A bar for each stage on a terminal, a line for each stage elsewhere."""
        if self.as_json or not sys.stderr.isatty():
            yield self.lines()
            return
        rich = require_rich()
        with rich.progress.Progress(console=rich.console.Console(stderr=True), transient=True) as bars:
            tasks: dict[str, Any] = {}

            def advance(stage: str, n: int, of: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=of or None)
                bars.update(tasks[stage], advance=n)

            yield advance

    def lines(self) -> demo.Advance:
        """Progress without bars: the name of each stage as it begins."""
        seen: set[str] = set()

        def advance(stage: str, n: int, of: int) -> None:
            if stage not in seen:
                seen.add(stage)
                self.say(f"{stage} ...")

        return advance

    @contextmanager
    def pace(self, silent: bool = False) -> Iterator[Callable[[Pace], None] | None]:
        """The progress of a training run: a live bar on a terminal, a line every ten seconds elsewhere."""
        if silent:
            yield None
        elif self.as_json or not sys.stderr.isatty():
            yield self.pace_lines()
        else:
            rich = require_rich()
            with rich.progress.Progress(console=rich.console.Console(stderr=True), transient=True) as bars:
                task = bars.add_task("training", total=None)
                yield lambda pace: bars.update(
                    task,
                    total=pace.epochs * pace.batches,
                    completed=(pace.epoch - 1) * pace.batches + pace.batch,
                    description=paced(pace),
                )

    def pace_lines(self) -> Callable[[Pace], None]:
        """A line at first, every ten seconds, and at last."""
        said = [0.0]

        def report(pace: Pace) -> None:
            last = (pace.epoch, pace.batch) == (pace.epochs, pace.batches)
            if last or time.monotonic() - said[0] >= 10:
                said[0] = time.monotonic()
                self.say(paced(pace))

        return report


def paced(pace: Pace) -> str:
    """Where a run is, how fast, and how long it will take.

    >>> paced(Pace(2, 40, 100, 468, 0.25, 812.4, 3725.0))
    'epoch 2/40, batch 100/468, loss 0.2500, 812 samples/s, 1:02:05 left'
    """
    minutes, seconds = divmod(int(pace.remaining), 60)
    left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"
    place = f"epoch {pace.epoch}/{pace.epochs}, batch {pace.batch}/{pace.batches}"
    return f"{place}, loss {pace.loss:.4f}, {pace.per_second:.0f} samples/s, {left}"


def require_rich() -> Any:
    """rich with the parts that are used here, or MissingExtraError."""
    with extra("cli", "tables and progress bars need rich"):
        import rich.box
        import rich.console
        import rich.progress
        import rich.table
    return rich


def show(shown: Table) -> None:
    """A table on stdout: fitted to a terminal, never cut in a file or pipe."""
    rich = require_rich()
    drawn = rich.table.Table(
        title=shown.title or None, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for i, column in enumerate(shown.columns):
        right = i > 0 and shown.numeric
        drawn.add_column(column, justify="right" if right else "left", no_wrap=right or i == 0, overflow="fold")
    for row in shown.rows:
        drawn.add_row(*row)
    width = None if sys.stdout.isatty() else 200
    console = rich.console.Console(width=width, markup=False, highlight=False, emoji=False)
    console.print(drawn)
    for note in shown.notes:
        console.print(note, soft_wrap=True)
