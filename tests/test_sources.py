"""Data sets from local files in the formats they are published in, and recordings of event cameras."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import rheobase as rb
from rheobase import data
from rheobase.data import ByCount, ByTime, Events, Recordings, Samples, frames, hub
from rheobase.data.idx import idx

RNG = np.random.default_rng(0)


def write_idx(path: Path, array: np.ndarray, *, packed: bool = True) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    raw = head + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_its_idx_files(root, packed):
    images, labels = RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.arange(5, dtype=np.uint8)
    end = ".gz" if packed else ""
    write_idx(root / f"mnist/train-images-idx3-ubyte{end}", images, packed=packed)
    write_idx(root / f"mnist/train-labels-idx1-ubyte{end}", labels, packed=packed)
    found = data.MNIST().read("train")
    assert torch.equal(found.x, torch.from_numpy(images).unsqueeze(1))
    assert found.y.tolist() == labels.tolist()
    assert (found.shape, found.classes, found.steps, found.unit) == ((1, 28, 28), 10, None, 255.0)
    with pytest.raises(rb.FileError, match="holds no t10k-images"):
        data.MNIST().read("test")
    with pytest.raises(rb.SpecError, match="split 'val'"):
        data.MNIST().read("val")


def test_damaged_idx_files_are_refused(tmp_path):
    write_idx(tmp_path / "a", np.zeros((2, 3), np.uint8), packed=False)
    whole = (tmp_path / "a").read_bytes()
    for name, raw, says in (
        ("short", whole[:-1], "holds 5 bytes"),
        ("long", whole + b"x", "holds 7 bytes"),
        ("kind", b"\0\0\x0d" + whole[3:], "no idx file of bytes"),
        ("empty", b"", "no idx file"),
        ("cut.gz", gzip.compress(whole)[:-6], "cannot read"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(rb.FileError, match=says):
            idx(tmp_path / name)


def test_images_and_labels_that_differ_in_number_are_refused(root):
    write_idx(root / "mnist/train-images-idx3-ubyte.gz", np.zeros((3, 28, 28), np.uint8))
    write_idx(root / "mnist/train-labels-idx1-ubyte.gz", np.zeros(2, np.uint8))
    with pytest.raises(rb.FileError, match="3 train images and 2 labels"):
        data.MNIST().read("train")


def test_cifar100_takes_the_fine_label(root):
    rows = RNG.integers(0, 20, (4, 3074), dtype=np.uint8)
    rows[:, 1] = [0, 99, 7, 3]
    (root / "cifar100").mkdir()
    rows.tofile(root / "cifar100/train.bin")
    found = data.CIFAR100().read("train")
    assert found.y.tolist() == [0, 99, 7, 3]
    assert torch.equal(found.x, torch.from_numpy(rows[:, 2:].reshape(4, 3, 32, 32)))
    rows.reshape(-1)[:-1].tofile(root / "cifar100/test.bin")
    with pytest.raises(rb.FileError, match="damaged"):
        data.CIFAR100().read("test")


def test_without_local_files_the_hub_is_asked_and_its_form_is_read(root):
    """A folder of the hub's form on this machine stands for the hub."""
    import datasets

    images = [Image.fromarray(RNG.integers(0, 256, (28, 28), dtype=np.uint8)) for _ in range(4)]
    columns = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    made = datasets.Dataset.from_dict({"image": images, "label": [3, 1, 4, 1]}, features=columns)
    made.to_parquet(root / "set/train.parquet")
    x, y = hub.images(str(root / "set"), "train", "image", "label")
    assert np.array_equal(x, np.stack([np.asarray(image) for image in images]))
    assert y.tolist() == [3, 1, 4, 1]
    with pytest.raises(rb.FileError, match="no column fine_label"):
        hub.images(str(root / "set"), "train", "image", "fine_label")
    with pytest.raises(rb.FileError, match="cannot be read from the hub"):
        hub.images(str(root / "nothing"), "train", "image", "label")


