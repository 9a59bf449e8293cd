#!/bin/bash
# An environment of its own for what rheobase is compared with: `bash benchmarks/environment.sh` makes benchmarks/.venv.
# The packages ask for newer builds of torch than are wanted here, so they come without their dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
env=benchmarks/.venv
"${PYTHON:-python3}" -m venv "$env"
pip() { "$env/bin/python" -m pip install --quiet --constraint constraints.txt "$@"; }
pip 'setuptools>=77' torch numpy safetensors scipy tqdm loguru requests pytest hypothesis pillow h5py matplotlib
for peer in spikingjelly==2.0.0 snntorch==1.0.0 'norse==1.1.0 nir==1.0.8 nirtorch==2.6 pbr==7.1.3' \
    'sinabs==3.1.3 nir==1.0.8 nirtorch==2.6 pbr==7.1.3'; do
    pip --no-deps $peer || echo "${peer%% *} cannot be installed: the benchmarks go on without it"
done
pip --no-build-isolation --no-deps --editable .
"$env/bin/python" -c 'import rheobase, torch; print(f"torch {torch.__version__}, rheobase {rheobase.__version__}")'
cd benchmarks && PYTHONWARNINGS=ignore ".venv/bin/python" -c 'from libraries import installed
print(", ".join(library.name for library in installed()))'
