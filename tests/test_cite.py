"""Every source is in one table, and every entry of the table is a source of something."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import rheobase as rb
from rheobase.cite import ENTRIES, SOURCES, bibtex, cite, cited_in, keys

SOURCE = Path(rb.__file__).parent
CITED = {key for path in SOURCE.rglob("*.py") for key in cited_in(path.read_text())}
NEEDED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "techreport": {"author", "title", "institution", "year"},
    "misc": {"author", "title", "eprint", "year"},
}


def entries(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)


def test_every_entry_of_the_file_is_read_and_they_are_in_order() -> None:
    assert list(ENTRIES) == sorted(ENTRIES) == entries((SOURCE / "references.bib").read_text())


def test_every_citation_has_an_entry() -> None:
    assert CITED - set(ENTRIES) == set()


def test_every_entry_is_cited() -> None:
    assert set(ENTRIES) - CITED == set()


def test_every_source_has_an_entry() -> None:
    assert {key for _, found in SOURCES for key in found} <= set(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_entries_are_complete_bibtex(key: str) -> None:
    text = bibtex([key])
    kind, *lines = text.splitlines()
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", text, re.MULTILINE))
    assert len(fields) == len(lines) - 1
    assert fields.keys() >= NEEDED[kind[1 : kind.index("{")]]
    assert ("eprint" in fields) == ("archiveprefix" in fields)
    assert fields["year"] in key
    assert fields["author"].lower().startswith(key[: key.index(fields["year"])])
    assert text.count("{") == text.count("}")
    assert text.isascii()


@pytest.mark.parametrize("name", rb.methods.NAMED)
def test_a_named_method_cites_its_docstring_first(name: str) -> None:
    own = cited_in(rb.methods.NAMED[name].__doc__ or "")
    assert own
    assert keys(name)[: len(own)] == tuple(own)
    assert entries(cite(name)) == list(keys(name))


def test_parts_bring_their_sources() -> None:
    method = rb.Method(
        scale=rb.Percentile(99.0),
        threshold=rb.MSAT(),
        initial=rb.Half(),
        alphabet=rb.burst(4),
        gate=rb.SpikeConfidence(),
    )
    assert set(keys(method)) == {
        "rueckauer2017conversion", "he2024msat", "bu2022opi", "li2022burst", "steele2014splitmix",
    }  # fmt: skip
    assert "li2022burst" not in keys(replace(method, alphabet=rb.binary))
    assert "he2024msat" in keys(rb.methods.constant(0.5))
    assert "he2024msat" not in keys(rb.Method())


def test_each_entry_stands_once() -> None:
    found = entries(cite(rb.methods.msat(confidence=True)))
    assert len(found) == len(set(found))


def test_costs_are_cited() -> None:
    assert entries(cite(rb.HOROWITZ)) == ["horowitz2014energy"]


def test_unknown_name() -> None:
    with pytest.raises(rb.SpecError, match="did you mean 'msat'"):
        cite("msta")
