"""A data set shared by processes: which batches each takes, and how what they found comes together in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import extra


class Shards(NamedTuple):
    """This process is the `rank`-th of `world`. gather: the lists of all processes as one, in every process."""

    rank: int = 0
    world: int = 1
    gather: Callable[[list[Any]], list[Any]] = list

    def takes(self, index: int) -> bool:
        """Whether the batch of this number is this process's: every `world`-th is."""
        return index % self.world == self.rank

    @property
    def first(self) -> bool:
        """Whether this is the process that reports."""
        return self.rank == 0


def processes() -> Shards:
    """All processes that `torchrun` or `accelerate launch` started together; one if there are no others.

    Raises MissingExtraError without Accelerate (extra `train`).

    >>> processes().world
    1
    """
    with extra("train", "sharing data over processes needs accelerate"):
        from accelerate import PartialState
        from accelerate.utils import gather_object
    state = PartialState()
    return Shards(state.process_index, state.num_processes, gather_object)
