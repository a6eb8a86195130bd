# Every command of a contributor. `make` alone lists them.
#
# VENV    the virtual environment, .venv unless told
# PYTHON  the interpreter to make it with: a Python 3.11, else a 3.12, unless told
# JOBS    tests run side by side
# SEEDS   the seeds that `make simulate` plays
# ARGS    passed on to the command, as in: make demo ARGS=--all
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PYTHON ?=
JOBS ?= 2
ARGS ?=
SEEDS ?= 0..999
export VENV PYTHON

BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile

.PHONY: help setup setup-dev demo test test-fast test-long test-determinism simulate check format docs bench lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with what a node needs; nothing to do if it is up to date
	@scripts/setup runtime

setup-dev: ## the same, with the tools of tests and checks
	@scripts/setup dev

demo: setup ## a grocer's loyalty programme on a node, on the purchases of the Complete Journey data, then its audit
	@$(BIN)/troth demo complete-journey $(ARGS)

test: setup-dev ## all tests but those marked long
	@$(PYTEST) -m "not long" $(ARGS)

test-fast: setup-dev ## the tests that take seconds
	@$(PYTEST) -m "not long and not slow" $(ARGS)

test-long: setup-dev ## the tests that take minutes
	@$(PYTEST) -m long $(ARGS)

test-determinism: setup-dev ## the tests of one result everywhere; for a second PYTHON, with a VENV of its own
	@$(PYTEST) -m determinism $(ARGS)

simulate: setup-dev ## whole networks under faults in virtual time, for SEEDS=0..999: opaque blocks, then the real chain
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --ledger production

check: setup-dev ## format, lint, types, layers, dependencies, documents, house rules
	@scripts/check

format: setup-dev ## format the source and mend what can be mended
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

docs: setup-dev ## write the documents that are generated from the source
	@$(BIN)/python scripts/generate_docs.py

bench: setup ## this machine's limits and the node's figures
	@$(BIN)/troth bench $(ARGS)

lock: setup-dev ## write requirements/*.txt anew from pyproject.toml; newest versions with ARGS=--upgrade
	@scripts/lock $(ARGS)

clean: ## remove the virtual environments and everything that was generated but not committed
	@rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		.grimp_cache tests/ics23_js/node_modules
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
