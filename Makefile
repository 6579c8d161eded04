# `make demo` and `make test` need nothing but Python 3.11 and make.
PYTHON ?= python3.11
VENV ?= .venv
MODEL_DIR ?= runs/arith_cpu
PYTEST_ARGS ?=

BIN := $(VENV)/bin

.PHONY: help demo test lint typecheck format clean

help:
	@echo "make demo       installs, and runs the whole recipe on this CPU"
	@echo "make test       installs, and runs the tests (PYTEST_ARGS=...)"
	@echo "make lint       checks style and format"
	@echo "make typecheck  checks types"
	@echo "make format     formats the code"
	@echo "make clean      removes $(VENV)"

demo: $(VENV)/installed
	$(BIN)/mathft recipe --gin_file=recipes/arith_cpu.gin \
	  --gin.MODEL_DIR='"$(MODEL_DIR)"'
	@echo "The report: $(MODEL_DIR)/report/index.html"

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV)

# Each file says that its step is done: a second call does not repeat it.
$(VENV)/created:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; install \
	Python 3.11, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/installed: $(VENV)/created setup.py
	@echo "Installing into $(VENV): some minutes, about 3.5 GB."
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-%: $(VENV)/created setup.py
	@echo "Installing into $(VENV): some minutes, about 3.5 GB."
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
