"""Figures from curves, without pyplot and without a display."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import rheobase as rb
from rheobase import plot, table
from rheobase.evaluate import Curve

STEPS = 12


def curve(label: str, start: float = 0.1, ann: float = 0.97, graded: float = 0.0) -> Curve:
    """A plausible curve, rising from `start` to the ANN."""
    steps = np.arange(1, STEPS + 1)
    energy = 1e4 + 2.5e4 * steps
    return Curve(
        label=label,
        steps=steps,
        accuracy=ann - (ann - start) / steps**2,
        spikes=100.0 * steps,
        events=100.0 * steps,
        rate=np.full(STEPS, 0.25),
        acs=1e3 * steps,
        graded=graded * steps,
        macs=1e3 * steps,
        energy_pj=energy,
        energy_once_pj=energy / 2,
        samples=100,
        ann_accuracy=ann,
        ann_energy_pj=2e5,
    )


def shown(figure: plot.Figure) -> list[str]:
    legend = figure.legends[0]
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("draw", [plot.accuracy_latency, plot.accuracy_energy])
def test_a_line_and_a_name_for_each_curve(draw) -> None:
    figure = draw([curve("OPI"), curve("max-norm", 0.05)], title="a title")
    assert shown(figure)[:3] == ["OPI", "max-norm", "ANN 97.0"]
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "a title"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * curve("OPI").accuracy)


def test_latency_axis_is_log2_with_the_doublings() -> None:
    axes = plot.accuracy_latency([curve("OPI")]).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert list(axes.get_xticks()) == [1, 2, 4, 8]
    assert axes.get_xscale() == "log"


def test_curves_differ_without_colour() -> None:
    lines = plot.accuracy_latency([curve(f"{i}") for i in range(8)]).axes[0].lines[:8]
    assert len({str(line.get_marker()) for line in lines}) == 8
    assert len({str(line.get_color()) for line in lines}) == 8


def test_a_curve_without_its_ann_has_no_reference() -> None:
    assert shown(plot.accuracy_latency([curve("alone", ann=0.9), curve("unknown", ann=0.9)]))[2:] == ["ANN 90.0"]
    unknown = curve("unknown")
    figure = plot.accuracy_energy([Curve.from_json(unknown.to_json() | {"ann_accuracy": None})])
    assert shown(figure) == ["unknown"]


def test_no_curve() -> None:
    with pytest.raises(rb.InputError, match="no curve"):
        plot.accuracy_latency([])


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, name: str, magic: bytes) -> None:
    path = tmp_path / "new" / name
    plot.save(path, plot.accuracy_latency([curve("OPI")]))
    first = path.read_bytes()
    plot.save(path, plot.accuracy_latency([curve("OPI")]))
    assert first.startswith(magic)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_nothing_is_cut_off_at_the_edge() -> None:
    figure = plot.accuracy_latency([curve("a rather long name of a method")], title="title")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.x0 >= figure.axes[0].get_window_extent().x1  # beside the lines, not over them


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(rb.FileError, match=r"one of \.svg, \.png, \.pdf"):
        plot.save(tmp_path / "a.gif", plot.accuracy_latency([curve("OPI")]))


def test_pyplot_is_never_imported() -> None:
    plot.accuracy_latency([curve("OPI")])
    assert "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(rb.MissingExtraError, match=r"pip install 'rheobase\[plot\]'"):
        plot.accuracy_latency([curve("OPI")])


def test_table_of_a_curve() -> None:
    made = table.curve(curve("OPI"))
    assert [row[0] for row in made.rows] == ["1", "2", "4", "8", "12"]
    assert made.rows[-1][1:4] == ("96.40%", "3.000", "310")
    assert made.columns[3] == "nJ, input each step"
    assert not any("graded messages" in note or "these messages" in note for note in made.notes)
    assert made.notes[-1].startswith("not counted: neuron updates")


def test_table_says_which_messages_are_graded() -> None:
    made = table.comparison([curve("OPI"), curve("MSAT", graded=5.0)])
    assert [row[0] for row in made.rows] == ["OPI", "MSAT *"]
    assert any(note.startswith("* graded messages") for note in made.notes)
    assert any(note.startswith("these messages are graded") for note in table.curve(curve("MSAT", graded=5.0)).notes)
