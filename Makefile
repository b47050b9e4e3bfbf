# make check: set up and measure on this machine.    make test: set up and pass the suite's own tests.
#
#   make check ARGS="--layer 'resnet50.L1*'"   pytest's options, see `make help`
#   make check PYTHON=/usr/bin/python3.10      the Python to build .venv from; if it has torch, that torch is used
#   make check VENV=/opt/my-env                an environment that exists: only what it lacks is added, torch never

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
STAMP := $(VENV)/.never-slower

.PHONY: check test test-slow lint mutants help clean
check: $(STAMP)
	@$(VENV)/bin/python -m pytest $(ARGS)

# Two processes beside each other, and the same drawn examples on every machine; what takes long is test-slow's.
SELFTESTS = $(VENV)/bin/python -m pytest -c selftests/pytest.ini -n 2 --dist worksteal --hypothesis-profile=ci

test: $(STAMP)
	@$(SELFTESTS) -m "not slow" selftests $(ARGS)

test-slow: $(STAMP)
	@$(SELFTESTS) -m slow selftests $(ARGS)

lint: $(STAMP)
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .
	@$(VENV)/bin/python -m mypy

mutants: $(STAMP)
	@$(VENV)/bin/python -m tools.mutants $(ARGS)

help: $(STAMP)
	@$(VENV)/bin/python -m pytest -h | sed -n '/^never-slower/,/^[^ ]/p'

$(STAMP): pyproject.toml constraints.txt tools/setup_environment.py
	@$(PYTHON) tools/setup_environment.py $(VENV)
	@touch $(STAMP)

clean:
	rm -rf .venv .neverslower .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
