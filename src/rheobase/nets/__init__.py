"""Networks of the papers, as plain PyTorch modules."""

from .cifar_resnet import CifarResNet, cifar_resnet20, cifar_resnet56
from .digits import DigitsNet
from .efficientnet_lite import EfficientNetLite, efficientnet_lite0

__all__ = ["CifarResNet", "DigitsNet", "EfficientNetLite", "cifar_resnet20", "cifar_resnet56", "efficientnet_lite0"]
