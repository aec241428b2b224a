# Everything a fresh machine needs is set up by the target that needs it. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup browser demo test lint format bench soak lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 10

setup: $(READY)  ## the virtual environment, from the hashed lock file

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 …")'
	@echo 'Setting up $(VENV): once, a minute or two'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@RECORDER_COMPILE=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

browser:  # Debian's Chromium, where it is missing and may be installed; without it the browser tests are skipped
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || tests/install-chromium

demo: $(READY)  ## record a few simulated conversations and show them: ARGS=--once to check and leave
	$(BIN)/recorder demo $(ARGS)

test: $(READY) browser  ## all tests
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)  ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff format and fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## the figures of docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY)  ## long runs: kills at random instants, sessions for minutes; drawn tests at random, and many
	$(BIN)/python -m benchmarks.soak $(ARGS)
	DRAWN_FACTOR=20 $(BIN)/python -m pytest -m hypothesis --hypothesis-profile soak --timeout 3600 --numprocesses 2

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --quiet --generate-hashes \
  --no-header --no-annotate

lock: $(READY)  ## resolve the dependencies anew: requirements.lock to run it, requirements-dev.lock to work on it
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --group build --output-file requirements.lock
	$(LOCK) --group dev --output-file requirements-dev.lock

clean:  ## remove what the targets made
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
