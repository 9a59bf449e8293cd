"""The demo: its promise about OPI, its files, its determinism, and Ctrl-C in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import rheobase as rb
from rheobase import cli, demo
from rheobase.evaluate import Curve

pytest.importorskip("sklearn")


def quiet(stage: str, n: int, of: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run of the demo as a person runs it, into the folder `args[-1]`."""
    out = tmp_path_factory.mktemp("demo") / "results"
    command = [sys.executable, "-m", "rheobase.cli", "demo", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_demo_keeps_its_promise(whole: subprocess.CompletedProcess[str]) -> None:
    assert whole.returncode == 0, whole.stderr
    out = Path(whole.args[-1])
    assert sorted(path.name for path in out.iterdir()) == ["curve.png", "curve.svg", "demo.json"]
    found = json.loads((out / "demo.json").read_text())
    curves = {data["label"].split(",")[0]: Curve.from_json(data) for data in found["curves"]}
    assert list(curves) == ["max-norm", "constant 0.5", "percentile 99.9", "OPI", "MSAT", "DTIF (ours)", "burst 5"]
    ann = curves["OPI"].ann_accuracy
    assert ann > 0.98
    assert abs(curves["OPI"].accuracy[31] - ann) <= 0.005
    assert curves["OPI"].accuracy[3] > curves["max-norm"].accuracy[3] + 0.2
    assert found["seed"] == 0
    assert found["rheobase"] == rb.__version__
    assert found["test"] == curves["OPI"].samples == 597


def test_the_demo_prints_one_table_and_what_is_next(whole: subprocess.CompletedProcess[str]) -> None:
    lines = whole.stdout.splitlines()
    rows = [line for line in lines if line.startswith((" max-norm", " OPI", " MSAT", " DTIF", " burst"))]
    assert len(rows) == 5
    assert "the first layer's multiplications are paid at each step" in whole.stdout
    assert lines[-2].startswith("wrote demo.json, curve.png and curve.svg to ")
    assert lines[-1].startswith("next: ")
    assert "training ..." in whole.stderr.splitlines()


def test_the_seed_says_everything() -> None:
    split, again, other = demo.digits(3), demo.digits(3), demo.digits(4)
    assert torch.equal(split.x, again.x)
    assert not torch.equal(split.x, other.x)
    assert len(split.x) + len(split.x_test) == 1797
    state = torch.get_rng_state()
    with demo.one_thread():
        assert torch.get_num_threads() == 1
        first, second = (demo.train(split, 3, quiet, epochs=1).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_calibration_sees_training_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    split = demo.digits(0)
    seen = []

    def spy(ann: object, method: object, batches: list[torch.Tensor]) -> None:
        seen.extend(batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "convert", spy)
    with pytest.raises(KeyboardInterrupt):
        demo.measure(torch.nn.Identity(), split, "", rb.methods.opi(), quiet)
    assert [torch.equal(x, split.x) for x in seen] == [True]


def test_every_preset_has_its_row() -> None:
    for preset, method in demo.PRESETS.items():
        assert demo.named(preset)[f"MSAT, {preset}"] == method


def test_interrupted_in_the_middle(tmp_path: Path) -> None:
    main = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    main += "from rheobase import cli, demo; demo.EPOCHS = 1; sys.exit(cli.main(['demo', '--out', 'out']))"
    running = subprocess.Popen([sys.executable, "-c", main], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not (tmp_path / "out" / "demo.json").exists():
        time.sleep(0.02)
    time.sleep(0.1)  # for the program to know, too, that the file is there
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130
    finished = json.loads((tmp_path / "out" / "demo.json").read_text())["curves"]
    assert err.splitlines()[-1] == f"interrupted: {len(finished)} of 7 methods are in {Path('out') / 'demo.json'}"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["demo.json"]
    assert Curve.from_json(finished[0]).label == "max-norm"


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert cli.main(["demo", "--out", "nowhere"]) == 2
    assert "pip install 'rheobase[demo]'" in capsys.readouterr().err
    assert not Path("nowhere").exists()
