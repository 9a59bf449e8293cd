"""A benchmark as a program: one JSON for each of its cases, and a table of them between its marks in the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pairs import provenance

from rheobase.files import read_json, write_json
from rheobase.recipes.comparison import insert, parser

OUT = Path("evidence/speed")
Found = Iterable[tuple[Any, Any]]
"""Cases and what was found for them."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Cases that are measured one after the other; the text of a case names its file.

    name: of the marks around its table. measure: parity first, then the figures of a case over so many rounds, as plain
    data. rows: the table of what was found. quick: cases of seconds, for a first try. anywhere: whether a case has a
    device, so that `--device cuda` runs all cases on a GPU, with a table of their own.
    """

    name: str
    cases: Sequence[Any]
    quick: Sequence[Any]
    measure: Callable[[Any, int], dict[str, Any]]
    rows: Callable[[Found], Iterator[str]]
    rounds: int = 9
    out: Path = OUT
    anywhere: bool = False

    def run(self, case: Any, rounds: int, out: Path) -> None:
        """One case; results that exist are kept."""
        path = out / f"{case}.json"
        if path.exists():
            print(f"{case}: kept", flush=True)
            return
        write_json(path, case._asdict() | self.measure(case, rounds) | {"provenance": provenance(rounds)})
        print(f"{case}: written", flush=True)

    def table(self, out: Path, device: str = "cpu") -> list[str]:
        """The table of all cases that have been run; nothing where none has."""
        cases = self.on(device, self.cases)
        found = [(case, read_json(path)) for case in cases if (path := out / f"{case}.json").exists()]
        return list(self.rows(found)) if found else []

    def on(self, device: str, cases: Sequence[Any]) -> list[Any]:
        """These cases on a device."""
        return [case._replace(device=device) for case in cases] if self.anywhere else list(cases)

    def program(self, about: str | None) -> None:
        """What is asked on the command line."""
        asked = parser(about, self.out)
        asked.add_argument("--rounds", type=int, default=self.rounds)
        asked.add_argument("--cases", nargs="+", choices=[str(case) for case in self.cases], metavar="CASE")
        asked.add_argument("--quick", action="store_true", help="a first try in seconds: print figures, keep none")
        if self.anywhere:
            asked.add_argument("--device", default="cpu", help="cuda: on a GPU")
        options = asked.parse_args()
        if options.table:
            insert(options.table, self.tables(options.out))
            return
        device = options.device if self.anywhere else "cpu"
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False  # the weights have more digits, and spikes would be others
        if options.quick:
            print("\n".join(self.rows((case, self.measure(case, 2)) for case in self.on(device, self.quick))))
            return
        for usual, case in zip(self.cases, self.on(device, self.cases), strict=True):
            if not options.cases or str(usual) in options.cases:
                self.run(case, options.rounds, options.out)

    def tables(self, out: Path) -> dict[str, list[str]]:
        """The tables by their marks: the one of the CPU, and one of a GPU where cases have been run there."""
        gpu = self.table(out, "cuda") if self.anywhere else []
        return {self.name: self.table(out)} | ({f"{self.name} on a GPU": gpu} if gpu else {})


def across(first: str, found: Iterable[tuple[str, dict[str, dict[str, float]]]], own: str) -> Iterator[str]:
    """A row for each result, `| its first cells`, and a column for each name, the fastest first: medians.

    Then by what factor `own` is faster than the faster mode of spikingjelly, and how far the quartiles of a name lie
    from its median at most.
    """
    found = list(found)
    names = _in_order([r for _, r in found])
    yield f"{first} | {' | '.join(names)} | spikingjelly / {own} | quartiles within |"
    yield "|---" * (first.count("|") + len(names) + 2) + "|"
    for cells, r in found:
        medians = (f"{r[name]['median']:.3g}" if name in r else "" for name in names)
        peers = [spread["median"] for name, spread in r.items() if name.startswith("spikingjelly")]
        factor = f"**{min(peers) / r[own]['median']:.1f}**" if peers and own in r else ""
        off = max(max(s["high"] / s["median"] - 1, 1 - s["low"] / s["median"]) for s in r.values())
        yield f"{cells} | {' | '.join(medians)} | {factor} | {off:.0%} |"


def _in_order(results: list[dict[str, dict[str, float]]]) -> list[str]:
    """All names, by how they rank among those that ran with them, the fastest first."""
    ranks: dict[str, list[float]] = {}
    for r in results:
        for rank, name in enumerate(sorted(r, key=lambda name: r[name]["median"])):
            ranks.setdefault(name, []).append(rank / len(r))
    return sorted(ranks, key=lambda name: sum(ranks[name]) / len(ranks[name]))
