"""How each PyTorch spelling reads: module, function and method forms of one meaning share one reader."""

from . import activations, attention, neurons, pools, shapes, synapses  # each registers its readers
from .call import READERS, Call, Layout, Lowered, Refusal, read_as, spelling

__all__ = [
    "READERS",
    "Call",
    "Layout",
    "Lowered",
    "Refusal",
    "activations",
    "attention",
    "neurons",
    "pools",
    "read_as",
    "shapes",
    "spelling",
    "synapses",
]
