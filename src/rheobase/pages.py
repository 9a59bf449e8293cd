"""A page for each named method, written from its docstring and its parts: `python -m rheobase.pages docs/methods`.

What a method costs is counted on its own neuron; equations and reconstructions are the docstrings of its parts. Only
the judgement, when it wins and when it loses, is written here.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .cite import bibtex, keys
from .correction import NeuronStart, Uncorrected
from .errors import SpecError
from .files import write
from .gate import SpikeConfidence, Wait
from .initial import Matched, Zero
from .leak import Leak
from .link import Rate
from .membrane import Tensors
from .method import Method
from .methods import NAMED, named
from .neuron import init
from .rehearsal import Unrehearsed
from .reset import Subtract
from .scale import Fitted, Given, Learned
from .threshold import Fixed, Radix
from .tuning import Untuned


class Judgement(NamedTuple):
    """When a method is the one to take, and when it is not."""

    wins: str
    loses: str


BASELINE = "Never against another row of this list: it is what they are measured by."
BINARY = (
    "At few steps: binary spikes have T + 1 levels at most, and charge that comes unevenly is sent too early or late."
)
QCFS_NET = "On a network trained with QCFS, for which it was made, where extra steps on every input may be spent."

JUDGED: dict[str, Judgement] = {
    "max_norm": Judgement(BASELINE, "One outlier sets every threshold: half of the steps go by in silence."),
    "constant": Judgement(
        "As the baseline of any rule that moves thresholds; the right constant often matches such a rule.",
        "The best constant depends on T and on the network, and at long T what it clips stays clipped.",
    ),
    "percentile": Judgement(BASELINE, "As `max_norm` at few steps; it clips 0.1 % of the activations at any T."),
    "opi": Judgement("Wherever steps are few: it costs nothing and takes the mean error away.", BINARY),
    "msat": Judgement(
        "At 16 to 64 steps against `max_norm` with the same network and constants, as its authors show.",
        "Below 16 steps, against a well chosen constant, and where messages must be free of multiplications: its "
        "payload moves. Its constants are absolute, so another scale of activations is another method.",
    ),
    "msat_resnet20": Judgement("As `msat`, on the ResNets it was tuned for.", "As `msat`."),
    "msat_resnet20_cifar10": Judgement("As `msat`, on the one network and data set it was tuned for.", "As `msat`."),
    "dtif": Judgement(
        "Against `max_norm` at equal steps: large inputs are carried at once.",
        "Against letters of a fixed worth, which need no multiplication: its payload moves with the input.",
    ),
    "burst": Judgement(
        "Where several spikes in a step are one message to the hardware.",
        "At one step without the half start, and per spike: `best` sends fewer letters for the same accuracy.",
    ),
    "qcfs": Judgement(
        "On a network trained with QCFS, at T near its number of levels.", "On any other network: see `opi`."
    ),
    "snm": Judgement(
        "From 4 steps on, where unevenness is what is left: it takes back what went too early.",
        "At one step, where nothing can be taken back, and where spikes must have one sign.",
    ),
    "snnc": Judgement(
        "Where binary spikes are given and nothing but a bias may be added to the network.",
        "Against `ftbc` and `best`, which also know the step, and beyond its `steps`, where its bias ends.",
    ),
    "ftbc": Judgement(
        "At few binary steps on a plain network: what a step could not send, the next one does.",
        "On inputs unlike those it was calibrated on, and with thresholds that clip or are too high: a bias repairs "
        "the mean of a channel, not its neurons.",
    ),
    "ltb": Judgement(
        "Where thresholds must come from one pass without a number of levels to choose for: long runs, any T.",
        "At few steps: `MinMSE` and `GaussianMSE` trade clipping against rounding, and this rule does not know T.",
    ),
    "srp": Judgement(
        QCFS_NET, "Where the rehearsal could be steps of the run itself: its spikes and latency are counted."
    ),
    "cos": Judgement(QCFS_NET, "As `srp`; and with more than one letter or sign, where it is not defined."),
    "wait": Judgement(
        "In a pipeline, where only throughput counts: unevenness is gone, with binary spikes and no more of them.",
        "Wherever the first answer matters: it comes (layers in a row + 1) T steps later, and no prefix is an answer.",
    ),
    "radix": Judgement(
        "In a pipeline from two steps on: T binary spikes hold 2^T levels, so a few are as good as many of a rate. Its "
        "readers need a clock and a shift a step.",
        "Wherever the first answer matters, as `wait`; and for any other number of steps than it was made for.",
    ),
    "mth": Judgement(
        "Where a message is one event with an exponent, and a synapse can shift.",
        "At one step, where only powers of two of theta exist; per event against `dcgs`.",
    ),
    "minifloat": Judgement(
        "At one step, where a message may have four bits and many activations are small and few large: level with "
        "`best` or above, see docs/low-latency.md.",
        "With two bits, where `fitted` is far above; from two steps on, where letters of equal worth have levels "
        "enough; where every event must be worth the same.",
    ),
    "codebook": Judgement(
        "At one step, where a message may have three or four bits and a synapse can multiply by a small whole number: "
        "with fifteen letters the least loss on ResNet-20, level with `minifloat` on ResNet-56 (docs/low-latency.md).",
        "With two bits, where `fitted` is far above; from two steps on, where letters of equal worth have levels "
        "enough; where a letter is sent as so many spikes, since their common unit is a quarter of the smallest.",
    ),
    "dcgs": Judgement(
        "From 4 steps on: an estimate that is right costs nothing more, so events stop, and the input is paid once.",
        "At one and two steps, where it is `mth`; and in state: two words more a neuron.",
    ),
    "best": Judgement(
        "At 1 to 8 steps on a plain network with a few hundred unlabelled images: see docs/low-latency.md.",
        "For other steps than it was made for, in long runs, and with one letter against `fitted`.",
    ),
    "fitted": Judgement(
        "With one letter at one to four steps, where it is far above `best`.",
        "For other steps than it was made for; from three letters on, where it is no better than `best`.",
    ),
    "distilled": Judgement(
        "Where every point counts and a few minutes of conversion do not: see docs/low-latency.md.",
        "Where conversion must be forward only, or calibration data are unlike what the network will meet.",
    ),
}


class Cost(NamedTuple):
    """What a method costs besides its events."""

    passes: str
    extra: str
    state: int
    bits: str
    comparators: int


def cost(method: Method) -> Cost:
    """Calibration, steps besides the run, words of state a neuron, bits of a message, comparators a neuron."""
    letters = len(method.alphabet.letters) * (2 if method.alphabet.signed else 1)
    moves = method.threshold.graded and not isinstance(method.threshold, Radix)
    bits = f"{math.ceil(math.log2(letters + 1))}" + (" and a payload that moves" if moves else "")
    zero = torch.zeros(1)
    born = init(method.neuron, Tensors(torch.ones(()), torch.zeros(())), zero)
    words = 1 + len(born.threshold) + len(born.gate) + 2 * len(born.link)
    comparators = len(method.alphabet.levels) * (2 if method.alphabet.signed else 1)
    return Cost(_passes(method), _extra(method), words, bits, comparators)


def _passes(method: Method) -> str:
    found = []
    if not isinstance(method.scale, Given):
        bounds = ", none where activations are bounded" if isinstance(method.scale, Learned) else ""
        found.append(f"one of the source network over unlabelled data{bounds}")
    if isinstance(method.scale, Fitted) or isinstance(method.initial, Matched):
        found.append("one walk through the layers of the source network")
    if method.tuning.passes:
        found.append(f"{method.tuning.passes} of the source network, with gradients")
    if method.correction.steps:
        each = "for each step" if method.correction.per_step else "once"
        bias = "" if isinstance(method.correction, NeuronStart) else f", 12 halvings of the bias {each}"
        found.append(f"one walk of {method.correction.steps} steps through the layers{bias}")
    if isinstance(method.gate, SpikeConfidence):
        found.append(f"one spiking run of {method.gate.steps} steps")
    return "; ".join(found) or "none"


def _extra(method: Method) -> str:
    if method.rehearsal.steps:
        return f"{method.rehearsal.steps} before every run, with their spikes"
    return "T for each waiting layer in a row, unless pipelined" if isinstance(method.gate, Wait) else "none"


PLAIN = (Fixed(), Zero(), Subtract(), Leak(), Rate(), Unrehearsed(), Uncorrected(), Untuned(), None)
"""Parts that a page does not explain: those of the integrate-and-fire neuron."""


def page(name: str) -> str:
    """The page of a named method, as Markdown. SpecError if nobody has judged it."""
    method, text = named(name), inspect.getdoc(NAMED[name]) or ""
    if name not in JUDGED:
        raise SpecError(f"the method {name!r} has no judgement", instead="say in pages.JUDGED when it wins and loses")
    spent, judged = cost(method), JUDGED[name]
    rows = {
        "calibration passes": spent.passes,
        "extra steps": spent.extra,
        "words of state a neuron": str(spent.state),
        "bits of a message": spent.bits,
        "comparators a neuron": str(spent.comparators),
    }
    lines = [f"# {name}", "", text, "", f"    rheobase.methods.{name}{_signature(name)}", ""]
    lines += ["By default:", "", f"    {method}", "", "## Equations", "", *_equations(method)]
    lines += ["## Cost", "", "| what | how much |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items()), ""]
    lines += ["## When it wins", "", judged.wins, "", "## When it loses", "", judged.loses, ""]
    if "reconstruction" in text or any("reconstruction" in _doc(part) for part in _parts(method)):
        lines += ["## Reconstruction", "", *_reconstructions(name, method), ""]
    return "\n".join([*lines, "## Cite", "", "```bibtex", bibtex(keys(name)), "```", ""])


def _signature(name: str) -> str:
    return str(inspect.signature(NAMED[name])).replace("'", "")


def _equations(method: Method) -> Iterator[str]:
    """The docstring of each part, up to its doctest; the neuron's law where every part is plain."""
    parts = list(_parts(method))
    yield "`u = v + x`, letters where `u / theta` reaches their levels, `v = u - letters * theta`; and by its parts:"
    yield ""
    for part in parts:
        yield f"### {type(part).__name__}"
        yield ""
        yield _doc(part).split("\n>>>")[0].rstrip()
        yield ""


