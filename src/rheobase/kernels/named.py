"""The kernel that was asked for by name, if any: it runs or says why it does not, and none takes its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..spec import nearest

NAMES = ("cpu", "triton", "compiled", "reference")
_asked: ContextVar[str] = ContextVar("kernel", default="")


def asked() -> str:
    """The name of the kernel that must run, or an empty string where the first that takes a run does.

    Raises SpecError if the environment's RHEOBASE_KERNEL names none.
    """
    name = _asked.get() or os.environ.get("RHEOBASE_KERNEL", "")
    return name and nearest(name, NAMES, "kernel")


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run every neuron in the block by one kernel, "cpu", "triton", "compiled" or "reference".

    The variable RHEOBASE_KERNEL of the environment names one for a whole process. Events are convolved in C++ where the
    choice is free or "cpu".

    Raises SpecError for an unknown name; a neuron that the kernel does not take raises KernelError where it is run.

    >>> import rheobase as rb, torch
    >>> with rb.kernels.use("reference"):
    ...     print(rb.kernels.choose(rb.Neuron()).name)
    reference
    """
    before = _asked.set(nearest(name, NAMES, "kernel"))
    try:
        yield
    finally:
        _asked.reset(before)
