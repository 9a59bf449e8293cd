"""The parts of a training run, one file an idea; `rheobase.train` puts them together."""

from .augment import Crop, Cutout, Jitter, Mirror
from .config import Saved, Training, changed
from .mix import CutMix
from .objective import TET, CrossEntropy
from .optimiser import SGD, AdamW
from .randaugment import RandAugment
from .schedule import Cosine, Steady

__all__ = [
    "SGD",
    "TET",
    "AdamW",
    "Cosine",
    "Crop",
    "CrossEntropy",
    "CutMix",
    "Cutout",
    "Jitter",
    "Mirror",
    "RandAugment",
    "Saved",
    "Steady",
    "Training",
    "changed",
]
