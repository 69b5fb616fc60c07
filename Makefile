# make demo   install everything, then train a reward model over three rounds on this machine
# make test   install what tests need, then check types and run all tests
PYTHON ?= python3.11
VENV ?= .venv
EXTRAS ?= cpu,experts
BIN := $(VENV)/bin

.PHONY: demo test lint bench install clean
demo: $(VENV)/.demo
	$(BIN)/python jobs/iterate.py --config jobs/configs/scenes.yaml

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.demo
	$(BIN)/python jobs/bench.py

install: $(VENV)/.demo

$(VENV)/.demo: pyproject.toml $(wildcard .ci/*.txt) .ci/install
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS)
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS),dev
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
