"""Requests with canaries in every field that a client fills, and in those that it should not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.canary_configs import CONFIGS, TEXTS, Deal, commented, workflow

JSON_TYPE = {"Content-Type": "application/json"}
YAML_TYPE = {"Content-Type": "application/yaml"}


@dataclass(frozen=True)
class Sent:
    """One request. `place` says where its canaries stand."""

    place: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON_TYPE))
    path: str = "/predict"
    parameters: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


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
    yield Sent("query parameters", commented(deal).encode(), YAML_TYPE, parameters=parameters)
    items = [
        {**text, "config": deal.text()},
        {"kind": deal.shaped(), "config": ""},
        {deal.shaped(): 1},
        deal.shaped(),
    ]
    yield _envelope("batch", {"requests": items}, path="/predict/batch")
    yield _envelope("series", {**text, "series": deal.shaped()[:256]})
    yield from _outcomes(deal)


def _outcomes(deal: Deal) -> Iterator[Sent]:
    """What is reported of a job, kept and refused."""
    name = deal.shaped()
    flow = {"on": "push", "jobs": {name: {"runs-on": "x", "steps": [{"run": deal.text()}]}}}
    context = {"repository": deal.shaped(), "workflow_path": deal.shaped()}
    job = {"kind": "github-actions", "config": flow, "context": context}
    kept = [
        {**job, "job": name, "runtime_seconds": 5},
        {**job, "series": deal.shaped()[:256], "cpu_cores": 1, "status": deal.shaped()[:64]},
        {"kind": "text", "config": deal.text(), "cpu_cores": 1, "idempotency_key": deal.shaped()[:256]},
    ]
    yield _envelope("outcomes", {"outcomes": kept}, path="/outcomes")
    yield _envelope("prediction of what was reported", job)
    plain = {"kind": "text", "config": "make", "runtime_seconds": 5}
    refused = [
        {"request_id": deal.shaped()[:160], "runtime_seconds": 5},
        {**plain, "finished_at": deal.shaped()[:64]},
        {**plain, "kind": deal.shaped()},
        {**plain, "runtime_seconds": deal.shaped()},
        {**plain, deal.shaped(): deal.text()},
        {**job, "job": deal.shaped(), "runtime_seconds": 5},
        {**plain, "status": deal.text() * 9},
        deal.shaped(),
    ]
    yield _envelope("outcomes that are refused", {"outcomes": refused}, path="/outcomes")


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
