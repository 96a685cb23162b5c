# One file, every command. `make serve` and `make test` need nothing but Python 3.11 and a package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
HOST   ?= 127.0.0.1
PORT   ?= 8080
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: serve test check ci train evaluate bench clean
.DELETE_ON_ERROR:

serve: $(VENV)/.serve  ## start the service on 127.0.0.1:8080 with the shipped checkpoint
	$(BIN)/jobcast serve --host $(HOST) --port $(PORT)

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## what a reviewer runs: lint, format, strict types, tests, links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/check_links.py
	$(MAKE) test

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch first and alone: a range would let the resolver take a build with gigabytes of CUDA.
$(VENV)/.torch: $(VENV)/.made
	$(PIP) torch==2.13.0
	touch $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.serve

clean:  ## remove what the commands made
	rm -rf $(VENV) build runs *.egg-info
