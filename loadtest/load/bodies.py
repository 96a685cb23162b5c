"""Requests of a load, told apart by a number; written for it, none taken from anybody's repository."""

import json
from functools import lru_cache

from loadtest.reliability.bodies import workflow_request

_PUSH = """name: push {number}
on: push
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make lint PROJECT={number}
  test:
    needs: lint
    runs-on: ${{{{ matrix.os }}}}
    strategy:
      matrix:
        os: [ubuntu-latest, windows-latest]
        version: ["3.11", "3.12", "3.13"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "${{{{ matrix.version }}}}"}}
      - run: pip install -r requirements.txt
      - run: pytest tests/part{number} -x
"""
_DESIGN = """export DESIGN_NAME = block_{design}
export PLATFORM    = sky130hd
export VERILOG_FILES = $(sort $(wildcard ./designs/src/block_{design}/*.v))
export SDC_FILE    = ./designs/sky130hd/block_{design}/constraint.sdc
export CORE_UTILIZATION = {utilization}
export PLACE_DENSITY_LB_ADDON = 0.{density:02d}
export TNS_END_PERCENT = 100
export ABC_AREA = {area}
export CLOCK_PERIOD = {period}
"""
_BATCH = """#!/bin/bash
#SBATCH --job-name=step-{number}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=32
#SBATCH --time=0{hours}:30:00
#SBATCH --mem=64G
module load gcc openmpi
srun ./solver --mesh grid_{number}.h5 --steps {steps} --tolerance 1e-{digits}
"""

#: Jobs that a push asks about one by one, after its workflow.
PUSH_JOBS = (
    "lint",
    *(
        f"test ({system}, {version})"
        for system in ("ubuntu-latest", "windows-latest")
        for version in ("3.11", "3.12", "3.13")
    ),
)


@lru_cache(1024)  # the hot mix asks for the same ones again and again
def scheduler_request(number: int) -> bytes:
    """What a scheduler sees: three in five are workflows, the rest batch scripts."""
    if number % 5 < 3:
        return workflow_request(number)
    nodes, hours, digits = 1 + number % 16, 1 + number % 8, 4 + number % 5
    config = _BATCH.format(number=number, nodes=nodes, hours=hours, steps=1000 + number, digits=digits)
    return json.dumps({"kind": "slurm", "config": config}).encode()


def push_requests(number: int) -> list[bytes]:
    """What a CI system asks at once when somebody pushes: the whole workflow, and each of its jobs."""
    content = {"kind": "github-actions", "config": _PUSH.format(number=number), "context": {"event": "push"}}
    return [json.dumps(content | ({"job": job} if job else {})).encode() for job in (None, *PUSH_JOBS)]


def sweep_request(number: int) -> bytes:
    """One point of a sweep over a few designs' knobs."""
    config = _DESIGN.format(
        design=number % 7,
        utilization=20 + number // 7 % 50,
        density=number // 350 % 30,
        area=number % 2,
        period=f"{2 + number // 7 * 0.01:.2f}",
    )
    stage = ("synth", "floorplan", "place", "cts", "route")[number % 5]
    return json.dumps({"kind": "eda.openroad", "config": config, "context": {"stage": stage}}).encode()
