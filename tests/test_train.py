"""Training: exact resume through real kills, several processes, bad input, and that it learns."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import rheobase as rb
from rheobase import training
from rheobase.data import Pictures, Recordings, Samples
from rheobase.nets import Plain
from rheobase.train import train
from rheobase.training import chance, feed, journal, snapshot
from tiny_training import config, evaluated, fit, recordings, samples, shared, slowly, uneven

CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    ["rheobase.train", "accelerate", "torch.utils.tensorboard", "torch._dynamo", "torch.export"]
)


def log(out: Path) -> list[dict[str, Any]]:
    """The rows without what the clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in journal.rows(out / "log.jsonl")]


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(whole, config(), log_every=1)
    moments, kills = random.Random(0), 0
    while True:
        child = CHILDREN.Process(target=slowly, args=(killed,))
        child.start()
        begun = (killed / "log.jsonl").stat().st_mtime_ns if kills and (killed / "log.jsonl").exists() else 0
        while child.is_alive() and (not (killed / "log.jsonl").exists() or _written(killed) == begun):
            time.sleep(0.005)
        if kills < 3:
            child.join(moments.uniform(0.0, 0.25))
            os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        if child.exitcode == 0:
            break
        kills += child.exitcode == -signal.SIGKILL
    assert kills >= 3
    for name in ("last.safetensors", "best.safetensors", "snn.safetensors"):
        assert same(whole / name, killed / name), name
    assert log(whole) == log(killed)
    assert not list(killed.glob(".*"))


def _written(out: Path) -> int:
    return (out / "log.jsonl").stat().st_mtime_ns


def test_another_seed_is_another_run(tmp_path):
    fit(tmp_path / "a", config(epochs=1))
    fit(tmp_path / "b", config(epochs=1, seed=1))
    assert not same(tmp_path / "a/last.safetensors", tmp_path / "b/last.safetensors")


@pytest.mark.parametrize("part", ["order", "augment", "drop"])
def test_the_resume_test_would_see_chance_that_is_not_kept(tmp_path, monkeypatch, part):
    """A run whose order, augmentation or dropout came from a generator that goes on would not resume exactly."""
    fit(tmp_path / "a", config(epochs=1))
    known = chance.number
    monkeypatch.setattr(chance, "number", lambda *p: known(*p, 1) if part in p else known(*p))
    monkeypatch.setattr(sys.modules["rheobase.train"], "number", chance.number)
    fit(tmp_path / "b", config(epochs=1))
    assert not same(tmp_path / "a/last.safetensors", tmp_path / "b/last.safetensors")


def together(target: Any, *args: Any, world: int) -> None:
    """Run `target(*args, rank, world, port)` in as many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [CHILDREN.Process(target=target, args=(*args, rank, world, port)) for rank in range(world)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0


def test_three_processes_evaluate_as_one_bit_for_bit(tmp_path):
    ann = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 4)
    )
    net, _ = rb.convert(ann.eval(), rb.methods.srp(), [x for x, _ in uneven()])
    rb.save(tmp_path / "net.safetensors", net)
    alone = rb.evaluate(net, uneven(), steps=5).to_json()
    together(evaluated, tmp_path / "net.safetensors", tmp_path, world=3)
    alone["provenance"].pop("machine")
    for rank in range(3):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        found["provenance"].pop("machine")
        assert found == json.loads(json.dumps(alone))


def test_two_processes_train_as_one(tmp_path):
    settings = config(net=Plain(layers="4C3-P2-16", norm=False), epochs=2, accumulate=1)
    fit(tmp_path / "one", settings, log_every=1)
    together(shared, tmp_path / "two", settings, world=2)
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == len(two) == 12
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert one[0]["loss"] != one[-2]["loss"]
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(a[name].double(), b[name].double(), rtol=1e-3, atol=1e-5) for name in a)


def test_pieces_are_the_whole(tmp_path):
    settings = config(net=Plain(layers="4C3-P2-16", norm=False), epochs=1, accumulate=1)
    fit(tmp_path / "one", settings, log_every=1)
    fit(tmp_path / "two", replace(settings, accumulate=4), log_every=1)
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-4)


@pytest.mark.parametrize("objective", [training.CrossEntropy(), training.TET()])
def test_it_learns_and_what_it_leaves_is_a_network_of_this_library(tmp_path, objective):
    settings = config(net=Plain(layers="4C3-P2-16"), epochs=12, held=0, mix=None, augment=(), objective=objective)
    settings = replace(settings, optimiser=training.SGD(rate=0.05), ema=0.0)
    found = fit(tmp_path, settings)
    assert found.accuracy["test"][-1] > 0.9
    net, test = rb.load(tmp_path / "snn.safetensors"), samples(seed=1)
    x = feed.normalised(test, feed.unit(test, test.x))
    curve = rb.evaluate(net, [(x, test.y)], steps=2)
    assert curve.accuracy.tolist() == pytest.approx(found.accuracy["test"])
    assert rb.from_json(net.provenance["training"]) == settings
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


def test_mixed_precision_trains(tmp_path):
    found = fit(tmp_path, config(bf16=True, epochs=1))
    assert found.net(rb.constant(torch.zeros(1, 1, 8, 8), 2))[0].dtype == torch.float32


def test_recordings_train_at_their_steps_and_no_others(tmp_path):
    settings = config(steps=3, held=0, epochs=1)
    given = recordings(3), recordings(3)
    assert len(train(settings, tmp_path / "a", data=given).accuracy["test"]) == 3
    with pytest.raises(rb.InputError, match="the training data have 3 steps, the run has 2") as error:
        train(replace(settings, steps=2), tmp_path / "b", data=given)
    assert "steps=3" in str(error.value)
    assert not (tmp_path / "b").exists()


def converted() -> rb.SpikingNet:
    """A small network for the images of `samples`, converted."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
    source = samples()
    x = feed.normalised(source, feed.unit(source, source.x))
    return rb.convert(nn.Sequential(*layers).eval(), rb.methods.opi(), [x])[0]


