# Every target makes the virtual environment it needs. `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
JOBS ?= 2
SECONDS ?= 600
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test fuzz check bless toolchains zig bench docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(STAMP) ## compile ResNet-50 and a BERT encoder, run them, compare with the reference
	$(BIN)/python examples/demo.py

test: $(STAMP) ## all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(JOBS) $(ARGS)  # byte code: tests start hundreds of processes

fuzz: $(STAMP) ## random models against ONNX Runtime and the reference evaluator (SECONDS=600, ARGS="--targets cpu,c")
	$(BIN)/python -m tests.fuzz.run $(SECONDS) $(ARGS)

check: $(STAMP) ## lint, format, types, import contracts, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

bless: $(STAMP) ## rewrite expected outputs of the text cases and the ONNX suite; read the diff
	$(BIN)/python -m pytest -q --bless $(ARGS)

docs: $(STAMP) ## rewrite the generated pages
	$(BIN)/python docs/generate.py

bench: $(STAMP) ## measure against ONNX Runtime and OpenVINO (ARGS="--models DIR")
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python benchmarks/bench.py $(ARGS)

toolchains: ## install the C compilers and emulators that some tests use (needs root and apt)
	.ci/toolchains

zig: $(STAMP) ## install the cross compiler that some tests use, from PyPI (400 MB)
	$(BIN)/python -m pip install --quiet -e '.[zig]'

clean: ## remove the environment and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
