"""The recipe behind the README's numbers, and that the README holds the committed numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rheobase.evaluate import Curve
from rheobase.recipes import cifar_conversion as recipe

REPOSITORY = Path(__file__).resolve().parents[1]
EVIDENCE = REPOSITORY / "evidence/cifar10"


def test_the_readme_holds_the_tables_of_the_committed_results(tmp_path):
    again = tmp_path / "README.md"
    again.write_text((REPOSITORY / "README.md").read_text())
    recipe.insert(again, EVIDENCE)
    assert again.read_text() == (REPOSITORY / "README.md").read_text(), "make readme"


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*/*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_committed_result_is_of_all_test_images_and_says_where_it_comes_from(path):
    found = json.loads(path.read_text())
    assert found["samples"] == 10000
    assert {"torch", "machine", "rheobase"} <= set(found["provenance"])
    if "levels" not in found:
        curve = Curve.from_json(found)
        assert curve.steps.tolist() == list(range(1, 65))
        assert curve.provenance["calibration_samples"] == 512


def committed(label: str) -> list[Curve]:
    """The committed curves of a method, one for each network that has it and the baselines below."""
    wanted = [EVIDENCE / net / f"{recipe.slug(label)}.json" for net in recipe.NETS]
    return [Curve.from_json(json.loads(path.read_text())) for path in wanted if path.exists()]


def test_the_half_start_gains_at_every_step_up_to_32():
    pairs = list(zip(committed("OPI, 99.9"), committed("percentile 99.9"), strict=False))
    assert pairs
    for half, zero in pairs:
        assert (half.accuracy[:32] > zero.accuracy[:32]).all()


def test_msat_is_above_max_norm_by_more_than_10_points_at_32():
    pairs = list(zip(committed("MSAT"), committed("max-norm"), strict=False))
    if not pairs:
        pytest.skip("no MSAT row is committed yet: make evidence")
    for msat, weak in pairs:
        assert msat.accuracy[31] > weak.accuracy[31] + 0.10


@pytest.mark.shared
def test_the_recipe_makes_keeps_and_shows_a_result(shared, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    monkeypatch.setattr(recipe, "SHOWN", (1, 2, 32))
    for label in ("OPI, 99.9", recipe.QUANTISED):
        recipe.run("resnet20", label, tmp_path, limit=20, steps=32)
    recipe.run("resnet20", "OPI, 99.9", tmp_path, limit=20, steps=32)
    assert "OPI, 99.9: kept" in capsys.readouterr().out
    lines = list(recipe.table("resnet20", tmp_path))
    assert lines[0].startswith("resnet20, CIFAR-10, 20 test images, ANN ")
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["OPI, 99.9", recipe.QUANTISED]
