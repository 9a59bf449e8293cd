"""Networks of the papers, as plain PyTorch modules."""

from .cifar_resnet import CifarResNet, cifar_resnet20, cifar_resnet56
from .digits import DigitsNet

__all__ = ["CifarResNet", "DigitsNet", "cifar_resnet20", "cifar_resnet56"]
