#!/bin/bash
# An environment of its own for what rheobase is compared with: `bash benchmarks/environment.sh` makes benchmarks/.venv.
# The packages ask for newer builds of torch than are wanted here, so they come without their dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
env=benchmarks/.venv
"${PYTHON:-python3}" -m venv "$env"
pip() { "$env/bin/python" -m pip install --quiet --constraint constraints.txt "$@"; }
pip 'setuptools>=77' torch numpy safetensors scipy tqdm loguru requests pytest hypothesis pillow
pip --no-deps spikingjelly==2.0.0 snntorch==1.0.0 norse==1.1.0 sinabs==3.1.3
pip --no-build-isolation --no-deps --editable .
"$env/bin/python" -c 'import rheobase, spikingjelly, torch; print(f"torch {torch.__version__}, rheobase {rheobase.__version__}")'
