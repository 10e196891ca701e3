# Two commands: `make demo` runs the whole loop on the tiny profile, `make test` checks everything.
PYTHON ?= python3.11
UV_VERSION := 0.13.9
BIN := .venv/bin

# Relative paths only, and tools run as modules, so that a folder with a space in its name works.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := 1

.PHONY: demo test test-fast coverage lint setup lock seeds images image-test docs clean

setup: .venv/.installed ## Makes the environment in .venv from the lock file.

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/python -m uv pip install --python $(BIN)/python --compile-bytecode --require-hashes --requirements requirements.lock
	$(BIN)/python -m uv pip install --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup ## Runs the loop on the tiny profile with DVC and prints the results.
	$(BIN)/python -m dvc repro
	$(BIN)/python -m v2a_dpo.cli results

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy v2a_dpo components pipelines

# One thread per process, or they fight for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder

test: lint ## Lint, types and all tests.
	$(PYTEST)

coverage: lint ## The same with branch coverage, which takes a fifth longer.
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=85

test-fast: setup ## The tests that take a second or two each, while you work: no whole loops, no servers.
	$(PYTEST) -m "not slow"

docs: setup ## Builds the documents into build/docs; a broken link fails.
	$(BIN)/python -m mkdocs build --strict --quiet

seeds: setup ## The whole loop for three seeds: the table in the README.
	$(BIN)/python -m benchmarks.seeds

images: ## Builds the three container images; `docker/build --help` lists what IMAGE_BUILD may hold.
	docker/build $(IMAGE_BUILD)

image-test: setup ## Builds the orchestration image and runs stages in it with a pod's rights; see docs/cluster.md.
	docker/build --registry localhost --tag image-test orchestration $(IMAGE_BUILD)
	$(BIN)/python docker/image_test.py localhost/v2a-dpo-orchestration:image-test $(IMAGE_RUN)

lock: ## Resolves requirements.lock anew (no URLs, with hashes).
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-header --no-annotate --output-file requirements.lock --quiet

clean:
	rm -rf artifacts mlruns mlflow.db
