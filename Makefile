# One file, every command. `make serve` and `make test` need Python 3.11 and a package index, nothing else.
PYTHON ?= python3
HOST   ?= 127.0.0.1
PORT   ?= 8080
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN    ?= runs/default
# The shipped checkpoint first; then those that differ by their training seed alone.
CHECKPOINTS ?= model/checkpoints/default

.PHONY: help serve test check ci smoke train train-gpu benchmark bench clean
.DELETE_ON_ERROR:

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/.serve  ## start the service on 127.0.0.1:8080 with the shipped checkpoint
	$(BIN)/jobcast serve --host $(HOST) --port $(PORT)

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## what a reviewer runs: lint, format, strict types, docs links, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/check_links.py
	$(MAKE) test

smoke: $(VENV)/.serve  ## start the service, send the README's request, check the answer
	$(BIN)/python tests/smoke.py

ci: check smoke  ## everything that guards the main job

# First the text alone, then what the experts say of each job: the order in which the shipped checkpoint learned it.
train: $(VENV)/.dev  ## train the default checkpoint on this CPU (resumes; needs the corpus)
	$(BIN)/python -m model.training --directory $(RUN)-text --evidence-share 0 --steps 3000
	mkdir -p $(RUN) && cp -n $(RUN)-text/tokenizer.json $(RUN)-text/experts.npz \
	  $(RUN)-text/held_out.npz $(RUN)-text/examples.pkl $(RUN)
	$(BIN)/python -m model.training --directory $(RUN) --base $(RUN)-text/checkpoint --learning-rate 1e-3 \
	  --steps 1700 --install model/checkpoints/default

train-gpu: $(VENV)/.dev  ## on a CUDA device from scratch in one go, larger batches and more steps
	$(BIN)/python -m model.training --directory $(RUN)-gpu --steps 20000 --trees-per-batch 48 \
	  --device cuda --install model/checkpoints/default

benchmark: $(VENV)/.dev  ## measure CHECKPOINTS beside the baselines: docs/benchmark.md (needs the corpus)
	$(BIN)/jobcast evaluate $(CHECKPOINTS:%=--checkpoint %)

bench: $(VENV)/.dev  ## latency beside bare prefill and beside generate(); fails where a ratio is missed
	$(BIN)/python -m model.evaluation.latency --output docs/latency.json

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

clean:  ## remove what the commands made, but for training runs
	rm -rf $(VENV) build *.egg-info
