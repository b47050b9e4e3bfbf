# make alone lists the targets.
#
#   make check ARGS="--layer 'resnet50.L1*'"   pytest's options, see `make options`
#   make check PYTHON=/usr/bin/python3.10      the Python to build .venv from; if it has torch, that torch is used
#   make check VENV=/opt/my-env                an environment that exists: only what it lacks is added, torch never
#   make test CONSTRAINTS=constraints-lowest.txt   the oldest versions that pyproject.toml declares, in a new VENV

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
STAMP := $(VENV)/.never-slower
ACTIONLINT := $(or $(wildcard $(VENV)/bin/actionlint),$(shell command -v actionlint 2>/dev/null))

# Two processes next to each other, and the same drawn examples on every machine; what takes long is test-slow's.
SELFTESTS = $(VENV)/bin/python -m pytest -c selftests/pytest.ini -n 2 --dist worksteal --hypothesis-profile=ci

.DEFAULT_GOAL := help
.PHONY: help check test test-slow lint docs mutants pictures options hooks setup clean
help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "make %-9s  %s\n", $$1, $$2 }' Makefile

check: $(STAMP)  ## measure on this machine; ARGS="…" are pytest's, see `make options`
	@$(VENV)/bin/python -m pytest $(ARGS)

test: $(STAMP)  ## run the suite's own tests, no device needed, in minutes
	@$(SELFTESTS) -m "not slow" selftests $(ARGS)

test-slow: $(STAMP)  ## run those of its tests that take long, such as killing runs at random
	@$(SELFTESTS) -m slow selftests $(ARGS)

lint: $(STAMP)  ## run ruff, mypy, codespell, and actionlint where it is installed
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .
	@$(VENV)/bin/python -m mypy
	@$(VENV)/bin/codespell
	@$(if $(ACTIONLINT),$(ACTIONLINT),echo "actionlint is not installed, so the workflows were not looked at")

docs: $(STAMP)  ## build the documentation in docs/_build/html; any warning is an error
	@$(PYTHON) tools/setup_environment.py $(VENV) $(CONSTRAINTS) docs
	@$(VENV)/bin/python -m sphinx -W --keep-going -n -E -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

mutants: $(STAMP)  ## tell lies that a selftest must catch; ARGS="judge" those of a room, ARGS=--list
	@$(VENV)/bin/python -m tools.mutants $(ARGS)

pictures: $(STAMP)  ## draw docs/pictures again from committed records, with Chromium
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	@$(VENV)/bin/python -m tools.pictures

options: $(STAMP)  ## list the options that never-slower adds to pytest's
	@$(VENV)/bin/python -m pytest -h | awk '/^[^ ]/ { ours = /^never-slower/ } ours'

hooks: $(STAMP)  ## have git run the lint before each commit, with pre-commit
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pre-commit
	@$(VENV)/bin/python -m pre_commit install

setup: $(STAMP)  ## make the environment, and nothing else

$(STAMP): pyproject.toml $(CONSTRAINTS) tools/setup_environment.py
	@$(PYTHON) tools/setup_environment.py $(VENV) $(CONSTRAINTS)
	@touch $(STAMP)

clean:  ## remove the environment and all that runs left
	rm -rf .venv .venv-* docs/_build .neverslower .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