def _reconstructions(name: str, method: Method) -> Iterator[str]:
    """Who says of itself that it is a reconstruction."""
    told = [f"`{type(part).__name__}`" for part in _parts(method) if "reconstruction" in _doc(part)]
    told = told or [f"`{name}`"]
    yield f"{' and '.join(told)}: our reconstruction, not the authors' program; what differs is said above."


def _parts(method: Method) -> Iterator[Any]:
    """The parts that are not plain, in the order of the method."""
    for field in fields(method):
        part = getattr(method, field.name)
        if part not in PLAIN and is_dataclass(part):
            yield part


def _doc(part: Any) -> str:
    return inspect.getdoc(type(part)) or ""


def index() -> str:
    """The list of all methods with what each costs."""
    rows = ["| method | what it is | state | bits | extra steps |", "|---|---|---|---|---|"]
    for name in NAMED:
        spent, line = cost(named(name)), (inspect.getdoc(NAMED[name]) or "").split("\n")[0]
        line = re.sub(r" \[[a-z]+\d{4}[a-z]+\]", "", line)
        rows.append(f"| [{name}]({name}.md) | {line} | {spent.state} | {spent.bits} | {spent.extra} |")
    head = [
        "# Methods",
        "",
        "Written by `python -m rheobase.pages docs/methods` from the code; a test holds them to it.",
    ]
    return "\n".join([*head, "State: words a neuron. Bits: of a message.", "", *rows, ""])


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"README.md": index()} | {f"{name}.md": page(name) for name in NAMED}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/methods")
    for name, text in pages().items():
        write(folder / name, text)


if __name__ == "__main__":
    main()
