"""Requests with canaries in every field that a client fills, and in those that it should not.

A `Deal` hands out canaries for one round: each place gets another form in each round, and a secret of its own.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.canaries import SECRET_NAMES, Canary, Maker

JSON_TYPE = {"Content-Type": "application/json"}
YAML_TYPE = {"Content-Type": "application/yaml"}
#: How far neighbouring places are apart in the list of forms.
_STRIDE = 7


@dataclass(frozen=True)
class Sent:
    """One request. `place` says where its canaries stand."""

    place: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON_TYPE))
    path: str = "/predict"
    parameters: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


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


def requests(deal: Deal) -> Iterator[Sent]:
    """All places once."""
    for kind, make in CONFIGS.items():
        yield _envelope(f"{kind}, object", {"kind": kind, "config": make(deal)})
        yield _envelope(f"{kind}, YAML", {"kind": kind, "config": yaml.safe_dump(make(deal))})
        yield _envelope(f"{kind}, JSON", {"kind": kind, "config": json.dumps(make(deal))})
    for kind, write in TEXTS.items():
        yield _envelope(f"{kind}, text", {"kind": kind, "config": write(deal)})
        yield Sent(
            f"{kind}, raw", write(deal).encode(), {"Content-Type": "text/plain"}, parameters={"kind": kind}
        )
    yield from _fields(deal)
    yield from _errors(deal)
    yield from _around(deal)


def _envelope(place: str, body: object, **more: Any) -> Sent:
    return Sent(place, json.dumps(body).encode(), **more)


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


def _commented(deal: Deal) -> str:
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
    "github-actions": _commented,
    "slurm": _script,
    "text": lambda deal: "\n".join([deal.text(), "make -j8", deal.shaped(), f"password: {deal.word()}"]),
    "eda.openroad": lambda deal: f"platform: x\nconfig.mk: |\n  export A = {deal.shaped()}\n",
    "buildkite": lambda deal: f"buildkite_job: {deal.shaped()}\nsteps:\n  - label: x\n    command: make\n",
}


def _fields(deal: Deal) -> Iterator[Sent]:
    """The envelope's other fields, in requests that are answered."""
    text = {"kind": "text", "config": "make"}
    context = {
        "repository": deal.shaped(),
        "event": deal.text(),
        "runner": deal.shaped(),
        "machine": {"name": deal.text(), **deal.named()},
        "repo_facts": {"topic": deal.text(), deal.shaped(): 1},
        "local_actions": {"./a": f"runs:\n  using: composite\n  steps:\n    - run: x {deal.shaped()}\n"},
    }
    yield _envelope("context", {**text, "context": context})
    steps = [{"uses": "./a"}, {"uses": f"./{deal.shaped()}"}]
    job = {"runs-on": "x", "steps": steps}
    yield _envelope("context of a workflow", {"kind": "github-actions", "config": job, "context": context})
    entry = {"runtime_seconds": 5, "age_seconds": 1, "status": deal.shaped()[:64]}
    yield _envelope("history status", {**text, "history": [entry]})
    name = deal.shaped()
    flow = {"on": "push", "jobs": {name: {"runs-on": "x", "steps": [{"run": "make"}]}}}
    yield _envelope("job that exists", {"kind": "github-actions", "config": flow, "job": name})
    run = {"runtime_seconds": 5, "age_seconds": 1, "job": name}
    yield _envelope("history of a job", {"kind": "github-actions", "config": flow, "history": [run]})
    parameters = {"kind": "github-actions", "event": deal.shaped(), "repository": deal.shaped()}
    yield Sent("query parameters", _commented(deal).encode(), YAML_TYPE, parameters=parameters)
    items = [
        {**text, "config": deal.text()},
        {"kind": deal.shaped(), "config": ""},
        {deal.shaped(): 1},
        deal.shaped(),
    ]
    yield _envelope("batch", {"requests": items}, path="/predict/batch")


