"""Reading data: arrays, images, MNIST, CIFAR, ImageNet, event cameras, and published weights."""

from .arrays import batches, images, load, normalise
from .cifar import CIFAR10, CIFAR10_MEAN, CIFAR10_STD, CIFAR100, cifar10
from .events import ByCount, ByTime, Events, frames
from .idx import MNIST, FashionMNIST
from .natural import ImageNet, imagenet_like
from .pictures import Pictures
from .places import local
from .recordings import DVSCIFAR10, NMNIST, DVSGesture, LocalRecordings
from .source import Recordings, Samples, Source
from .weights import pretrained

__all__ = [
    "CIFAR10",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "CIFAR100",
    "DVSCIFAR10",
    "MNIST",
    "NMNIST",
    "ByCount",
    "ByTime",
    "DVSGesture",
    "Events",
    "FashionMNIST",
    "ImageNet",
    "LocalRecordings",
    "Pictures",
    "Recordings",
    "Samples",
    "Source",
    "batches",
    "cifar10",
    "frames",
    "imagenet_like",
    "images",
    "load",
    "local",
    "normalise",
    "pretrained",
]
