"""`rheobase train`, `recipes` and `cp`: from a copied recipe to a network, and what bad input is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rheobase as rb
from rheobase import catalogue
from rheobase.cli import main
from rheobase.terminal import Terminal
from rheobase.train import Pace
from rheobase.training.journal import rows
from test_sources import write_idx

SMALL = ["--set", "epochs=1", "batch=10", "net.layers=4C5-P4-8", "levels=2"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a little data in the form of MNIST, to work in."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 20)):
        write_idx(tmp_path / f"mnist/{split}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"mnist/{split}-labels-idx1-ubyte.gz", rng.integers(0, 10, count, np.uint8))
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_copied_recipe_trains_and_goes_on(place, capsys):
    assert main(["cp", "mt_lif_mnist"]) == 0
    assert (place / "mt_lif_mnist.py").read_text() == (catalogue.FOLDER / "mt_lif_mnist.py").read_text()
    assert "rheobase train ./mt_lif_mnist.py" in capsys.readouterr().out
    assert main(["train", "./mt_lif_mnist.py", *SMALL, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert "epoch 1/1, batch 4/4" in shown.err
    assert found["config"]["neuron"]["alphabet"]["levels"] == [1.0, 2.0]
    assert len(found["accuracy"]["test"]) == 2
    result = json.loads((place / "runs/mt_lif_mnist/result.json").read_text())
    curve = rb.Curve.from_json(result["curve"])
    assert curve.accuracy.tolist() == pytest.approx(found["accuracy"]["test"])
    assert result["config"] == found["config"]
    assert main(["evaluate", "--snn", "runs/mt_lif_mnist/snn.safetensors", "--data", "none.npz"]) == 2
    capsys.readouterr()
    assert main(["train", "./mt_lif_mnist.py", *SMALL]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "./mt_lif_mnist.py", *SMALL, "--resume"]) == 0
    assert "accuracy after T steps" in capsys.readouterr().out
    assert main(["train", "./mt_lif_mnist.py", *SMALL, "seed=3", "--resume"]) == 2
    assert "seed is 0, now 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "mt_lif_mnst"], "did you mean 'mt_lif_mnist'"),
        (["train", "cifar_conversion"], "unknown recipe to train"),
        (["train", "none.py"], "there is no recipe 'none.py'"),
        (["train", "mt_lif_mnist", "--set", "levels=two"], "no int"),
        (["train", "mt_lif_mnist", "--set", "epoch=2"], "did you mean 'epochs'"),
        (["train", "mt_lif_mnist", "--resum"], "did you mean '--resume'"),
        (["train", "broken.py"], "ZeroDivisionError"),
        (["train", "other.py"], "returned int"),
        (["train", "empty.py"], "no function recipe"),
        (["cp", "nothing"], "unknown recipe"),
        (["cp", "mt_lif_mnist", "--out", "broken.py"], "is there already"),
    ],
)
def test_bad_input_is_told_in_one_paragraph(place, capsys, argv, says):
    (place / "broken.py").write_text("1 / 0\n")
    (place / "other.py").write_text("def recipe():\n    return 3\n")
    (place / "empty.py").write_text("")
    before = sorted(place.iterdir())
    assert main([*argv, "--json"]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert says in " ".join(json.loads(shown.out)["error"].values())
    assert sorted(place.iterdir()) == before


def test_missing_data_is_told_before_anything_is_written(place, capsys, monkeypatch):
    (place / "mnist/train-images-idx3-ubyte.gz").unlink()
    assert main(["train", "mt_lif_mnist"]) == 2
    assert "holds no train-images" in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_recipes_are_listed_without_being_run(capsys):
    assert main(["recipes", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    trains = {name for name, one in found.items() if one["trains"]}
    assert {"mt_lif_mnist", "mt_lif_fashion", "mt_lif_cifar10", "mt_snn_cifar10", "mt_snn_dvs"} <= trains
    assert {"cifar_conversion", "speech_commands"} <= set(found) - trains
    assert all(one["line"].endswith((".", ":")) or one["line"] for one in found.values())
    assert not {"comparison", "__init__"} & set(found)


@pytest.mark.parametrize("name", [one.name for one in catalogue.recipes()])
def test_a_copied_recipe_needs_nothing_beside_it(name, tmp_path):
    text = catalogue.source(name)
    assert "from ." not in text
    compile(text, name, "exec")
    for one in catalogue.recipes():
        if one.name == name and one.trains:
            assert rb.from_json(rb.to_json(catalogue.config(name))) == catalogue.config(name)


def test_progress_has_speed_and_time_left(capsys):
    pace = Pace(epoch=1, epochs=2, batch=3, batches=4, loss=1.5, per_second=100.0, remaining=61.0)
    with Terminal(as_json=True).pace() as report:
        assert report is not None
        report(pace)
        report(pace)
        report(pace._replace(epoch=2, batch=4))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "epoch 1/2, batch 3/4, loss 1.5000, 100 samples/s, 0:01:01 left"
    assert len(lines) == 2


@pytest.mark.slow
def test_launchers_run_the_same_recipe_on_two_processes(place):
    """Without a GPU `accelerate launch` starts one process and torchrun several; norms are of each process, so off."""
    options = [*SMALL, "net.norm=false", "batch=20"]
    one = ["accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    one += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    two = ["torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        two += ["--master-port", str(free.getsockname()[1])]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for name, launch in (("one", one), ("two", two)):
        argv = [sys.executable, "-m", *launch, "-m", "rheobase.cli", "train", "mt_lif_mnist", *options, "--json"]
        argv += ["--out", str(place / name)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["place"]["step"] == 2
    results = [json.loads((place / name / "result.json").read_text()) for name in ("one", "two")]
    assert [found["processes"] for found in results] == [1, 2]
    logs = [rows(place / name / "log.jsonl") for name in ("one", "two")]
    for a, b in zip(*logs, strict=True):
        assert b["mean_loss"] == pytest.approx(a["mean_loss"], rel=1e-4)