def test_an_imagenet_folder_is_read_as_it_is_used(root):
    for split, count in (("train", 3), ("val", 1)):
        for name in ("n01", "n02"):
            (root / f"imagenet/{split}/{name}").mkdir(parents=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / f"imagenet/{split}/{name}/{i}.png")
    train, val = (data.ImageNet(size=16).read(split) for split in ("train", "test"))
    assert (len(train), len(val), train.shape, train.classes) == (6, 2, (3, 16, 16), 2)
    assert train.part(torch.tensor([5, 0])).y.tolist() == [1, 0]
    u = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    cut = train.take(torch.tensor([1, 4]), u)
    assert cut.shape == (2, 3, 16, 16)
    assert torch.equal(cut, train.take(torch.tensor([1, 4]), u))
    assert not torch.equal(cut, train.take(torch.tensor([1, 4])))
    with pytest.raises(rb.FileError, match="no folder"):
        data.ImageNet(folder="imagenet/train").read("test")


def test_labels_out_of_range_are_refused():
    x = torch.zeros(3, 1, 4, 4)
    for labels, says in (([0, 1, 2], "from 0 to 2"), ([-1, 0, 1], "from -1 to 1")):
        with pytest.raises(rb.InputError, match=says):
            Samples(x=x, y=torch.tensor(labels), classes=2)
    with pytest.raises(rb.InputError, match="one class index"):
        Samples(x=x, y=torch.zeros(3), classes=2)
    with pytest.raises(rb.InputError, match="2 labels"):
        Samples(x=x, y=torch.tensor([0, 1]), classes=2)
    with pytest.raises(rb.InputError, match="NaN"):
        Samples(x=x / 0, y=torch.tensor([0, 1, 1]), classes=2)


def test_batch_first_recordings_are_refused_and_never_turned():
    y = torch.tensor([0, 1, 1])
    with pytest.raises(rb.InputError, match="batch first") as error:
        Recordings(xs=torch.zeros(3, 4, 2, 8, 8), y=y, classes=2)
    assert "transpose(0, 1)" in str(error.value)
    assert Recordings(xs=torch.zeros(4, 3, 2, 8, 8), y=y, classes=2).steps == 4


events = st.lists(
    st.tuples(st.integers(0, 999), st.integers(0, 15), st.integers(0, 15), st.booleans()), min_size=1, max_size=60
)