def _errors(deal: Deal) -> Iterator[Sent]:
    """Requests that are refused, each for a reason that concerns its canary."""
    text: dict[str, Any] = {"kind": "text", "config": "make"}
    plain = {"runs-on": "x", "steps": [{"run": "x"}]}
    bodies: dict[str, object] = {
        "kind": {"kind": deal.shaped(), "config": ""},
        "unknown job": {"kind": "github-actions", "config": workflow(deal), "job": deal.shaped()},
        "targets": {**text, "targets": [deal.shaped()]},
        "given": {**text, "given": {deal.shaped(): 1}},
        "given value": {**text, "given": {"cpu_cores": deal.shaped()}},
        "quantiles": {**text, "quantiles": [deal.shaped()]},
        "deadline": {**text, "deadline_ms": deal.shaped()},
        "unknown field": {**text, deal.shaped(): deal.text()},
        "history target": {**text, "history": [{deal.shaped(): 1, "age_seconds": 1}]},
        "history value": {**text, "history": [{"runtime_seconds": deal.shaped(), "age_seconds": 1}]},
        "history job": {**text, "history": [{"runtime_seconds": 1, "age_seconds": 1, "job": deal.shaped()}]},
        "status too long": {**text, "history": [{"runtime_seconds": 1, "age_seconds": 1, "status": deal.text() * 9}]},
        "job that is a list": {"kind": "github-actions", "config": {"jobs": {deal.shaped(): [deal.text()]}}},
        "job that uses nothing": {
            "kind": "github-actions",
            "config": {"jobs": {"x" * 180 + "-" + deal.shaped(): {"uses": ""}}},
        },
        "needs nobody": {
            "kind": "github-actions",
            "config": {"jobs": {deal.shaped(): {**plain, "needs": deal.shaped()}}},
        },
        "matrix that is text": {
            "kind": "github-actions",
            "config": {"jobs": {deal.shaped(): {**plain, "strategy": {"matrix": deal.text()}}}},
        },
        "section": {"kind": "eda.openroad", "config": {"config.mk": {deal.shaped(): [deal.shaped()]}}},
        "broken YAML": {"kind": "github-actions", "config": f"a: [{json.dumps(deal.text())}\n"},
        "unknown alias": {"kind": "github-actions", "config": "a: *nobody\n# " + deal.shaped()},
        "key twice": {"kind": "nextflow", "config": f"{(key := json.dumps(deal.shaped()))}: 1\n{key}: 2\n"},
        "broken JSON": {"kind": "nextflow", "config": '{"a": ' + json.dumps(deal.text())},
        "config that is a list": {**text, "config": [deal.text()]},
    }  # fmt: skip
    for place, body in bodies.items():
        yield _envelope(place, body)
    whole = json.dumps({**text, "config": deal.shaped()}).encode()
    yield Sent("cut body", whole[: len(whole) - 9])
    yield Sent("not UTF-8", b'{"kind": "text", "config": "' + deal.shaped().encode() + b'\xff"}')
    yield Sent("no JSON at all", deal.text().encode())
    yield Sent("not YAML", f"{deal.shaped()}: [".encode(), YAML_TYPE, parameters={"kind": "github-actions"})
    yield Sent("unknown parameter", b"on: push", YAML_TYPE, parameters={"kind": "text", deal.shaped(): "1"})
    yield Sent(
        "parameter values", b"make", YAML_TYPE, parameters={"kind": "text", "quantiles": deal.shaped()}
    )
    yield Sent("job parameter", b"make", YAML_TYPE, parameters={"kind": "text", "job": deal.shaped()})


def _around(deal: Deal) -> Iterator[Sent]:
    """Paths and headers."""
    body = json.dumps({"kind": "text", "config": "make"}).encode()
    headers = (
        "traceparent",
        "tracestate",
        "Authorization",
        "X-API-Key",
        "User-Agent",
        "Cookie",
        "Referer",
        "Accept",
    )
    for header in headers:
        yield Sent(f"header {header}", body, {**JSON_TYPE, header: deal.shaped()})
    request_id = deal.shaped()
    while all(c in "0123456789abcdef-" for c in request_id):  # is taken for the id that it could be
        request_id = deal.shaped()
    yield Sent("header X-Request-Id", body, {**JSON_TYPE, "X-Request-Id": request_id})
    yield Sent("header Content-Type", body, {"Content-Type": f"text/{deal.shaped()}"})
    yield Sent("header Content-Encoding", body, {**JSON_TYPE, "Content-Encoding": deal.shaped()})
    for path in ("/{}", "/predict/{}", "/health/{}", "/docs/{}"):
        safe = "".join(c for c in deal.shaped() if c.isalnum() or c in "-_.~")
        yield Sent(f"path {path}", b"", {}, path.replace("{}", safe), method="GET")
    yield Sent("query of GET", b"", {}, "/models", {"token": deal.word(), "x": deal.shaped()}, "GET")
    yield Sent("body of GET", deal.text().encode(), {}, "/health/live", method="GET")
    yield Sent("method", deal.text().encode(), JSON_TYPE, "/models", method="PUT")
