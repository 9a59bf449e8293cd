"""What every test may ask for: the development data beside the checkout, a device, and quiet hypothesis settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from rheobase.kernels import cpu

torch.set_num_threads(1)  # tensors here are small: threads would wait for each other, and sum in another order

settings.register_profile("rheobase", deadline=None, max_examples=20, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=500)  # pytest --hypothesis-profile explore
settings.load_profile("rheobase")

BEST = "plain" if cpu.MISSING else cpu.instruction_set()

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data: $RHEOBASE_SHARED, or `shared` next to the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RHEOBASE_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set RHEOBASE_SHARED to where it lies")
    return folder


@pytest.fixture(params=cpu.SETS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every set of instructions for the C++ kernels that this machine has."""
    if cpu.SETS.index(request.param) > cpu.SETS.index(BEST):
        pytest.skip(f"this machine has no {request.param}")
    yield cpu.instruction_set(request.param)
    cpu.instruction_set()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float64, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
