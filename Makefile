# `make` alone prints what there is. Every target does its own set-up, so any of them is a fine first command.

PYTHON ?= 3.11
TORCH ?= cpu
TIER ?= cpu
ARGS ?=

VENV := $(if $(filter 3.11,$(PYTHON)),.venv,.venv-$(PYTHON))
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# Runs the set-up only; everything else runs in the environment that the set-up makes.
BOOT := $(shell command -v python3 || command -v python)
# Where the environment forbids bytecode next to the sources, it is kept in .cache: every process of a test run would
# compile the modules of JAX again, in 5 to 10 seconds.
PYC := $(if $(PYTHONDONTWRITEBYTECODE),env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/.cache/pycache)
PACKAGES := $(sort $(patsubst packages/%/pyproject.toml,%,$(wildcard packages/*/pyproject.toml)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full check test-isolated wheels lock clean require-python

help: ## what there is
	@echo "make <target> [PYTHON=3.12] [TORCH=none] [TIER=smoke|cpu|gpu] [ARGS=...]"
	@echo
	@awk -F ':.*## ' '/^[a-z%-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "packages: $(PACKAGES)"

require-python:
	@test -n "$(BOOT)" || { echo "make: python3 is missing; install Python 3.8 or newer" >&2; exit 1; }

# The stamp is written last, so an interrupted set-up is done again; a changed dependency or lock does it anew.
$(READY): pyproject.toml uv.lock $(wildcard packages/*/pyproject.toml) tools/bootstrap.py tools/lock.py | require-python
	@$(BOOT) tools/bootstrap.py --python $(PYTHON) --venv $(VENV) --torch $(TORCH)

setup: require-python ## make or repair the environment (.venv, or .venv-3.12 with PYTHON=3.12)
	@$(BOOT) tools/bootstrap.py --python $(PYTHON) --venv $(VENV) --torch $(TORCH)

demo: $(READY) ## train a small agent, evaluate it, draw figures and a GIF into demo/
	@$(PYC) $(PY) tools/demo.py --out demo $(ARGS)

demo-%: $(READY) ## one package's demo, e.g. make demo-otr
	@$(PYC) $(PY) tools/demo.py $* --out demo $(ARGS)

test: $(READY) ## all tests but the slow ones
	@$(PYC) $(PY) -m tools.run_tests $(if $(ARGS),-- $(ARGS))

test-full: $(READY) ## all tests
	@$(PYC) $(PY) -m tools.run_tests --full $(if $(ARGS),-- $(ARGS))

test-%: $(READY) ## one package's tests, e.g. make test-core; test-workspace: those in tests/; test-full-core: slow ones too
	@$(PYC) $(PY) -m tools.run_tests $(if $(filter full-%,$*),--full )$(patsubst full-%,%,$*) $(if $(ARGS),-- $(ARGS))

check: $(READY) ## format, lint, types, dependencies, import rules, lock, wheel names
	@$(PY) -m tools.check $(ARGS)

test-isolated: $(READY) ## each package's wheel alone in a new environment, with its own tests
	@$(PY) -m tools.isolated $(ARGS)

wheels: $(READY) ## build every package's wheel into dist/
	@$(PY) -m tools.isolated --wheels-only

bench-%: $(READY) ## one package's benchmark, e.g. make bench-minimax TIER=cpu
	@$(PY) -m benchmarks.$(subst -,_,$*) --tier $(TIER) $(ARGS)

# Needs an interpreter, not a finished set-up: a lock that no longer fits would stand in its own way.
$(PY): | require-python
	@$(BOOT) tools/bootstrap.py --python $(PYTHON) --venv $(VENV) --torch $(TORCH)

lock: | $(PY) ## write uv.lock anew in its portable form; ARGS="--upgrade-package jax" upgrades
	@$(PY) -m tools.lock update $(ARGS)

clean: ## remove what was built, cached or drawn; keep runs/, the environments and the peers of benchmarks
	rm -rf build dist demo .cache/jax .cache/lock .cache/pycache .cache/uv .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find packages tests tools benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
