"""Small configurations of our own, one or more per kind, and a tokenizer trained on them."""

from functools import cache
from typing import Any

from tokenizers import Tokenizer

from model.jobs import read
from model.jobs.job import Job
from model.numbers import NumberCode
from model.prompt import PromptEncoder, special_tokens
from model.targets import DEFAULT_TARGETS
from model.text import full_text
from model.training.tokenizer import train_tokenizer

WORKFLOW = """
name: build
on:
  push: {branches: [main]}
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: ruff check .
  test:
    needs: lint
    runs-on: ubuntu-latest
    timeout-minutes: 30
    strategy:
      matrix:
        python: ["3.11", "3.12"]
    steps:
      - uses: actions/checkout@v4
      - run: |
          pip install -e .
          pytest -n 4
"""

CONFIGS: dict[str, str | dict[str, Any]] = {
    "github-actions": WORKFLOW,
    "buildkite": "buildkite_job: build x\nsteps:\n  - label: build\n    command: make -j8\n",
    "gitlab-spack": {"package": "zlib", "compiler": "gcc@12", "recipe": "class Zlib(Package):\n    pass\n"},
    "bitbake": {"bitbake_task": "do_compile", "recipe": "zlib", "recipe_text": "inherit autotools\n"},
    "eda.openroad": "platform: sky130hd\ndesign: counter\nstage: place\nconfig.mk: |\n  export CORE_UTILIZATION = 40\n",
    "eda.openlane": {"design": "counter", "stage": "flow", "config.json": '{"CLOCK_PERIOD": 10}'},
    "eda.vtr": "task: basic\narch: k6.xml\ncircuit: counter.v\nstage: vpr_pack\n",
    "nextflow": {"workflow": "rnaseq", "task": "ALIGN", "requested_cpus": 8.0, "inputs": {"fastq_bytes": 4418618948.0}},
    "pegasus": {"workflow": "montage", "task": "mAdd", "inputs": [{"name": "a.fits", "bytes": 4141440}]},
    "makeflow": {"workflow": "blast", "task": "blastall", "requested_cores": 1},
    "snakemake": {"workflow": "calling", "task": "bwa", "threads": 16},
    "galaxy": {"system": "galaxy", "task": "bowtie2", "input_bytes": [1475930673, 503642961]},
    "spark": {"system": "spark", "job": "sort", "cluster": {"instance_count": 4}},
    "slurm": "#!/bin/bash\n#SBATCH --mem=8G\n#SBATCH -t 2:00:00\nsrun ./solve input.dat\n",
    "text": "make -j8 all",
}  # fmt: skip


def jobs_of(kind: str, config: str | dict[str, Any] | None = None) -> list[Job]:
    """Every job of a fixture, the workflow first where there is one."""
    reading = read(kind, CONFIGS[kind] if config is None else config, {})
    return [*([reading.workflow] if reading.workflow else []), *reading.jobs]


@cache
def encoder(token_budget: int = 512) -> PromptEncoder:
    """A prompt encoder over a small tokenizer trained on the fixtures."""
    code = NumberCode()
    texts = [full_text(job) for kind in CONFIGS for job in jobs_of(kind)] * 4
    trained = train_tokenizer(texts, special_tokens(DEFAULT_TARGETS, code), 500)
    return PromptEncoder(Tokenizer.from_str(trained.to_str()), DEFAULT_TARGETS, code, token_budget)


#: Two jobs, one that waits for both, and one that waits for that.
CHAIN = """
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    strategy: {matrix: {os: [a, b], java: [8, 11, 17]}}
    steps: [{uses: actions/checkout@v4}, {run: "make\\nmake check"}]
  lint:
    runs-on: ubuntu-latest
    timeout-minutes: 25
    steps: [{run: lint}]
  test:
    needs: [build, lint]
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps: [{run: test}]
  publish:
    needs: test
    runs-on: ubuntu-latest
    steps: [{run: publish}]
"""


def workflow_of(text: str) -> Job:
    job = read("github-actions", text, {}).workflow
    assert job is not None
    return job
