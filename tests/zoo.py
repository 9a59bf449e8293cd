"""The architectures people bring, small: each as torchvision, timm or its authors write it, with sound random weights.

`made(name)` answers a model in eval mode and inputs for it, the same ones at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_attention import ConvNeXt, ReluViT, TimmViT, TorchvisionViT
from zoo_classic import DenseNet, RegNet, resnet18, resnet50, vgg16_bn
from zoo_inception import GoogLeNet, Inception3
from zoo_mobile import EfficientNet, MobileNetV2, MobileNetV3, ShuffleNetV2
from zoo_others import C3D, M5, DeepLabV3, InterpolateUNet, LSTMClassifier, TextCNN, UNet
from zoo_swin import Swin
from zoo_swin_torchvision import TorchvisionSwin

WORDS = 100
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (resnet18, (3, 64, 64)),
    "resnet50": (resnet50, (3, 64, 64)),
    "vgg16_bn": (vgg16_bn, (3, 32, 32)),
    "densenet": (DenseNet, (3, 64, 64)),
    "regnet": (RegNet, (3, 32, 32)),
    "googlenet": (GoogLeNet, (3, 64, 64)),
    "inception_v3": (Inception3, (3, 75, 75)),
    "mobilenet_v2": (MobileNetV2, (3, 32, 32)),
    "mobilenet_v3": (MobileNetV3, (3, 32, 32)),
    "efficientnet": (EfficientNet, (3, 32, 32)),
    "shufflenet_v2": (ShuffleNetV2, (3, 64, 64)),
    "convnext": (ConvNeXt, (3, 32, 32)),
    "vit_torchvision": (TorchvisionViT, (3, 32, 32)),
    "vit_timm": (partial(TimmViT, fused_attn=True), (3, 32, 32)),
    "vit_timm_explicit": (partial(TimmViT, fused_attn=False, pool="avg"), (3, 32, 32)),
    "vit_relu": (ReluViT, (3, 32, 32)),
    "swin": (Swin, (3, 32, 32)),
    "swin_torchvision": (TorchvisionSwin, (3, 32, 32)),
    "unet_transposed": (partial(UNet, bilinear=False), (3, 32, 32)),
    "unet_bilinear": (partial(UNet, bilinear=True), (3, 30, 30)),
    "unet_interpolate": (InterpolateUNet, (3, 32, 32)),
    "deeplab_v3": (DeepLabV3, (3, 32, 32)),
    "m5": (partial(M5, log=False), (1, 2000)),
    "m5_log_softmax": (partial(M5, log=True), (1, 2000)),
    "text_cnn": (partial(TextCNN, over_time="max_pool1d"), (20,)),
    "text_cnn_amax": (partial(TextCNN, over_time="amax"), (20,)),
    "text_cnn_max": (partial(TextCNN, over_time="max"), (20,)),
    "c3d": (C3D, (3, 8, 16, 16)),
    "lstm": (LSTMClassifier, (20,)),
}
"""The maker of each architecture, and the shape of one sample; of whole numbers below WORDS if it has one axis."""


def made(name: str, samples: int = 4, seed: int = 0) -> tuple[nn.Module, Any]:
    """A model in eval mode and `samples` inputs for it."""
    maker, shape = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = maker()
        settle(model, lambda: inputs(shape, 32))
        return model, inputs(shape, samples)


def inputs(shape: tuple[int, ...], samples: int) -> Tensor:
    """Tokens, or coarse patterns under a little noise: samples that differ after averaging, as natural ones do."""
    if len(shape) == 1:
        return torch.randint(1, WORDS, (samples, *shape))
    channels, *sizes = shape
    coarse = torch.randn(samples, channels, *(3,) * len(sizes))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sizes)]
    return F.interpolate(coarse, size=sizes, mode=mode, align_corners=True) + 0.3 * torch.randn(samples, *shape)


def settle(model: nn.Module, batch: Callable[[], Tensor]) -> None:
    """Weights as training leaves them: He initialised, norms that differ, statistics of data, scales that matter."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -0.2, 0.2)
            elif isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
        for name, parameter in model.named_parameters():
            if name.endswith(("layer_scale", "gamma")):
                nn.init.uniform_(parameter, 0.2, 1.0)
            elif name.endswith(("token", "pos_embed", "pos_embedding", "position_bias_table")):
                nn.init.normal_(parameter, std=0.5)
        model.eval()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None  # the plain mean over batches
            norm.train()
        for _ in range(4 if norms else 0):
            model(batch())
        model.eval()
