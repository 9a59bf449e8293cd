# `make demo` and `make test` need nothing but Python >= 3.11; each makes its own environment if there is none.
PYTHON ?= python3

.PHONY: demo test check evidence readme speed clean

demo: .venv/ready
	.venv/bin/rheobase demo

test: .venv/ready
	.venv/bin/python -m pytest

check: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

evidence: export RHEOBASE_DATA ?= ../shared/data
evidence: .venv/ready
	.venv/bin/python -m rheobase.recipes.cifar_conversion
	.venv/bin/python -m rheobase.recipes.cifar_low_latency
	.venv/bin/python -m rheobase.recipes.early_exit
	.venv/bin/python -m rheobase.recipes.cifar_precision
	.venv/bin/python -m rheobase.recipes.speech_commands
	.venv/bin/python -m rheobase.recipes.imdb_sentiment
	.venv/bin/python -m rheobase.recipes.efficientnet_lite
	.venv/bin/python -m rheobase.recipes.imdb_search
	bash benchmarks/environment.sh
	benchmarks/.venv/bin/python -W ignore benchmarks/accuracy.py

speed: export RHEOBASE_DATA ?= ../shared/data
speed: export OMP_NUM_THREADS ?= 1
speed:
	bash benchmarks/environment.sh
	for part in speed neurons training_step memory startup scaling; do \
		benchmarks/.venv/bin/python -W ignore benchmarks/$$part.py || exit 1; done

readme: .venv/ready
	.venv/bin/python -m rheobase.recipes.cifar_conversion --table README.md
	.venv/bin/python -m rheobase.recipes.cifar_low_latency --table docs/low-latency.md
	.venv/bin/python -m rheobase.recipes.early_exit --table docs/low-latency.md
	.venv/bin/python -m rheobase.recipes.cifar_precision --table docs/engine.md
	.venv/bin/python benchmarks/accuracy.py --table docs/low-latency.md
	.venv/bin/python -m rheobase.recipes.speech_commands --table docs/tasks.md
	.venv/bin/python -m rheobase.recipes.imdb_sentiment --table docs/tasks.md
	.venv/bin/python -m rheobase.recipes.efficientnet_lite --table docs/depthwise.md
	.venv/bin/python -m rheobase.recipes.training_results --table docs/training.md
	.venv/bin/python -m rheobase.recipes.imdb_search --table docs/search.md
	for part in speed neurons training_step memory startup scaling; do \
		.venv/bin/python benchmarks/$$part.py --table docs/engine.md || exit 1; done

.venv/ready: pyproject.toml constraints.txt setup.py $(wildcard csrc/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rheobase needs Python >= 3.11; write: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt 'setuptools>=77' torch numpy
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info src/*.egg-info src/rheobase/kernels/*.so
