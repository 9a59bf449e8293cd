"""The pages of the methods: one for each, as the code would write it now, with costs that are those of the neuron."""

from __future__ import annotations

from pathlib import Path

import pytest

import rheobase as rb
from rheobase import pages
from rheobase.cite import cited_in, keys

DOCS = Path(__file__).parent.parent / "docs" / "methods"


@pytest.mark.parametrize("name", rb.methods.NAMED)
def test_every_named_method_has_the_page_that_the_code_writes(name):
    written = DOCS / f"{name}.md"
    assert written.exists(), "python -m rheobase.pages docs/methods"
    assert written.read_text() == pages.page(name), f"{name} has changed: python -m rheobase.pages docs/methods"


def test_no_page_is_left_of_a_method_that_is_gone():
    assert {path.name for path in DOCS.glob("*.md")} == set(pages.pages())
    assert (DOCS / "README.md").read_text() == pages.index()


@pytest.mark.parametrize("name", rb.methods.NAMED)
def test_a_page_says_what_the_method_costs_when_it_wins_and_loses_and_whom_to_cite(name):
    text = pages.page(name)
    for part in ("## Equations", "calibration passes", "extra steps", "words of state", "bits of a message",
                 "## When it wins", "## When it loses", "```bibtex"):  # fmt: skip
        assert part in text
    assert {key for key in keys(name) if f"{{{key}," in text} == set(keys(name))
    assert set(cited_in(rb.methods.NAMED[name].__doc__ or "")) <= set(keys(name))


def test_a_method_without_a_judgement_is_refused(monkeypatch):
    monkeypatch.delitem(pages.JUDGED, "opi")
    with pytest.raises(rb.SpecError, match="no judgement"):
        pages.page("opi")
    assert set(pages.JUDGED) == set(rb.methods.NAMED) - {"opi"}


@pytest.mark.parametrize(
    ("name", "state", "bits", "comparators"),
    [
        ("opi", 1, "1", 1),
        ("burst", 1, "3", 5),
        ("snm", 2, "2", 2),
        ("best", 2, "3", 6),
        ("mth", 2, "4", 8),
        ("dcgs", 4, "4", 8),
        ("msat", 2, "1 and a payload that moves", 1),
    ],
)
def test_costs_are_those_of_the_neuron(name, state, bits, comparators):
    found = pages.cost(rb.methods.named(name))
    assert (found.state, found.bits, found.comparators) == (state, bits, comparators)


def test_passes_and_extra_steps_are_those_of_the_method():
    assert pages.cost(rb.methods.srp(7)).extra.startswith("7 before")
    assert "waiting" in pages.cost(rb.methods.wait()).extra
    assert "walk of 6 steps" in pages.cost(rb.methods.ftbc(6)).passes
    assert "spiking run of 16 steps" in pages.cost(rb.methods.msat(confidence=True)).passes
    assert pages.cost(rb.Method(scale=rb.Given(1.0))).passes == "none"


@pytest.mark.parametrize("name", ["dtif", "cos", "wait"])
def test_what_is_a_reconstruction_says_so(name):
    assert "our reconstruction, not the authors' program" in pages.page(name)


@pytest.mark.parametrize("name", ["opi", "msat", "qcfs", "best"])
def test_what_is_none_does_not(name):
    assert "## Reconstruction" not in pages.page(name)


def test_the_pages_are_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pages", str(tmp_path)])
    pages.main()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == pages.pages()
