"""The commands: what they print, what they write, and one paragraph for everything that can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import rheobase as rb
from rheobase import cli
from rheobase.cli import main
from rheobase.evaluate import Curve

MODEL = """
import torch
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)
    )

def wider():
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 64, 3))

def failing():
    raise ValueError("no such size")

def number():
    return 3
"""
CALM = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for a busy core would cost more than they bring
CONVERT = ("convert", "--model", "small_zoo:net", "--weights", "net.safetensors", "--data", "data.npz")
EVALUATE = ("evaluate", "--snn", "snn.safetensors", "--data", "data.npz")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model module, its weights, data, and the network converted."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small_zoo.py").write_text(MODEL)
    names: dict[str, Any] = {}
    exec(MODEL, names)
    torch.manual_seed(0)
    net = names["net"]().eval()
    save_file(net.state_dict(), folder / "net.safetensors")
    x = np.random.default_rng(0).random((40, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder / "data.npz", x=x, y=y)
    snn, _ = rb.convert(net, rb.methods.opi(), [torch.from_numpy(x)])
    rb.save(folder / "snn.safetensors", snn)
    return folder


@pytest.fixture
def here(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a folder of its own, as the current directory."""
    for path in workplace.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "small_zoo", raising=False)
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused(*argv)`: the one paragraph on stderr of a command that ends with 2 and prints no result."""

    def run(*argv: str) -> str:
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return err[err.index("error: ") :]

    return run


def rheobase(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it."""
    command = [sys.executable, "-m", "rheobase.cli", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=CALM)


def test_convert_then_evaluate_as_a_person_does(here: Path) -> None:
    done = rheobase(here, *CONVERT, "--method", "percentile", "--set", "p=99", "--out", "new/made.safetensors")
    assert done.returncode == 0, done.stderr
    assert "calibrated on 40 samples" in done.stdout
    assert "next: rheobase evaluate --snn new/made.safetensors" in done.stdout
    assert done.stderr.splitlines() == ["reading data ...", "calibrating ..."]

    reference = ("--model", "small_zoo:net", "--weights", "net.safetensors")
    outputs = ("--out", "curve.json", "--plot", "curve.svg")
    args = ("evaluate", "--snn", "new/made.safetensors", "--data", "data.npz", "--steps", "12")
    done = rheobase(here, *args, *reference, *outputs, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed == json.loads((here / "curve.json").read_text())
    assert (here / "curve.svg").read_text().startswith("<?xml")
    curve = Curve.from_json(printed)
    assert curve.ann_accuracy == 1.0
    assert list(curve.steps) == list(range(1, 13))
    assert printed["provenance"]["method"]["scale"] == {"kind": "Percentile", "p": 99, "channelwise": False}


def test_convert_is_the_function(here: Path) -> None:
    assert main([*CONVERT, "--method", "opi", "--limit", "16", "--out", "cli.safetensors", "--json"]) == 0
    x = torch.from_numpy(np.load("data.npz")["x"])
    sys.path.insert(0, str(here))
    net = cli.network("small_zoo:net", Path("net.safetensors"))
    snn, _ = rb.convert(net, rb.methods.opi(), [x[:16]])
    made = rb.load("cli.safetensors")
    ys, _ = made(rb.constant(x, 4))
    assert torch.equal(ys, snn(rb.constant(x, 4))[0])


def test_convert_prints_one_json_document(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT, "--method", "msat", "--set", "confidence=true", "--out", "s.safetensors", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [layer["name"] for layer in report["layers"]] == ["2"]
    assert report["samples"] == 40
    assert "confidence ..." in err


def test_evaluate_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVALUATE, "--steps", "4", "--limit", "10", "--batch", "3"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["1", "2", "4"]
    assert "snn: 10 samples" in out
    assert "input each step" in out
    assert "input once" in out
    assert "not counted: neuron updates" in out


def test_evaluate_says_what_is_graded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT, "--method", "msat", "--out", "msat.safetensors"]) == 0
    assert main(["evaluate", "--snn", "msat.safetensors", "--data", "data.npz", "--steps", "4"]) == 0
    assert "these messages are graded" in capsys.readouterr().out


def test_a_folder_is_spread_over_its_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in range(3):
        for i in range(4):
            path = here / "pictures" / f"class{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.new("RGB", (12, 10), (label * 100, i, 0)).save(path)
    options = cli.parse(["evaluate", "--snn", "-", "--data", "pictures", "--size", "8", "--limit", "6"], cli.COMMANDS)
    x, y = cli.samples(options, lambda stage, n, of: None)
    assert x.shape == (6, 3, 8, 8)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]
    normalised = cli.parse([*EVALUATE[:3], "--data", "pictures", "--size=8", "--mean=0.5", "--std=0.5"], cli.COMMANDS)
    assert float(cli.samples(normalised, lambda stage, n, of: None)[0].min()) == -1.0


def test_kernels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels"]) == 0
    assert "reference" in capsys.readouterr().out
    assert main(["kernels", "--snn", "snn.safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = "cpu" if found["kernels"]["cpu"].startswith("runs with") else "reference"
    snn = rb.load("snn.safetensors")
    assert {n: one["kernel"] for n, one in found["layers"].items()} == {n: best for n, _ in snn.sites()}


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == list(rb.methods.NAMED)
    for one in found:
        assert rb.from_json(one["method"]) == rb.methods.named(one["name"])
        assert one["line"]
        assert all(f"{word}" in text for word in (one["name"], *one["citations"]))
    assert next(one["settings"] for one in found if one["name"] == "percentile") == {"p": 99.9, "channelwise": False}


def test_cite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "opi"]) == 0
    assert capsys.readouterr().out == rb_cite("opi") + "\n"
    assert main(["cite", "msat", "opi", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["keys"][0] == "he2024msat"
    assert found["bibtex"].count("@") == len(found["keys"]) == len(set(found["keys"]))


def rb_cite(name: str) -> str:
    from rheobase.cite import cite

    return cite(name)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"rheobase {rb.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["metods"], "did you mean 'methods'?"),
        ([], "required: COMMAND"),
        (["cite", "msta"], "did you mean 'msat'?"),
        (["cite"], "required: method"),
        ([*CONVERT, "--method", "opy", "--out", "s"], "did you mean 'opi'?"),
        ([*EVALUATE, "--stps", "4"], "did you mean '--steps'"),
        ([*EVALUATE, "--steps", "0"], "'0' is no whole number from 1 on"),
        ([*EVALUATE, "--mean", "a,b"], "numbers with commas"),
        ([*CONVERT, "--method", "opi"], "required: --out"),
        ([*CONVERT, "--method", "opi", "--out", "s", "--set", "k=3"], "opi has no settings"),
        ([*CONVERT, "--method", "percentile", "--out", "s", "--set", "chanelwise=1"], "did you mean 'channelwise'?"),
        ([*CONVERT, "--method", "burst", "--out", "s", "--set", "k=3.5"], "'3.5' is no int"),
        ([*CONVERT, "--method", "burst", "--out", "s", "--set", "k"], "'' is no int"),
        ([*CONVERT, "--method", "percentile", "--out", "s", "--set", "p=101"], "Percentile(101)"),
        (["methods", "extra"], "unknown argument of rheobase methods 'extra'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(refused, argv: list[str], said: str) -> None:
    assert said in refused(*argv)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--model": "small_zoo"}, "--model package.module:factory"),
        ({"--model": "small_zo:net"}, "importing 'small_zo' raised ModuleNotFoundError"),
        ({"--model": "small_zoo:nett"}, "did you mean 'net'?"),
        ({"--model": "small_zoo:failing"}, "raised ValueError: no such size\n  why: at "),
        ({"--model": "small_zoo:number"}, "returned int, not a torch.nn.Module"),
        ({"--model": "small_zoo:wider"}, "2 missing: 3.weight, 3.bias; 7 unexpected: "),
        ({"--weights": "none.safetensors"}, "there is no file 'none.safetensors'"),
        ({"--weights": "data.npz"}, "is a pickle"),
        ({"--weights": "small_zoo.py"}, "is not a safetensors file"),
        ({"--data": "none"}, "'none' is no data"),
        ({"--out": "data.npz/s.safetensors"}, "is no folder that you may write"),
        ({"--out": "."}, "it is a folder"),
    ],
)
def test_convert_refuses(refused, here: Path, changed: dict[str, str], said: str) -> None:
    given = dict(zip(CONVERT[1::2], CONVERT[2::2], strict=True)) | {"--method": "opi", "--out": "s.safetensors"}
    before = set(here.rglob("*.safetensors"))
    assert said in refused("convert", *(word for pair in (given | changed).items() for word in pair))
    assert set(here.rglob("*.safetensors")) == before


def test_mismatched_shapes_are_named(refused, here: Path) -> None:
    err = refused("convert", "--model", "small_zoo:wider", *CONVERT[3:], "--method", "opi", "--out", "s")
    assert "2 of another shape: 0.weight (4, 3, 3, 3) for (5, 3, 3, 3)" in err


@pytest.mark.parametrize("name", ["net.pt", "disguised.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_with_the_line_that_converts_it(refused, here: Path, name: str, zipped: bool) -> None:
    torch.save({"0.weight": torch.zeros(4)}, here / name, _use_new_zipfile_serialization=zipped)
    given = (*CONVERT[:4], name, *CONVERT[5:], "--method", "opi", "--out", "s.safetensors")
    err = refused(*given)
    assert f"safetensors.torch.save_file(torch.load('{name}', weights_only=True), '" in err


def test_data_that_do_not_fit(refused, here: Path) -> None:
    np.savez("small.npz", x=np.zeros((4, 3, 5, 5), np.float32), y=np.zeros(4, np.int64))
    assert "does not run on inputs" in refused(*CONVERT[:6], "small.npz", "--method", "opi", "--out", "s")
    assert "expected [T, N, 3, 8, 8]" in refused(*EVALUATE[:4], "small.npz")
    assert "does not run on samples (3, 5, 5)" in refused(*EVALUATE[:4], "small.npz", *CONVERT[1:5])


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--model", "small_zoo:net"], "needs both --model and --weights"),
        (["--plot", "curve.gif"], "one of .svg, .png, .pdf"),
        (["--out", "data.npz/curve.json"], "cannot write"),
        (["--snn", "net.safetensors"], "holds tensors but no spiking network"),
        (["--snn", "none.safetensors"], "there is no file"),
    ],
)
def test_evaluate_refuses(refused, here: Path, extra: list[str], said: str) -> None:
    assert said in refused(*EVALUATE, *extra)


def test_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "msta", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["try"] == "did you mean 'msat'?"
    assert err.startswith("error: unknown method 'msta'")


def test_without_rich(refused, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name == "rich" or name.startswith("rich.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    for argv in (["methods"], ["demo"], [*EVALUATE], [*CONVERT, "--method", "opi", "--out", "s.safetensors"]):
        assert "pip install 'rheobase[cli]'" in refused(*argv)
    assert not (here / "s.safetensors").exists()
    assert main(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_interrupted(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*args: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "convert", stop)
    assert main([*CONVERT, "--method", "opi", "--out", "s.safetensors"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted: nothing was written"
    monkeypatch.setattr(cli.plot, "accuracy_latency", stop)
    assert main([*EVALUATE, "--steps", "2", "--out", "c.json", "--plot", "c.png"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted: c.json is written"
    assert json.loads((here / "c.json").read_text())["steps"] == [1, 2]


def test_a_reader_that_leaves_is_no_error(here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rheobase.cli", "cite", *rb.methods.NAMED]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False, env=CALM)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141
