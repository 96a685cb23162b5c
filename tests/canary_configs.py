"""Configurations of every kind with canaries in every place that a kind has.

A `Deal` hands out canaries for one round: each place gets another form in each round, and a secret of its own.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.canaries import SECRET_NAMES, Canary, Maker

#: How far neighbouring places are apart in the list of forms.
_STRIDE = 7


class Deal:
    """The canaries of one round, and those of them that were dealt."""

    def __init__(self, number: int, seed: int = 20261125) -> None:
        maker = Maker(seed + number)
        self._maker = maker
        self._shaped = list(maker.shaped())
        self._lines = [canary for canary in self._shaped if "\n" not in canary.text]
        self._all = [*self._shaped, *maker.placed()]
        self._next = number
        self.dealt: list[Canary] = []

    def _take(self, deck: list[Canary]) -> str:
        self._next += _STRIDE
        place = self._next % len(deck)
        canary = deck[place]
        if canary in self.dealt:  # the deck is through: a fresh secret of the same form
            fresh = {one.form: one for one in (*self._maker.shaped(), *self._maker.placed())}
            canary = deck[place] = fresh[canary.form]
        self.dealt.append(canary)
        return canary.text

    def text(self) -> str:
        """Of any form, in the writing that gives it away; it may have several lines."""
        return self._take(self._all)

    def shaped(self) -> str:
        """A secret on one line that gives itself away."""
        return self._take(self._lines)

    def word(self) -> str:
        """A password that only the name of its field gives away."""
        secret = self._maker.word()
        self.dealt.append(Canary("named field", secret, secret, shaped=False))
        return secret

    def named(self) -> dict[str, str]:
        """Secret-sounding names, each with a password."""
        return {name: self.word() for name in SECRET_NAMES}


def workflow(deal: Deal) -> dict[str, Any]:
    """A workflow of GitHub Actions whose jobs, names, steps, matrices and services hold canaries."""
    first, second = deal.shaped(), deal.shaped()
    return {
        "name": deal.text(),
        "on": {"push": {"branches": [deal.shaped()]}, "workflow_dispatch": {"inputs": {"x": {"default": deal.text()}}}},
        "env": {"PLAIN": deal.text(), deal.shaped(): "key", **deal.named()},
        "concurrency": {"group": deal.text()},
        "jobs": {
            first: {"name": deal.text(), "runs-on": deal.shaped(), "steps": [{"run": "make"}]},
            second: {
                "needs": first,
                "runs-on": ["self-hosted", deal.shaped()],
                "strategy": {
                    "matrix": {
                        "axis": [deal.shaped(), deal.shaped()],
                        "include": [{"axis": deal.shaped(), "extra": deal.shaped(), "token": deal.word()}],
                    }
                },
                "container": {
                    "image": deal.shaped(),
                    "credentials": {"username": "ann", "password": deal.word()},
                    "env": {"X": deal.text()},
                },
                "services": {"db": {"image": "postgres", "env": deal.named(), "options": deal.text()}},
                "steps": [
                    {"uses": f"actions/checkout@{deal.shaped()}", "with": {"token": deal.word(), "x": deal.text()}},
                    {"name": deal.text(), "run": f"set -e\n{deal.text()}\n  {deal.shaped()}\nmake"},
                    {"run": deal.text(), "env": {"X": deal.text(), **deal.named()}, "shell": deal.shaped()},
                    {"run": "make", "if": f"github.ref == '{deal.shaped()}'", "working-directory": deal.shaped()},
                ],
            },
            "long": {
                "name": "a long name " * 6 + "${{ matrix.x }}",
                "needs": [first, second],
                "runs-on": "ubuntu-latest",
                "strategy": {"matrix": {"x": [deal.shaped()]}},
                "steps": [{"run": "make"}],
            },
            "longer": {
                "name": "a longer name " * 6,
                "runs-on": "ubuntu-latest",
                "strategy": {"matrix": {"x": [deal.shaped()], "y": [deal.shaped()]}},
                "steps": [{"run": "make"}],
            },
        },
    }  # fmt: skip


def single_job(deal: Deal) -> dict[str, Any]:
    """One job on its own."""
    return {
        "runs-on": deal.shaped(),
        "env": deal.named(),
        "steps": [{"run": deal.text()}, {"uses": deal.shaped()}],
    }


def task(deal: Deal) -> dict[str, Any]:
    """A task of the kinds that take any mapping."""
    return {
        "task": deal.text(),
        "workflow": deal.shaped(),
        "script": f"#!/bin/sh\n# {deal.shaped()}\n{deal.text()}\nrun",
        "command": ["tool", "--password", deal.word(), deal.shaped(), f"--token={deal.word()}"],
        "container": deal.shaped(),
        "params": {"x": deal.text(), deal.shaped(): 1, "nested": {"y": [deal.text()], **deal.named()}},
        "env": [{"name": "DB_PASSWORD", "value": deal.word()}, {"name": "X", "value": deal.text()}],
        "inputs": [{"name": deal.shaped(), "bytes": 41414141}],
        "secret": {"value": deal.word()},
        "passwords": [deal.word(), deal.word()],
    }


def pipeline(deal: Deal) -> dict[str, Any]:
    """A pipeline of Buildkite."""
    return {
        "env": {"X": deal.text(), **deal.named()},
        "steps": [
            {"label": deal.text(), "command": deal.text(), "key": deal.shaped()},
            {"command": [deal.text(), "make"], "agents": {"queue": deal.shaped()}, "env": deal.named()},
        ],
    }


def flow(deal: Deal) -> dict[str, Any]:
    """An envelope of the EDA kinds."""
    return {
        "platform": deal.shaped(),
        "design": deal.shaped(),
        "stage": "place",
        "config.mk": f"export A = {deal.shaped()}\n# {deal.shaped()}\nexport DB_PASSWORD = {deal.word()}\n",
        "constraint.sdc": f"set x {deal.shaped()}\n",
        "clocks": deal.shaped(),
    }


CONFIGS: dict[str, Callable[[Deal], dict[str, Any]]] = {
    "github-actions": workflow,
    "buildkite": pipeline,
    **dict.fromkeys(
        ("nextflow", "pegasus", "makeflow", "snakemake", "galaxy", "spark", "gitlab-spack", "bitbake", "slurm"), task
    ),
    "eda.openroad": flow,
    "eda.openlane": lambda deal: {
        "design": deal.shaped(),
        "stage": "flow",
        "config.json": json.dumps({"CLOCK_PERIOD": 10, "X": deal.shaped(), "API_TOKEN": deal.word()}),
    },
    "eda.vtr": lambda deal: {"task": deal.shaped(), "arch": deal.shaped(), "circuit": deal.shaped(), "stage": "pack"},
    "text": task,
}  # fmt: skip


def commented(deal: Deal) -> str:
    """What only a text can have: comments, anchors, blocks and flow style."""
    comment = "\n".join(f"  # {line}" for line in deal.text().splitlines())
    script = "\n".join(f"          {line}" for line in deal.text().splitlines())
    return f"""# {deal.shaped()}
on: push
jobs:
{comment}
  build:
    runs-on: &runner {json.dumps(deal.shaped())}
    env: {{DB_PASSWORD: {deal.word()}, X: {json.dumps(deal.text())}}}  # {deal.shaped()}
    steps:
      - run: |
          set -e
{script}
          make
      - run: echo done
        env: {{Y: *runner}}
"""


def _script(deal: Deal) -> str:
    return (
        f"#!/bin/bash\n#SBATCH --job-name={deal.shaped()}\n#SBATCH --comment='{deal.shaped()}'\n#SBATCH --mem=8G\n"
        f"# {deal.shaped()}\nexport DB_PASSWORD={deal.word()}\n{deal.text()}\nsrun ./x {deal.shaped()}\n"
    )


TEXTS: dict[str, Callable[[Deal], str]] = {
    "github-actions": commented,
    "slurm": _script,
    "text": lambda deal: "\n".join([deal.text(), "make -j8", deal.shaped(), f"password: {deal.word()}"]),
    "eda.openroad": lambda deal: f"platform: x\nconfig.mk: |\n  export A = {deal.shaped()}\n",
    "buildkite": lambda deal: f"buildkite_job: {deal.shaped()}\nsteps:\n  - label: x\n    command: make\n",
}
