# Two commands set everything up on a fresh machine with Python 3.11 and make:
#   make demo   exports the bundled model to four targets, int8 and float, and prints a table; Core AI's runtime is
#               slow on Linux and takes half a minute more: add --target coreai yourself
#   make test   runs all tests, WORKERS of them side by side
# make check is what CI runs; make fuzz searches long for inputs that break something; make test-clients opens
# the files in other people's programs, which it installs once into ~/.cache/edge-deit-clients; make test-newest runs
# a part of the tests with Python 3.13, in an environment that it makes once in ~/.cache/edge-deit-newest; make
# test-wheel builds the wheel and uses it as somebody without a checkout does; make docs builds the site of the docs.

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORKERS ?= 2

TORCH_INDEX := https://download.pytorch.org/whl/cpu
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement

.PHONY: demo test test-clients test-newest test-wheel docs fuzz lint types check clean

demo: $(STAMP)
	$(BIN)/python -m edge_deit.export --precision fp32 --precision int8 --output out \
		--target executorch --target coreml --target tflite --target onnx

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-clients: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m clients tests/clients

test-newest: # the environment is its own: tools/newest.sh
	WORKERS=$(WORKERS) bash tools/newest.sh

test-wheel: $(STAMP) # the environments are its own: tools/wheel.sh
	bash tools/wheel.sh $(BIN)/uv

docs: $(STAMP) # the environment is its own: tools/docs.sh
	bash tools/docs.sh $(BIN)/uv

fuzz: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'fuzz or hypothesis' --hypothesis-profile fuzz

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

# PyTorch's CPU build for Linux is on PyTorch's own index alone; where pip finds it already, that index is not asked.
$(STAMP): requirements-torch.lock requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV): a few minutes, once"
	@$(LOCKED) requirements-torch.lock 2>$(VENV)/pip.log || \
		$(LOCKED) requirements-torch.lock --extra-index-url $(TORCH_INDEX) 2>>$(VENV)/pip.log || (cat $(VENV)/pip.log; exit 1)
	@$(LOCKED) requirements.lock 2>$(VENV)/pip.log || (cat $(VENV)/pip.log; exit 1)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . 2>>$(VENV)/pip.log || (cat $(VENV)/pip.log; exit 1)
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
