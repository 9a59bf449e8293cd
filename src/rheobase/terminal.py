"""Where a command speaks: its result on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import demo
from .errors import extra
from .table import Table


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
