"""The search: its space, its evidence, its target met on data that took no part, interrupted and repeated."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import rheobase as rb
from rheobase import demo, plot, table
from rheobase.candidate import CORRECTIONS, FAMILIES, SCALES, space
from rheobase.cli import main
from rheobase.evidence import Evidence
from rheobase.study import Study
from rheobase.trial import Trial, pareto
from trained import digits

pytest.importorskip("optuna")


@cache
def data() -> tuple[nn.Module, list[Tensor], list[tuple[Tensor, Tensor]]]:
    """A trained network, calibration images, and labelled images: test images here, for a drop that is not 0."""
    ann, _, _ = digits()
    split = demo.digits(0)
    x, y = torch.cat([split.x_test, split.x[300:500]]), torch.cat([split.y_test, split.y[300:500]])
    return ann, [split.x[:96]], list(zip(x.split(40), y.split(40), strict=True))


def found(**wanted: Any) -> rb.Choice:
    ann, batches, loader = data()
    return rb.search(ann, batches, loader, **({"steps": 3, "letters": 3, "trials": 6, "max_drop": 0.05} | wanted))


@cache
def chosen() -> rb.Choice:
    return found()


def trial(drop: float, energy: float, **parts: Any) -> Trial:
    known: dict[str, Any] = {"candidate": rb.Candidate(), "samples": 64, "low": -1.0, "high": 1.0}
    known |= {"events": 0.1, "latency": 4, "drop": drop, "energy": energy}
    return Trial(**{**known, **parts})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_every_candidate_of_the_space_is_a_method_and_survives_json(family, scale, correction):
    for letters in space(8, 15, pipelined=True)["letters"]:
        candidate = rb.Candidate(family=family, letters=int(letters), scale=scale, correction=correction)
        assert rb.from_json(json.loads(json.dumps(rb.to_json(candidate)))) == candidate
        method = candidate.method
        levels = getattr(method.scale, "levels", None)
        top = method.alphabet.ceiling / method.alphabet.unit
        many = (top + 1) ** 4 - 1 if family == "radix" else 4 * top
        assert levels in (None, many)
        assert type(method.scale) is type(SCALES[scale](1)) or many > 255


def test_more_digits_than_numbers_tell_apart_are_a_trial_that_failed():
    with pytest.raises(rb.SpecError, match="float32"):
        _ = rb.Candidate(family="radix", steps=8, letters=15).method
    ann, calibration, loader = data()
    choice = rb.search(ann, calibration, loader, steps=25, letters=1, binary=True, pipelined=True, trials=3)
    fates = {t.candidate.steps: t.fate for t in choice.trials if t.candidate.family == "radix"}
    assert all(("float32" in fate) == (steps > 24) for steps, fate in fates.items()), fates


def test_two_binary_digits_lose_less_than_two_binary_spikes():
    """Four levels instead of three, and the search tries both by itself."""
    ann, calibration, loader = data()
    choice = rb.search(ann, calibration, loader, max_drop=0.5, steps=2, binary=True, pipelined=True, trials=8)
    two = [trial for trial in choice.trials if trial.candidate.steps == 2 and trial.fate == "complete"]
    digits = [trial.drop for trial in two if trial.candidate.family == "radix"]
    assert min(digits) < min(trial.drop for trial in two if trial.candidate.family != "radix")


def test_the_space_keeps_to_the_goal():
    assert space(4, 15, binary=True)["family"] == ["rate"]
    assert space(4, 15, binary=True, pipelined=True)["family"] == ["rate", "wait", "radix"]
    assert space(4, 15, binary=True)["letters"] == [1]
    assert max(map(int, space(5, 7)["steps"])) == 5
    assert max(map(int, space(5, 7)["letters"])) == 7
    assert "wait" not in space(4, 15)["family"]
    assert not [f for f in space(4, 1)["family"] if "power" in str(f)]


@given(st.floats(0, 0.3), st.floats(0, 0.2), st.integers(20, 400), st.integers(0, 10_000))
@settings(max_examples=60)
def test_the_bounds_of_the_evidence_hold_and_narrow(lost, won, n, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(n, generator=generator)
    source, other = (draw >= won) | (draw >= lost + won), draw >= lost
    source = torch.where(draw < lost, True, torch.where(draw < lost + won, False, True))
    other = torch.where(draw < lost, False, True)
    seen = Evidence(1 - 1e-9)  # so certain that no draw here may contradict it
    seen.add(source, other)
    low, high = seen.bounds
    assert low <= lost - won <= high
    assert seen.drop == pytest.approx(float((source.float() - other.float()).mean()))
    more = Evidence(1 - 1e-9)
    for _ in range(4):
        more.add(source, other)
    assert more.bounds[1] - more.bounds[0] < high - low


def test_evidence_at_a_certainty_errs_about_as_often_as_it_says_at_most():
    wrong, generator = 0, torch.Generator().manual_seed(1)
    for _ in range(80):
        draw, seen = torch.rand(100, generator=generator), Evidence(0.9)
        seen.add(torch.ones(100, dtype=torch.bool), draw >= 0.1)
        wrong += not seen.bounds[0] <= 0.1 <= seen.bounds[1]
    assert wrong <= 8


def test_the_front_is_what_nothing_beats():
    trials = [trial(0.1, 0.1), trial(0.05, 0.2), trial(0.06, 0.3), trial(0.0, 0.5), trial(-0.1, 0.05, fate="pruned")]
    assert [(t.drop, t.energy) for t in pareto(trials)] == [(0.1, 0.1), (0.05, 0.2), (0.0, 0.5)]


def test_a_choice_meets_its_target_on_data_that_took_no_part_and_is_the_cheapest_that_did():
    choice = chosen()
    ann, _, loader = data()
    fresh = loader[1::2]
    assert choice.met
    assert choice.promise.drop <= 0.05
    curve = rb.evaluate(choice.snn, fresh, choice.candidate.steps, ann=ann)
    assert curve.ann_accuracy == pytest.approx(choice.ann_accuracy)
    assert curve.accuracy[-1] == pytest.approx(choice.accuracy)
    assert choice.promise.samples == sum(len(x) for x, _ in fresh)
    able = [t for t in choice.trials if t.fate == "complete" and choice.goal.met(t)]
    assert choice.candidate in {t.candidate for t in able}
    assert rb.convert(ann, choice.candidate.method, data()[1])[0](rb.constant(fresh[0][0], 2))[0].shape[0] == 2


def test_the_same_seed_finds_the_same_and_an_interrupted_search_goes_on(tmp_path):
    journal = tmp_path / "journal.log"
    whole = chosen()
    found(trials=4, journal=journal)
    study = Study(whole.goal, 0, journal)
    study.ask()  # interrupted here, in the midst of a trial
    again = found(journal=journal)
    assert [t.candidate for t in again.trials] == [t.candidate for t in whole.trials]
    assert again.promise == whole.promise
    assert [t.to_json() for t in again.trials] == [t.to_json() for t in whole.trials]
    with pytest.raises(rb.FileError, match="another search"):
        found(max_drop=0.01, journal=journal)


def test_hopeless_candidates_are_pruned_and_say_why():
    choice = found(max_drop=0.0, max_energy=0.02, trials=2)
    assert not choice.met
    assert all(t.fate != "complete" for t in choice.trials)
    assert any("costs more" in t.fate for t in choice.trials)
    assert all(t.samples < 300 for t in choice.trials)
    missed = found(max_drop=0.0, steps=1, letters=1, binary=True, trials=1)
    assert not missed.met or missed.promise.drop <= 0


def test_plain_data_table_and_picture_of_a_choice(tmp_path):
    choice = chosen()
    plain = json.loads(json.dumps(choice.to_json(), allow_nan=False))
    assert [Trial.from_json(t) for t in plain["trials"]] == list(choice.trials)
    assert [Trial.from_json(t) for t in plain["front"]] == list(choice.front)
    failed = Trial.failed(rb.Candidate(), "no")
    assert Trial.from_json(json.loads(json.dumps(failed.to_json()))) == failed
    assert len(table.choice(choice).rows) == len(choice.front)
    pytest.importorskip("matplotlib")
    plot.save(tmp_path / "front.svg", plot.pareto(choice))
    assert (tmp_path / "front.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"max_drop": 1.5}, "max_drop"),
        ({"max_energy": 0.0}, "max_energy"),
        ({"steps": 0}, "no step"),
        ({"letters": 0}, "no letter"),
        ({"trials": 0}, "tries nothing"),
        ({"certainty": 1.0}, "certainty"),
    ],
)
def test_targets_that_mean_nothing_are_refused(wanted, message):
    with pytest.raises(rb.RheobaseError, match=message):
        found(**wanted)


def test_one_batch_cannot_both_choose_and_confirm():
    ann, batches, loader = data()
    with pytest.raises(rb.InputError, match="at least two batches"):
        rb.search(ann, batches, loader[:1])


def test_a_candidate_that_cannot_be_converted_is_told_and_does_not_end_the_search():
    _, _, loader = data()
    dark = [torch.zeros(8, *loader[0][0].shape[1:])]
    with pytest.raises(rb.InputError, match="no candidate could be converted"):
        rb.search(nn.Sequential(nn.Flatten(), nn.Linear(64, 9, bias=False), nn.ReLU(), nn.Linear(9, 10)).eval(), dark,
                  loader, trials=2)  # fmt: skip


def test_the_command_finds_writes_and_reports_once(tmp_path, capsys):
    ann, _, _ = data()
    split = demo.digits(0)
    save_file({k: v.contiguous() for k, v in ann.state_dict().items()}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "train.npz", x=split.x[:260].numpy(), y=split.y[:260].numpy())
    np.savez(tmp_path / "test.npz", x=split.x_test[:80].numpy(), y=split.y_test[:80].numpy())
    argv = ["search", "--json", "--model", "rheobase.nets.digits:DigitsNet", "--weights", tmp_path / "w.safetensors",
            "--data", tmp_path / "train.npz", "--calibrate", 100, "--batch", 40, "--trials", 3, "--steps", 2,
            "--max-drop", 0.1, "--test", tmp_path / "test.npz", "--out", tmp_path / "snn.safetensors",
            "--front", tmp_path / "front.json", "--journal", tmp_path / "j.log"]  # fmt: skip
    assert main([str(a) for a in argv]) == 0
    shown = json.loads(capsys.readouterr().out)
    written = json.loads(Path(tmp_path / "front.json").read_text())
    assert written["promise"] == shown["promise"]
    assert shown["test"]["samples"] == 80
    snn = rb.load(tmp_path / "snn.safetensors")
    steps = shown["candidate"]["steps"]
    curve = rb.evaluate(snn, [(split.x_test[:80], split.y_test[:80])], steps)
    assert curve.accuracy[-1] == shown["test"]["accuracy"][-1]
    assert main([str(a) for a in [*argv[:9], "--batch", 400]]) == 2


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(rb.MissingExtraError, match="search"):
        found()
