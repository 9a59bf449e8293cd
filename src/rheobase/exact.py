"""Where a compiled network has the bits of the network behind it on any input, and where it may round otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import ops
from .spelling import Spelling
from .stages import Narrow, Pool, Reference, Stage, Step

ADDING = (ops.AvgPool, ops.Mean)
"""What adds its input up and divides once: letters of a unit that is a power of two round once, in any order."""
ORDERED = (
    *ADDING, ops.AdaptiveAvgPool, ops.Resize, ops.Conv, ops.ConvTranspose, ops.Linear, ops.MatMul, ops.Attention,
    ops.Softmax, ops.LayerNorm, ops.GroupNorm, ops.Function,
)  # fmt: skip
"""What PyTorch may round otherwise where the same numbers lie in another order in memory."""


def exact(steps: Sequence[Step], spelled: Mapping[str, Spelling]) -> dict[str, bool]:
    """For each step whether what it computes is what the network computes of the same input, bit for bit.

    Letters of a stage lie with their channels last, those of the network as its convolutions left them.
    """
    found: dict[str, bool] = {}
    moved: set[str] = set()  # what may lie otherwise in memory
    for step in steps:
        node = step.node
        if len(node.shape) > 1 and (isinstance(step, Stage | Pool) or moved.intersection(node.inputs)):
            moved.add(node.name)
        if isinstance(step, Stage):
            found[node.name] = all(drive.exact for drive in step.drives)
        elif isinstance(step, Pool):
            found[node.name] = isinstance(node.op, ops.MaxPool) or spelled[node.inputs[0]].dyadic
        else:
            found[node.name] = not isinstance(step, Narrow) and _kept(step, moved, spelled)
    return found


def _kept(step: Reference, moved: set[str], spelled: Mapping[str, Spelling]) -> bool:
    """Whether an operation of the network's own gives the same bits of what it reads here."""
    node = step.node
    op = node.op.op if isinstance(node.op, ops.Difference) else node.op
    if not isinstance(op, ORDERED) or not moved.intersection(node.inputs):
        return True
    return isinstance(op, ADDING) and all(name in spelled and spelled[name].dyadic for name in node.inputs)
