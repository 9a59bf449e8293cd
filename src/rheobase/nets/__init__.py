"""Networks of the papers, as plain PyTorch modules, and as records that build one with any activation."""

from .architecture import Activation, Architecture
from .cifar_resnet import CifarResNet, cifar_resnet20, cifar_resnet56
from .digits import DigitsNet
from .efficientnet_lite import EfficientNetLite, efficientnet_lite0
from .plain import EVENTS, MT_LIF_CIFAR10, MT_LIF_FASHION, MT_LIF_MNIST, VGG11, VGG16, Plain
from .spiking_resnet import MS, SEW, SpikingResNet

__all__ = [
    "EVENTS",
    "MS",
    "MT_LIF_CIFAR10",
    "MT_LIF_FASHION",
    "MT_LIF_MNIST",
    "SEW",
    "VGG11",
    "VGG16",
    "Activation",
    "Architecture",
    "CifarResNet",
    "DigitsNet",
    "EfficientNetLite",
    "Plain",
    "SpikingResNet",
    "cifar_resnet20",
    "cifar_resnet56",
    "efficientnet_lite0",
]
