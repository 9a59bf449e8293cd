"""The recipes of sentences and of sounds, on small data in the published formats: train, convert, compare, show."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import rheobase as rb
from rheobase.recipes import comparison, imdb_sentiment, speech_commands

FEW = {name: comparison.BESIDE[name] for name in ("OPI, max", "best, 3 letters, T = 2")}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two methods, and a folder for data."""
    for recipe in (imdb_sentiment, speech_commands):
        monkeypatch.setattr(recipe, "BESIDE", FEW)
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(recipe, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["recipe", *arguments])
    recipe.main()


def shown(out: Path, recipe, monkeypatch: pytest.MonkeyPatch, mark: str) -> str:
    page = out / "page.md"
    page.write_text(f"before\n<!-- {mark} -->\nold\n<!-- /{mark} -->\nafter\n")
    run(recipe, monkeypatch, "--out", str(out), "--table", str(page))
    return page.read_text()


def test_reviews_in_the_published_folders(few, monkeypatch, capsys):
    words = {"pos": "a fine warm film", "neg": "a dull cold film !<br />"}
    for split, n in (("train", 40), ("test", 10)):
        for name, text in words.items():
            folder = few / "imdb" / "aclImdb" / split / name
            folder.mkdir(parents=True)
            for k in range(n):
                (folder / f"{k}_9.txt").write_text(f"{text} number {k} " * (1 + k % 3))
    monkeypatch.setattr(imdb_sentiment, "TRAINING", 64)
    out = few / "out"
    run(imdb_sentiment, monkeypatch, "--out", str(out), "--epochs", "35")
    assert "epoch 35" in capsys.readouterr().out
    found = json.loads((out / "opi-max.json").read_text())
    assert found["samples"] == 20
    assert found["ann_accuracy"] > 0.9
    assert found["accuracy"][-1] > 0.9
    text = shown(out, imdb_sentiment, monkeypatch, "imdb")
    assert "old" not in text
    assert "| best, 3 letters, T = 2 |" in text
    run(imdb_sentiment, monkeypatch, "--out", str(out))  # nothing is trained or measured again
    assert "epoch 1:" not in capsys.readouterr().out


def test_a_long_review_keeps_its_beginning_and_its_end():
    numbers = imdb_sentiment.vocabulary(["one two two three three three"])
    assert numbers == {"three": 2, "two": 3, "one": 4}
    (row,) = imdb_sentiment.tokens(["one " * 300 + "unknown two"], numbers)
    assert row[0] == 4
    assert row[-2:].tolist() == [imdb_sentiment.UNKNOWN, 3]
    (short,) = imdb_sentiment.tokens(["Two THREE"], numbers)
    assert short.tolist() == [3, 2] + [0] * (imdb_sentiment.LENGTH - 2)


def tones(n: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """One second at 8 kHz: a low or a high tone under noise."""
    random = np.random.default_rng(seed)
    labels = [k % 2 for k in range(n)]
    time = np.arange(8000) / 8000
    clips = [np.sin(2 * np.pi * (300, 1500)[label] * time) + 0.1 * random.standard_normal(8000) for label in labels]
    return 0.3 * np.stack(clips), labels


def test_clips_one_after_the_other(few, monkeypatch):
    soundfile = pytest.importorskip("soundfile", reason="needs rheobase[audio]")
    pytest.importorskip("librosa", reason="needs rheobase[audio]")
    folder = few / "asc10"
    folder.mkdir()
    for seed, (split, n) in enumerate((("train", 48), ("val", 8), ("test", 12))):
        clips, labels = tones(n, seed)
        soundfile.write(folder / f"{split}.flac", clips.reshape(-1), 8000)
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("index", "label"), *enumerate(labels)])
    out = few / "out"
    run(speech_commands, monkeypatch, "--out", str(out), "--epochs", "4")
    curves = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert len(curves) == 3
    assert curves["opi-max"]["samples"] == 12
    assert curves["opi-max"]["ann_accuracy"] == 1
    assert max(curve["accuracy"][-1] for curve in curves.values()) == 1
    assert "12 test samples, ANN 100.00%" in shown(out, speech_commands, monkeypatch, "asc10")


def test_clips_in_folders_of_words(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="needs rheobase[audio]")
    pytest.importorskip("librosa", reason="needs rheobase[audio]")
    clips, labels = tones(8, 5)
    for k, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        folder = tmp_path / ("no", "yes")[label]
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / f"{k}.wav", clip[: 8000 - 100 * k], 8000)
    (tmp_path / "validation_list.txt").write_text("no/0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/1.wav\nno/2.wav\n")
    found = {split: speech_commands.read(tmp_path, split) for split in ("train", "val", "test")}
    assert {split: len(clips.x) for split, clips in found.items()} == {"train": 5, "val": 1, "test": 2}
    assert found["test"].y.tolist() == [0, 1]
    assert found["train"].x.shape[1:3] == (1, speech_commands.BANDS)
    with pytest.raises(rb.FileError, match="testing_list"):
        speech_commands.read(tmp_path / "no", "train")


def test_augmentation_changes_the_sound_and_not_its_shape():
    x = torch.randn(3, 1, 40, 63)
    varied = speech_commands.vary(x)
    assert varied.shape == x.shape
    assert not torch.equal(varied, x)
