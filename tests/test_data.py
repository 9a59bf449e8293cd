"""Reading data: arrays, folders of images, CIFAR-10 in the forms it is published in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rheobase as rb
from rheobase import data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 2, 3 and 4 pictures, each 8 x 6 and of one colour that tells it."""
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(2 + label):
            colour = (40 * label, 20 * i, 255)
            Image.new("RGB", (8, 6), colour).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_an_npz_of_floats_is_taken_as_it_is(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32), np.arange(5)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    read, labels = data.load(tmp_path / "d.npz")
    assert torch.equal(read, torch.from_numpy(x))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 1, 2, 3, 4]
    assert data.load(tmp_path / "d.npz", limit=2)[1].tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 4, 5)])
def test_an_npz_of_bytes_becomes_channels_first_between_0_and_1(tmp_path, shape):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(2, np.int64))
    read, _ = data.load(tmp_path / "d.npz")
    channels = shape[3] if len(shape) == 4 else 1
    assert read.shape == (2, channels, 4, 5)
    assert read[1, channels - 1, 2, 3].item() == pytest.approx(x.reshape(2, 4, 5, channels)[1, 2, 3, -1] / 255)


def test_mean_and_std_normalise_each_channel(tmp_path):
    x = np.ones((1, 2, 2, 2), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(1, np.int64))
    read, _ = data.load(tmp_path / "d.npz", mean=(0.5, 0.0), std=(0.5, 4.0))
    assert read[0, :, 0, 0].tolist() == [1.0, 0.25]
    with pytest.raises(rb.FileError, match="3 values, the data 2 channels"):
        data.load(tmp_path / "d.npz", mean=(0.5, 0.5, 0.5))


def test_a_folder_has_a_class_for_each_subfolder_in_order(folder):
    x, y = data.load(folder)
    assert x.shape == (9, 3, 6, 8)
    assert y.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [40.0 * label for label in y.tolist()]


def test_a_limit_is_spread_over_the_classes_of_a_folder(folder):
    assert data.load(folder, limit=3)[1].tolist() == [0, 1, 2]
    assert len(data.load(folder, limit=100)[1]) == 9


def test_size_scales_the_short_side_and_crops_the_centre(folder):
    x, _ = data.load(folder, size=4)
    assert x.shape == (9, 3, 4, 4)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((2, 3))}, "no array y"),
        ({"images": np.zeros(2)}, "no array x and y"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3, np.int64)}, "one class index for each sample"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2)}, "one class index for each sample"),
        ({"x": np.array([{}, {}], dtype=object), "y": np.zeros(2, np.int64)}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(rb.FileError, match=says):
        data.load(tmp_path / "d.npz")


def test_what_is_no_data_is_refused(tmp_path, folder):
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (3, 3)).save(folder / "ant" / "small.png")
    refused = {
        "text.npz": "cannot be read",
        "empty": "holds no images",
        "missing.npz": "is no data",
        "pictures": "differ in size",
    }
    for path, says in refused.items():
        with pytest.raises(rb.FileError, match=says):
            data.load(tmp_path / path)


def test_cifar10_is_read_from_the_published_binary_version(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (20, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    (tmp_path / "cifar10").mkdir()
    rows[:10].tofile(tmp_path / "cifar10" / "data_batch_1.bin")
    rows[10:].tofile(tmp_path / "cifar10" / "data_batch_2.bin")
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    x, y = data.cifar10("train", limit=15)
    assert y.tolist() == rows[:15, 0].tolist()
    raw = x * torch.tensor(data.CIFAR10_STD).reshape(3, 1, 1) + torch.tensor(data.CIFAR10_MEAN).reshape(3, 1, 1)
    assert torch.equal((raw * 255).round().byte(), torch.from_numpy(rows[:15, 1:].reshape(15, 3, 32, 32)))
    with pytest.raises(rb.FileError, match="no CIFAR-10 test images"):
        data.cifar10("test")


def test_without_data_the_error_says_where_they_are_looked_for(monkeypatch):
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)
    with pytest.raises(rb.FileError, match="RHEOBASE_DATA"):
        data.cifar10("test")


@pytest.mark.shared
def test_cifar10_strips_are_the_real_images(shared, monkeypatch):
    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    x, y = data.cifar10("test", limit=501)
    assert x.shape == (501, 3, 32, 32)
    assert y[:3].tolist() == np.load(shared / "data/cifar10/test_labels.npy")[:3].tolist()
    assert abs(float(x.mean())) < 0.2
    assert abs(float(x.std()) - 1) < 0.2
