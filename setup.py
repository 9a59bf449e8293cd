"""Builds the optional C++ kernels from `csrc/`; all else is in pyproject.toml.

PyTorch's headers are needed, so `pip install --no-build-isolation` with torch already there. Without headers or without
a compiler the library installs all the same, runs the reference kernels, and `rheobase kernels` says why.
"""

from __future__ import annotations

import os
import sys
from glob import glob
from typing import Any

from setuptools import setup

EMULATED = ["-DRHEOBASE_EMULATED", "-mavx2", "-mfma", "-mbmi2", "-mpopcnt", "-flax-vector-conversions", "-O1"]
"""RHEOBASE_EMULATED=1: AVX-512 and VNNI by SIMDe (`csrc/emulated.h`), to test their kernels on a machine without."""


def kernels() -> dict[str, Any]:
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        print("rheobase: built without C++ kernels: torch is not installed here", file=sys.stderr)
        return {}

    class Optional(BuildExtension):
        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                print(f"rheobase: built without C++ kernels: {error}", file=sys.stderr)

    extension = CppExtension(
        "rheobase.kernels._cpu",
        ["csrc/ops.cpp", "csrc/stages.cpp"],
        include_dirs=["csrc"],
        depends=sorted(glob("csrc/*.h")),
        define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],  # PyTorch 2.10 and newer
        extra_compile_args=[
            "-O3",
            "-g0",
            "-std=c++17",
            "-ffp-contract=off",
            "-fvisibility=hidden",
            "-Wno-maybe-uninitialized",
            "-Wno-uninitialized",
            "-Wno-psabi",
            *(EMULATED if os.environ.get("RHEOBASE_EMULATED") else []),
        ],
        py_limited_api=True,
        optional=True,
    )
    options = {"bdist_wheel": {"py_limited_api": "cp311"}}
    return {"ext_modules": [extension], "cmdclass": {"build_ext": Optional}, "options": options}


setup(**kernels())
