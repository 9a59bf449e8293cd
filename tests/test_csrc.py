"""The C++ sources where another machine compiles them."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch

CSRC = Path(__file__).parent.parent / "csrc"
ARM = "aarch64-linux-gnu-"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(ARM + "g++") is None, reason="apt install g++-aarch64-linux-gnu")
@pytest.mark.parametrize("source", ["ops.cpp", "stages.cpp"])
def test_the_kernels_compile_to_vectors_of_arm(source, tmp_path):
    include, made = Path(torch.__file__).parent / "include", tmp_path / "made.o"
    paths = [include, include / "torch/csrc/api/include", CSRC, sysconfig.get_paths()["include"]]
    options = ["-std=c++17", "-O2", "-ffp-contract=off", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    options += [f"-I{path}" for path in paths]
    subprocess.run([ARM + "g++", *options, "-c", CSRC / source, "-o", made], check=True)
    code = subprocess.run([ARM + "objdump", "-d", made], check=True, capture_output=True, text=True).stdout
    assert code.count(".4s") > 100
