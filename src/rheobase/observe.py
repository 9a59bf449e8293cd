"""One pass over the calibration data: the statistics of every activation, streaming."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from . import ops
from .errors import InputError
from .graph import Graph, Node
from .histogram import Histogram
from .inputs import count, first, tensors
from .scale import GaussianMSE, Scale


def images(batches: Iterable[Any]) -> Iterator[Any]:
    """The inputs of `batches`, an iterable of x or of `(x, y)`; checked one by one.

    x: a tensor `[N, ...]`, or a dict or (within `(x, y)`) a tuple of them for a network with several inputs.

    Raises InputError for empty data, for NaN or infinity, and for batches that differ in shape or dtype.
    """
    known: Any = None
    for index, batch in enumerate(batches):
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        check_inputs(x, f"batch {index}", known)
        known = first(x, 1) if known is None else known
        yield x
    if known is None:
        raise InputError(
            "there is no calibration data",
            why="the iterable of batches is empty, or was used up before",
            instead="pass a list or DataLoader of tensors [N, ...] or pairs (x, y)",
        )


def check_inputs(x: Any, where: str, like: Any = None) -> None:
    """`check_input` of every tensor of x."""
    for part, other in zip(tensors(x), [None] * 1000 if like is None else tensors(like), strict=False):
        check_input(part, where, other)
    if len({len(part) for part in tensors(x)}) > 1:
        raise InputError(f"the inputs of {where} have different numbers of samples")


def check_input(x: Any, where: str, like: Tensor | None = None) -> None:
    """Refuse an input that no network can answer: not a floating tensor, empty, NaN, infinite, or unlike `like`."""
    counted = isinstance(x, Tensor) and (x.is_floating_point() or x.dtype in (torch.int64, torch.int32))
    if not counted or x.ndim < 2 or len(x) == 0:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"{where} must be a floating tensor [N, ...] or a pair (x, y), got {got}",
            why="a network is calibrated and run on the inputs it was trained on",
            instead="normalise as in training, then x.float(); int64 tokens for an embedding",
        )
    if like is not None and (x.shape[1:] != like.shape[1:] or x.dtype != like.dtype):
        raise InputError(
            f"{where} is {x.dtype} {tuple(x.shape)}, expected {like.dtype} [N, {', '.join(map(str, like.shape[1:]))}]",
            why="all samples must be alike",
            instead=f"x.to({like.dtype})" if x.dtype != like.dtype else "resize or regroup the data",
        )
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{where} has NaN or infinite values", why="statistics of them mean nothing")


def observe(
    graph: Graph,
    batches: Iterable[Any],
    channelwise: Mapping[str, bool],
    progress: Callable[[int], None] | None = None,
    both: Collection[str] = (),
) -> dict[str, Histogram]:
    """The histogram of every activation's output over all batches, per channel where `channelwise[name]`.

    both: activations whose input is counted instead, with its negative values; see `signs`. The result does not depend
    on the order or the size of the batches. `progress(samples)` is called after each.
    """
    statistics: dict[str, Histogram] = {}

    def visit(node: Node, xs: list[Tensor], y: Tensor) -> None:
        if not isinstance(node.op, ops.Rectify):
            return
        y = xs[0] if node.name in both else y.abs() if node.op.signed else y
        axis = channel_axis(graph, node) + 1
        values = y.movedim(axis, 0).flatten(1) if channelwise[node.name] else y.reshape(1, -1)
        histogram = statistics.setdefault(node.name, Histogram(len(values)))
        (histogram.add_both if node.name in both else histogram.add)(values)

    with torch.no_grad():
        for x in images(batches):
            graph(x, visit)
            if progress:
                progress(count(x))
    return statistics


def signs(graph: Graph, scales: Mapping[str, Scale]) -> set[str]:
    """The rectifiers whose scale reads mean and deviation of their input, to `observe` both signs of."""
    return {name for name, scale in scales.items() if isinstance(scale, GaussianMSE) and not graph[name].op.signed}


def channel_axis(graph: Graph, node: Node) -> int:
    """The axis of the channels in a sample of this node: the last behind a Linear, otherwise the first."""
    while True:
        if isinstance(node.op, ops.Linear):
            return len(node.shape) - 1
        known = {n.name: n for n in graph.nodes}
        before = known.get(node.inputs[0])
        if before is None or isinstance(node.op, (ops.Conv, ops.Affine, ops.Reshape, ops.Permute)):
            return 0
        node = before
