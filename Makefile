# Everything a developer or a newcomer runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AGAIN := $(MAKE)# which by its own name would run even with `make --dry-run`
export PYTHON

.PHONY: help install up test check machine peers bench fuzz lock clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP) ## Install all that is needed: Debian packages (as root, only missing ones) and .venv

$(STAMP): pyproject.toml requirements.lock requirements-build.lock carlib/sha256.h carlib/_sections.c carlib/piece/_kernel.c carlib/unixfs/_rolling.c .ci/install
	@.ci/install $(VENV)
	@touch $@

up: install ## Make demo data, start agent and mount, say what to try; Ctrl-C ends both
	@exec $(BIN)/python -m tests.demo

test: install ## All checks, then all tests
	@$(BIN)/python -m tests.machine build --if-possible & \
	checked=0; $(AGAIN) check || checked=$$?; wait $$!; [ $$checked -eq 0 ] || exit $$checked; \
	exec $(BIN)/python -m pytest

check: install ## Formatting, lint, types and unit files
	@$(BIN)/ruff format --check --quiet . || { echo "carfs: run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.units

machine: install ## Build the image of a machine that tests boot; needs root, Debian and a minute or two
	@$(BIN)/python -m tests.machine build

peers: install ## Install the programs that tests compare with, below .bench; kubo takes minutes
	@$(BIN)/python -m tests.bench.peers

bench: install ## Measure speed and memory, side by side with other tools where they can be had
	@$(BIN)/python -m tests.bench

fuzz: install ## Look for inputs that break a parser, SECONDS_EACH=20
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS_EACH),20)

lock: ## Compile the lock files anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "carfs: uv is needed to compile the lock files"; exit 1; }
	@compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade"; \
	export UV_CUSTOM_COMPILE_COMMAND="make lock"; unset UV_FIND_LINKS PIP_FIND_LINKS; \
	$$compile --group build --output-file requirements-build.lock; \
	$$compile --extra dev --constraint requirements-build.lock pyproject.toml --output-file requirements.lock; \
	$$compile --group fuzz --output-file requirements-fuzz.lock

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .bench .demo .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info carlib/*.so carlib/*/*.so
