# Two commands do all the set-up on a machine with Python 3.11 or later and make: `make demo` and `make test`.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
# uv installs the same files several times faster; without it pip does.
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),uv pip install --quiet --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)
ARGS ?=
# One more than there are cores: some wait while others compute.
WORKERS ?= $(shell echo $$(( $$(nproc) + 1 )))
# A file is one process's, and they are begun in the order of tests/conftest.py.
PYTEST = TMPDIR=$$(sh tests/scratch.sh) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
QUICK := not browser and not peer and not packaging and not crash and not deep
# 5 is pytest's word for "nothing was selected": right where ARGS narrowed, and only there.
NONE_IS_FINE = $(if $(ARGS),5,0)

.DEFAULT_GOAL := help
.PHONY: help demo test test-deep check static fix docs bench bench-growth bench-peers faults dist prerequisites clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed.run  ## the whole product on this machine, with sample users and a mailbox; ARGS=--reset starts afresh
	@exec $(BIN)/homerealm demo $(ARGS)

test: $(VENV)/installed.dev prerequisites tests/peers/node/node_modules/installed  ## every test, and those with stores again on PostgreSQL and Redis; installs what they need (ARGS="-k word" narrows)
	$(PYTEST) -m "not deep" $(ARGS)
	$(PYTEST) -m "not deep" --engines postgresql-redis $(ARGS) || [ $$? = $(NONE_IS_FINE) ]

test-deep: $(VENV)/installed.dev prerequisites  ## the tests that take many minutes: soaks, a million users
	$(BIN)/python -m pytest -q -m deep $(ARGS) || [ $$? = 5 ]

check: static  ## style, types, floors, and the tests that take seconds
	$(PYTEST) -m "$(QUICK)" $(ARGS)

static: $(VENV)/installed.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fix: $(VENV)/installed.dev  ## repairs what can be repaired by a program: style and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed.dev  ## writes again what is generated: docs/reference, the state chart, the configuration's schema
	$(BIN)/python docs/generate.py

bench: $(VENV)/installed.dev  ## how fast it is on this machine, in a few minutes (benchmarks/README.md)
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-peers: $(VENV)/installed.dev  ## the same beside its peers, in half an hour: writes docs/benchmarks.md (needs npm)
	$(BIN)/python benchmarks/versus.py $(ARGS) > docs/benchmarks.new && mv docs/benchmarks.new docs/benchmarks.md

dist: $(VENV)/installed.dev  ## what is shipped: wheel, sdist, and a bill of materials (CycloneDX)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(if $(UV),uv venv --quiet --python $(BIN)/python dist/shipped,$(BIN)/python -m venv dist/shipped)
	$(subst $(BIN)/python,dist/shipped/bin/python,$(INSTALL)) --require-hashes -r requirements.txt
	$(subst $(BIN)/python,dist/shipped/bin/python,$(INSTALL)) --no-deps dist/homerealm-*.whl
	$(BIN)/cyclonedx-py environment dist/shipped/bin/python --pyproject pyproject.toml --output-format JSON --output-reproducible --output-file dist/homerealm.cdx.json
	rm -rf dist/shipped

bench-growth: $(VENV)/installed.dev  ## a million users, a second worker, a second replica, memory, start-up: six minutes
	$(BIN)/python benchmarks/versus.py --parts growth,crew,limits $(ARGS)

faults: $(VENV)/installed.dev prerequisites  ## kills and freezes the parts of a fleet one after the other: writes the table of docs/faults.md
	HOMEREALM_FAULTS=docs/faults.md $(BIN)/python -m pytest -q -m "crash and not deep" tests/faults $(ARGS)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/peers/node/node_modules

# What follows is not called by hand. A stamp file says that its list of packages is installed.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Homerealm needs Python 3.11 or later, and no interpreter here is: install one, or say PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(if $(UV),uv venv --quiet --python $(PYTHON) $(VENV),false); } \
		|| { echo "This Python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/installed.run: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing (once; some seconds to a minute) ..."
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/installed.dev: requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what tests and checks need (once) ..."
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@ $(VENV)/installed.run

prerequisites:
	@sh tests/prerequisites.sh

tests/peers/node/node_modules/installed: tests/peers/node/package.json tests/peers/node/package-lock.json | prerequisites
	@if command -v npm >/dev/null; then cd tests/peers/node && npm ci --ignore-scripts --no-audit --no-fund --silent && touch node_modules/installed; \
		else echo "no npm: the peers from npm are left out"; fi

requirements.txt: | pyproject.toml
	uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url -o $@

requirements-dev.txt: | pyproject.toml
	uv pip compile pyproject.toml --extra dev --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url -o $@

.PHONY: lock
lock:
	rm -f requirements.txt requirements-dev.txt
	$(MAKE) requirements.txt requirements-dev.txt