@given(events, st.integers(1, 5), st.sampled_from([ByTime, ByCount]), st.sampled_from([16, 8]))
def test_frames_count_every_event_once_where_and_when_it_was(found, steps, cut, size):
    found.sort(key=lambda event: event[0])
    t, x, y, p = (np.array(column) for column in zip(*found, strict=True))
    xs = frames(Events(t, x, y, p), cut(steps), (16, 16), size)
    assert xs.shape == (steps, 2, size, size)
    assert xs.sum() == len(found)
    again = np.zeros_like(xs)
    edges = cut(steps).edges(t)
    for i, (_, column, row, brighter) in enumerate(found):
        again[np.searchsorted(edges, i, side="right") - 1, int(brighter), row * size // 16, column * size // 16] += 1
    assert np.array_equal(xs, again)


def test_bins_of_count_are_even_and_bins_of_time_are_equally_long():
    t = np.concatenate([np.arange(900), np.arange(900, 10_000, 91)])
    counts = np.diff(ByCount(4).edges(t))
    assert counts.max() - counts.min() <= 1
    edges = ByTime(4).edges(t)
    for i in range(4):
        inside = t[edges[i] : edges[i + 1]]
        assert inside.min() >= i * t[-1] / 4
        assert inside.max() < (i + 1) * t[-1] / 4 or i == 3


def test_events_outside_of_the_sensor_or_out_of_order_are_refused():
    good = np.array([0, 1])
    for bad in (Events(good, np.array([0, 16]), good, good), Events(good[::-1], good, good, good)):
        with pytest.raises(rb.InputError, match="no recording"):
            frames(bad, ByTime(1), (16, 16), 16)


def write_recordings(path: Path, seconds: float = 10.0) -> None:
    """Two recordings of 20,000 events each, whose column tells the time."""
    path.parent.mkdir(parents=True)
    count = 20_000
    dt = np.full(2 * count, round(1e6 * seconds / count), np.uint16)
    x = np.tile((np.arange(count) * 128 // count).astype(np.uint8), 2)
    y, polarity = RNG.integers(0, 128, 2 * count, dtype=np.uint8), RNG.integers(0, 2, 2 * count, dtype=np.uint8)
    names = np.array(["mug", "box"])
    offsets = np.array([0, count, 2 * count])
    np.savez(path, dt_us=dt, x=x, y=y, polarity=polarity, offsets=offsets, label_name=names)


def test_recordings_are_split_by_time_with_a_gap(root):
    write_recordings(root / "dvs_objects/session_A.npz")
    chosen = data.LocalRecordings(cut=ByTime(2), size=128)
    train, test = chosen.read("train"), chosen.read("test")
    assert train.xs.shape == (2, 68, 2, 128, 128)
    assert (len(test), train.classes, sorted(set(train.y.tolist()))) == (24, 2, [0, 1])
    last = train.xs.sum((0, 1, 2, 3)).nonzero().max()
    first = test.xs.sum((0, 1, 2, 3)).nonzero().min()
    assert first - last >= 0.04 * 128  # the column is the time: no view of the test lies near one of the training
    with pytest.raises(rb.FileError, match="there is no file"):
        data.LocalRecordings(file="none.npz").read("train")


def test_n_mnist_is_read_through_tonic(root, monkeypatch):
    """Two recordings in the format of the published set: 40 bits an event."""
    import tonic.datasets

    monkeypatch.setattr(tonic.datasets.NMNIST, "_check_exists", lambda self: True)
    t = np.arange(0, 300_000, 3_000)
    x, y, p = RNG.integers(0, 34, len(t)), RNG.integers(0, 34, len(t)), RNG.integers(0, 2, len(t))
    rows = np.stack([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255], 1).astype(np.uint8)
    for label in (3, 7):
        (root / f"NMNIST/Train/{label}").mkdir(parents=True)
        (root / f"NMNIST/Train/{label}/00001.bin").write_bytes(rows.tobytes())
    found = data.NMNIST(cut=ByCount(5)).read("train")
    assert found.y.tolist() == [3, 7]
    assert torch.equal(found.xs[:, 0], torch.from_numpy(frames(Events(t, x, y, p), ByCount(5), (34, 34), 34)))


def test_dvs_gesture_is_read_through_tonic(root, monkeypatch):
    import tonic.datasets

    monkeypatch.setattr(tonic.datasets.DVSGesture, "_check_exists", lambda self: True)
    t = np.arange(0, 400)
    rows = np.stack([RNG.integers(0, 128, 400), RNG.integers(0, 128, 400), RNG.integers(0, 2, 400), t], 1)
    (root / "DVSGesture/ibmGestureTest/user24_led").mkdir(parents=True)
    np.save(root / "DVSGesture/ibmGestureTest/user24_led/10.npy", rows.astype(np.float64))
    found = data.DVSGesture(size=32).read("test")
    assert found.xs.shape == (8, 1, 2, 32, 32)
    assert (found.y.tolist(), int(found.xs.sum())) == ([10], 400)


@pytest.mark.shared
def test_the_recordings_beside_the_checkout_are_read(shared, monkeypatch):
    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    found = data.LocalRecordings().read("test")
    assert (found.shape, found.classes, found.steps) == ((2, 32, 32), 6, 4)
    assert len(found) > 200
    assert float(found.xs.float().mean()) > 0.05


@pytest.mark.shared
def test_mnist_beside_the_checkout_has_the_published_mean(shared, monkeypatch):
    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    found = data.MNIST().read("train")
    assert len(found) == 60_000
    assert float(found.x.float().mean() / 255) == pytest.approx(0.1307, abs=1e-4)
