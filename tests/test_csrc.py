"""The C++ sources where another machine compiles them, or would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent.parent
CSRC = HERE / "csrc"
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/include/simde").is_dir(), reason="apt install libsimde-dev")
def test_the_kernels_of_wide_registers_give_the_bits_of_the_law_in_emulation(tmp_path):
    for name in ("src", "csrc", "tests", "benchmarks", "setup.py", "pyproject.toml", "README.md"):
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        options: dict[str, Any] = {"ignore": shutil.ignore_patterns("*.so", ".venv")} if copy is shutil.copytree else {}
        copy(HERE / name, tmp_path / name, **options)
    env = os.environ | {"RHEOBASE_EMULATED": "1", "PYTHONPATH": str(tmp_path / "src")}
    say = "from rheobase.kernels import cpu; print(cpu.instruction_set())"
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=tmp_path, env=env, check=True)
    best = subprocess.run(
        [sys.executable, "-c", say], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    assert best.stdout.strip() == "AVX-512 VNNI"
    tests = [f"tests/test_{name}.py" for name in ("kernels", "stage", "backward", "compile", "neuron_start", "laws")]
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", *tests], cwd=tmp_path, env=env, check=True)