def test_a_converted_network_is_tuned_in_the_same_loop(tmp_path):
    """Weights, thresholds and starts move, resume works as for any run, and what is left is a plain network."""
    snn = converted()
    settings = config(epochs=2, mix=None, augment=())
    found = fit(tmp_path / "a", settings, net=rb.trainable(snn))
    tuned = dict(found.net.named_buffers())
    moved = [name for name, value in snn.named_buffers() if not torch.equal(value, tuned[name])]
    assert {name.rsplit(".")[-1] for name in moved} == {"theta0", "v0"}
    assert all(bool((value > 0).all()) for name, value in tuned.items() if name.endswith("theta0"))
    fit(tmp_path / "a", settings, net=rb.trainable(snn), resume=True)
    with pytest.raises(rb.FileError, match="another network"):
        fit(tmp_path / "a", settings, resume=True)


def test_a_saved_network_goes_on_wherever_it_comes_from(tmp_path):
    """The record names the file, so the command line tunes a converted network and resumes as ever."""
    snn = converted()
    rb.save(tmp_path / "snn.safetensors", snn)
    settings = config(epochs=2, mix=None, augment=(), net=training.Saved(str(tmp_path / "snn.safetensors")))
    assert rb.from_json(rb.to_json(settings)) == settings
    given, named = fit(tmp_path / "a", settings, net=rb.trainable(snn)), fit(tmp_path / "b", settings)
    for (name, ours), (_, theirs) in zip(named.net.state_dict().items(), given.net.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), name
    again = replace(settings, net=training.Saved(str(tmp_path / "b/snn.safetensors")))
    assert fit(tmp_path / "c", again).place.step == named.place.step
    narrow = replace(samples(), x=samples().x[..., :6])
    with pytest.raises(rb.InputError, match="reads samples of"):
        train(settings, tmp_path / "d", data=(narrow, narrow))


