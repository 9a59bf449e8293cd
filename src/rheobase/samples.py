"""The first samples of a data set, for what looks at a few of them closely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .inputs import count, first, joined
from .observe import images


def gather(batches: Iterable[Any], limit: int) -> tuple[Any, Tensor | None]:
    """The first `limit` samples of `batches`, and their labels `[N]` if all of them carry class indices.

    No more batches are read than that takes. What a batch is, and errors, as in `observe.images`.
    """
    read: list[Any] = []

    def noted() -> Iterator[Any]:
        for batch in batches:
            read.append(batch)
            yield batch

    xs: list[Any] = []
    for x in images(noted()):
        xs.append(x)
        if sum(map(count, xs)) >= limit:
            break
    labels = [batch[1] for batch in read if isinstance(batch, (tuple, list)) and len(batch) > 1]
    known = len(labels) == len(read) and all(
        isinstance(y, Tensor) and y.shape == (count(x),) and not y.is_floating_point()
        for x, y in zip(xs, labels, strict=True)
    )
    return first(joined(xs), limit), torch.cat(labels)[:limit] if known else None
