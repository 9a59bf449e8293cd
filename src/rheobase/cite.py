"""What to cite: the BibTeX of everything a method uses, collected from its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .alphabet import Alphabet
from .correction import ChannelBias, NeuronStart, StepBias
from .energy import Costs
from .gate import SentCharge, SpikeConfidence, Wait
from .initial import Half, Matched
from .leak import LearnedDecay
from .link import Differential
from .method import Method
from .methods import DIRECT, NAMED, named
from .rehearsal import COS, Residual
from .reset import Subtract
from .scale import Balance, GaussianMSE, Learned, Max, MinMSE, Percentile
from .surrogate import ATan, Gaussian, Polynomial, Rectangular, Sigmoid
from .threshold import DTIF, MSAT, Fixed, Radix
from .tuning import Distilled

_TEXT = (Path(__file__).parent / "references.bib").read_text(encoding="ascii")
ENTRIES = dict(re.findall(r"^(?=@\w+\{(\w+),$)(.*?^\}$)", _TEXT, re.MULTILINE | re.DOTALL))
"""Key -> BibTeX, from `references.bib`. A field that we could not make sure of is left out there."""

SOURCES: list[tuple[Callable[[Any], bool], tuple[str, ...]]] = [
    (lambda part: isinstance(part, Half), ("bu2022opi",)),
    (lambda part: isinstance(part, Learned), ("bu2022qcfs", "ho2021tcl")),
    (lambda part: isinstance(part, Max), ("diehl2015balancing",)),
    (lambda part: isinstance(part, (Percentile, Subtract)), ("rueckauer2017conversion",)),
    (lambda part: isinstance(part, MSAT) or (isinstance(part, Fixed) and part.gain != 1), ("he2024msat",)),
    (lambda part: isinstance(part, SpikeConfidence), ("he2024msat", "steele2014splitmix")),
    (lambda part: isinstance(part, DTIF), ("wu2023dtif",)),
    (lambda part: isinstance(part, Radix), ("wang2024radix", "kim2018weighted")),
    (lambda part: isinstance(part, Alphabet) and len(part.levels) > 1, ("li2022burst",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("codebook"), ("lloyd1982least",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("minifloat"), ("rouhani2023microscaling",)),
    (lambda part: isinstance(part, Alphabet) and repr(part).startswith("power_of_two"), ("huang2025differential",)),
    (lambda part: isinstance(part, Alphabet) and part.signed, ("wang2022snm",)),
    (lambda part: isinstance(part, Alphabet) and part.floor, ("you2024spikezip",)),
    (lambda part: isinstance(part, SentCharge), ("wang2022snm",)),
    (lambda part: isinstance(part, (MinMSE, Matched, ChannelBias, NeuronStart)), ("li2021calibration",)),
    (lambda part: isinstance(part, Distilled), ("hinton2015distilling", "bengio2013estimating")),
    (lambda part: isinstance(part, StepBias), ("wu2024ftbc",)),
    (lambda part: isinstance(part, GaussianMSE), ("huang2025differential",)),
    (lambda part: isinstance(part, Balance), ("bu2025inference",)),
    (lambda part: isinstance(part, Differential), ("huang2025differential",)),
    (lambda part: isinstance(part, Residual), ("hao2023srp",)),
    (lambda part: isinstance(part, COS), ("hao2023cos",)),
    (lambda part: isinstance(part, Wait), ("hao2025parallel",)),
    (lambda part: isinstance(part, Costs), ("horowitz2014energy",)),
    (lambda part: isinstance(part, Alphabet) and part.greedy, ("wang2023mtsnn",)),
    (lambda part: isinstance(part, (Rectangular, Polynomial, Gaussian, Sigmoid)), ("wu2018stbp",)),
    (lambda part: isinstance(part, (ATan, LearnedDecay)), ("fang2021plif",)),
]
"""Which part comes from where: (predicate, keys)."""


def cite(subject: Method | Costs | str) -> str:
    """BibTeX of everything a method uses, or a cost table, or a named method with its own source first.

    Raises SpecError for a name that no method has.

    >>> import rheobase as rb
    >>> print(bibtex(keys(rb.Half())))
    @inproceedings{bu2022opi,
      author = {Bu, Tong and Ding, Jianhao and Yu, Zhaofei and Huang, Tiejun},
      title = {Optimized Potential Initialization for Low-Latency Spiking Neural Networks},
      booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
      volume = {36},
      number = {1},
      pages = {11--20},
      year = {2022},
      doi = {10.1609/aaai.v36i1.19874},
      eprint = {2202.01440},
      archiveprefix = {arXiv},
    }
    """
    return bibtex(keys(subject))


def keys(subject: Any) -> tuple[str, ...]:
    """The keys of `cite(subject)`, each once: a name's own source first, then those of the parts in order."""
    method = named(subject) if isinstance(subject, str) else subject
    own = cited_in((NAMED | DIRECT)[subject].__doc__ or "") if isinstance(subject, str) else []
    found = [key for part in _parts(method) for holds, keys in SOURCES if holds(part) for key in keys]
    return tuple(dict.fromkeys([*own, *found]))


def cited_in(text: str) -> list[str]:
    """The keys that a docstring cites, written `[bu2022opi]`."""
    return re.findall(r"\[([a-z]+\d{4}[a-z]+)\]", text)


def bibtex(keys: Iterable[str]) -> str:
    """The entries of `keys`, one blank line between two."""
    return "\n\n".join(ENTRIES[key] for key in keys)


def _parts(spec: Any) -> Iterator[Any]:
    """A spec and every spec inside it."""
    if is_dataclass(spec):
        yield spec
        for field in fields(spec):
            yield from _parts(getattr(spec, field.name))
