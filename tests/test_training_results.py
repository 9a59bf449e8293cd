"""The table of training results: seeds together, the papers beside them, and the docs hold what is committed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean, stdev

import pytest

import rheobase as rb
from rheobase.recipes import training_results as results
from rheobase.recipes.comparison import insert
from tiny_training import config, fit

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of a run and its single-threshold baseline."""
    out = tmp_path_factory.mktemp("runs")
    single = rb.Neuron(leak=rb.Leak(0.5), surrogate=rb.Rectangular())
    for name, changes in (("a", {}), ("b", {"seed": 1}), ("c", {"neuron": single})):
        fit(out / name, config(**({"epochs": 1, "held": 0} | changes)))
    return [out / name for name in "abc"]


def test_seeds_of_one_configuration_are_one_row(runs, tmp_path):
    paths = [results.keep(run, tmp_path) for run in runs]
    assert [path.stem for path in paths] == ["k2-t2-e1-seed0", "k2-t2-e1-seed1", "k1-t2-e1-seed0"]
    values = (0.5, 0.75, 0.25)
    for path, value in zip(paths, values, strict=True):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"test": [0.0, value]}}))
    rows = [[cell.strip() for cell in line.split("|")] for line in results.table(tmp_path)][2:]
    assert [row[3] for row in rows] == ["2 thresholds", "single threshold", ""]
    assert [row[6] for row in rows] == ["2", "1", ""]
    assert [row[7] for row in rows] == ["62.50 ± 17.68", "25.00", "99.56"]
    assert float(rows[0][8]) > 0


def test_a_kept_network_has_the_accuracy_that_was_written(runs, tmp_path, monkeypatch):
    from rheobase.data import MNIST
    from tiny_training import samples

    monkeypatch.setattr(MNIST, "read", lambda self, split: samples(seed=1))
    path = results.keep(runs[0], tmp_path)
    written, now = results.check(path)
    assert written == now
    shutil.copy(runs[2] / "snn.safetensors", path.with_suffix(".safetensors"))
    assert results.check(path)[1] != written or results.read(runs[2] / "result.json").accuracy == written


def test_what_is_no_result_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(rb.FileError, match="no result of a training run"):
        results.read(tmp_path / "x.json")


def test_the_docs_hold_the_table_of_the_committed_results(tmp_path):
    text = (REPOSITORY / "docs/training.md").read_text()
    again = tmp_path / "again.md"
    again.write_text(text)
    insert(again, {"training": results.table(REPOSITORY / "evidence/training")})
    assert again.read_text() == text, "make readme"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "evidence/training").glob("*/*.json")), ids=lambda p: p.stem)
def test_every_committed_result_is_of_all_test_samples(path):
    found = json.loads(path.read_text())
    assert found["samples"] == 10_000 or found["config"]["data"]["kind"] not in ("MNIST", "FashionMNIST", "CIFAR10")
    assert path.with_suffix(".safetensors").exists()
    assert {"torch", "machine", "rheobase"} <= set(found["provenance"])


def reached(data: str, kind: str) -> list[float]:
    """The accuracy of every seed of a configuration."""
    found = [results.read(path) for path in (REPOSITORY / "evidence/training" / data).glob(f"{kind}-seed*.json")]
    assert found
    return [result.accuracy for result in found]


def test_the_committed_results_reach_what_the_papers_state_as_the_docs_say():
    assert mean(reached("mnist", "k4-t2-e10")) >= 0.9956
    assert mean(reached("fashionmnist", "k4-t2-e20")) >= 0.9308


def test_four_thresholds_beat_one_on_mnist_and_do_not_beat_rounding_to_as_many_levels():
    four, one, rounded = (reached("mnist", kind) for kind in ("k4-t2-e10", "k1-t2-e10", "k8-t1-e10"))
    assert len(four) == len(one) == len(rounded) == 3
    assert mean(four) - mean(one) > 1e-3
    assert mean(four) - mean(rounded) < stdev(four)


def test_four_thresholds_beat_both_baselines_on_fashion_and_one_beats_them_on_the_recordings():
    four, one, rounded = (mean(reached("fashionmnist", kind)) for kind in ("k4-t2-e20", "k1-t2-e20", "k8-t1-e20"))
    assert four - 0.004 > rounded > one + 0.002
    four, one, rounded = (reached("localrecordings", kind) for kind in ("k4-t4-e30", "k1-t4-e30", "k16-t1-e30"))
    assert len(four) == len(one) == len(rounded) == 3
    assert mean(one) > max(mean(four), mean(rounded))
