# Everything a person or a machine does with this checkout. `make help` lists it.
BIN := .venv/bin
READY := .venv/.ready
SOURCES := src tests examples bench

# Off a terminal, and in CI, progress is lines instead of a moving picture.
export SPOTWELD_PROGRESS ?= $(if $(CI),plain,auto)
# So that a process which a test or an example starts finds the same Python and the same `spotweld`.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-images test test-all check format bench clean
.SILENT:

help:  ## list these targets
	sed -n 's/%/NAME/; s/^\([a-zA-Z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## create .venv with Spotweld, PyTorch and the tools; a second run does nothing

$(READY): pyproject.toml scripts/setup
	scripts/setup

demo: setup  ## train on machines that keep being taken away, and compare with an undisturbed run
	scripts/demo digits

demo-images: setup  ## the same in images: fetch, build and train, and compare with a run without (root, 5 GB of disk)
	scripts/demo-images

test: setup  ## the fast tests
	$(BIN)/python -m pytest -q -m "not slow"

test-all: setup  ## every test, the slow ones too
	$(BIN)/python -m pytest -q

check: setup  ## format, lint, types, and which room may import which
	$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "make check: run 'make format'" >&2; exit 1; }
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports > $(READY).floors || { cat $(READY).floors; exit 1; }
	echo "make check: format, lint, types and floors are clean"

format: setup  ## rewrite the source in the one format
	$(BIN)/ruff format --quiet $(SOURCES)
	$(BIN)/ruff check --quiet --fix $(SOURCES)

bench: setup  ## every benchmark: a table on the screen and bench/results/NAME.json
	failed=0; for script in $(filter-out bench/harness.py bench/replicas.py,$(wildcard bench/*.py)); do \
		echo "== $$script"; $(BIN)/python $$script || failed=1; echo; done; exit $$failed

bench-%: setup  ## one benchmark: bench-startup, bench-overhead, bench-checkpoint (OPTIONS=--small)
	$(BIN)/python bench/$*.py $(OPTIONS)

bench bench-checkpoint: .venv/.peers

.venv/.peers: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

clean:  ## remove what can be made again: .venv, caches, the examples' runs and images
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	rm -rf .spotweld examples/.spotweld examples/*/.spotweld
	rm -rf examples/images/base/rootfs*.tar examples/images/ml-stack/wheels* examples/images/ml-stack/spotweld*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
