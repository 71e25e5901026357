# Two commands set everything up on a fresh machine with Python 3.11 and make:
#   make demo   exports the bundled model to all four targets, int8 and float, and prints a table
#   make test   runs all tests

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint types check clean

demo: $(STAMP)
	$(BIN)/python -m edge_deit.export --target all --precision fp32 --precision int8 --output out

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV): a few minutes, once"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock 2>$(VENV)/pip.log || (cat $(VENV)/pip.log; exit 1)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . 2>>$(VENV)/pip.log || (cat $(VENV)/pip.log; exit 1)
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