def test_a_trained_network_goes_on_in_the_same_loop(tmp_path):
    first = fit(tmp_path / "a", config(epochs=1, held=0))
    net = rb.SpikingNet(rb.load(tmp_path / "a/snn.safetensors").graph)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    again = fit(tmp_path / "b", config(epochs=1, held=0), net=net)
    assert again.place.step == first.place.step
    changed = [name for name, p in net.named_parameters() if not torch.equal(p, before[name])]
    assert changed == list(before)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    settings = config(held=0, epochs=2, accumulate=1)
    fit(tmp_path / "a", replace(settings, epochs=1))
    good = (tmp_path / "a/last.safetensors").read_bytes()
    net = rb.SpikingNet(fit(tmp_path / "b", replace(settings, epochs=1)).net.graph)
    with torch.no_grad():
        next(p for name, p in net.named_parameters() if name.startswith("nodes.5")).fill_(float("inf"))
    says = r"the gradient is no number at step 1 \(epoch 1, batch 1\); layer '5' is the first"
    with pytest.raises(rb.TrainingError, match=says) as error:
        fit(tmp_path / "c", settings, net=net)
    assert "smaller rate" in str(error.value)
    assert not (tmp_path / "c/last.safetensors").exists()
    huge = replace(settings, optimiser=training.SGD(rate=1e30), clip=0.0, epochs=5)
    with pytest.raises(rb.TrainingError, match="no number at step"):
        fit(tmp_path / "d", huge, save_seconds=0.0)
    kept = load_file(tmp_path / "d/last.safetensors")
    assert all(bool(torch.isfinite(value).all()) for name, value in kept.items() if name.startswith("net/"))
    assert (tmp_path / "a/last.safetensors").read_bytes() == good


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    fit(tmp_path, config(epochs=1))
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(rb.FileError, match="holds a run already") as error:
        fit(tmp_path, config(epochs=1, seed=5))
    assert "--resume" in str(error.value)
    assert (tmp_path / "last.safetensors").read_bytes() == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    fit(out, config(epochs=1))
    return out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 2}, "another configuration.*\n.*epochs is 1, now 2"),
        ({"optimiser": training.AdamW(rate=1e-4)}, "optimiser.rate is 0.005, now 0.0001"),
        ({"net": Plain(layers="5C3-P2-16", dropout=0.2)}, "another network"),
        ({"neuron": rb.Neuron(alphabet=rb.burst(3), leak=rb.Leak(0.5), surrogate=rb.Rectangular())}, "another network"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(finished, changes, says):
    with pytest.raises(rb.FileError, match=says):
        fit(finished, config(**({"epochs": 1} | changes)), resume=True)


def rewritten(source: Path, target: Path, **header: Any) -> None:
    """The same checkpoint with other entries in its header."""
    with safe_open(str(source), framework="pt") as file:
        known = json.loads(file.metadata()["rheobase"])
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(load_file(source), target, metadata={"rheobase": json.dumps(known | header)})


def test_a_checkpoint_that_is_damaged_or_of_another_version_is_refused(finished, tmp_path):
    raw = (finished / "last.safetensors").read_bytes()
    for name, content in (("cut", raw[: len(raw) // 2]), ("text", b"no tensors"), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.safetensors").write_bytes(content)
        with pytest.raises(rb.FileError, match="damaged or truncated"):
            fit(tmp_path / name, config(epochs=1), resume=True)
    rewritten(finished / "last.safetensors", tmp_path / "old/last.safetensors", version="0.0.1")
    with pytest.raises(rb.FileError, match=r"of rheobase 0\.0\.1, this is"):
        fit(tmp_path / "old", config(epochs=1), resume=True)
    rewritten(finished / "last.safetensors", tmp_path / "other/last.safetensors", kind="something")
    with pytest.raises(rb.FileError, match="no checkpoint of a training run"):
        fit(tmp_path / "other", config(epochs=1), resume=True)
    rewritten(finished / "last.safetensors", tmp_path / "same/last.safetensors")
    fit(tmp_path / "same", config(epochs=1), resume=True)


def test_labels_out_of_range_are_refused_before_anything_is_written(tmp_path):
    good = samples()
    with pytest.raises(rb.InputError, match="from 0 to 3"):
        replace(good, classes=3)
    fewer = Samples(x=good.x, y=good.y.clamp_max(2), classes=3)
    with pytest.raises(rb.InputError, match="classes"):
        train(config(), tmp_path / "run", data=(good, fewer))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 64, "held": 0}, "48 training samples fill no batch of 64"),
        ({"held": 48}, "held=48 leaves nothing"),
        ({"batch": 6}, "cannot be mixed in pairs"),
    ],
)
def test_what_makes_no_batch_is_refused(tmp_path, changes, says):
    with pytest.raises(rb.InputError, match=says):
        fit(tmp_path / "run", config(**changes))


def test_shares_of_a_batch_are_the_whole_batch():
    source, settings = samples(), config()
    whole = feed.Feed(source, settings)
    order = chance.order(len(source), 0, 0)
    xs, target = whole.batch(order, 0, 1, torch.device("cpu"))
    parts = [feed.Feed(source, settings, rank, 2).batch(order, 0, 1, torch.device("cpu")) for rank in range(2)]
    assert torch.equal(torch.cat([x for x, _ in parts], 1), xs)
    assert torch.equal(torch.cat([t for _, t in parts]), target)


def test_shares_of_pictures_that_are_cropped_as_they_are_read_are_the_whole_batch(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for i in range(8):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(files[-1])
    source = Pictures(files=tuple(files), y=torch.arange(8) % 4, classes=4, size=16)
    settings = config(held=0)
    order = chance.order(8, 0, 0)
    xs, _ = feed.Feed(source, settings).batch(order, 0, 0, torch.device("cpu"))
    parts = [feed.Feed(source, settings, rank, 2).batch(order, 0, 0, torch.device("cpu"))[0] for rank in range(2)]
    assert torch.equal(torch.cat(parts, 1), xs)
    assert xs.shape == (2, 8, 3, 16, 16)
    later, _ = feed.Feed(source, settings).batch(order, 1, 0, torch.device("cpu"))
    assert not torch.equal(later, xs)


def test_all_steps_of_a_recording_are_augmented_alike():
    """Frame t is t times the first one, before and after every change."""
    still = samples(8)
    xs = torch.stack([still.x.float() * t for t in (1, 2, 3)]) / 255
    source = Recordings(xs=xs, y=still.y, classes=4)
    settings = config(steps=3, held=0, augment=(training.Mirror(), training.Crop(padding=2)))
    found, target = feed.Feed(source, settings).batch(torch.arange(8), 0, 0, torch.device("cpu"))
    assert torch.allclose(found[1], 2 * found[0])
    assert torch.allclose(found[2], 3 * found[0])
    assert not torch.equal(found[0], xs[0])
    assert torch.allclose(target.sum(1), torch.ones(8))


def test_half_a_line_of_the_log_is_forgotten(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 3, "lo')
    kept = journal.Journal(tmp_path, 1)
    kept.add({"step": 2, "loss": 1.5})
    kept.close()
    assert journal.rows(tmp_path / "log.jsonl") == [{"step": 1, "loss": 2}, {"step": 2, "loss": 1.5}]
    assert snapshot.differences({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b is 1, now 2"
