"""Requests generated from the OpenAPI document, and whether every answer is one that the document promises."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup

#: 503 and 504 are documented; here the engine runs and deadlines are long, so any 5xx is a failure.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass
class RouteReport:
    """One route: how many requests, their statuses, and what was wrong, each kind of failure once."""

    route: str
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def check_routes(url: str, cases_per_route: int) -> list[RouteReport]:
    """Ask every route of a running service `cases_per_route` times: half as the document says, half against it."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        operations = (schema[path][method] for path, method in _routes(schema))
        return [_check(operation, session, cases_per_route) for operation in operations]


def _routes(schema: Any) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in schema.raw_schema["paths"].items() for method in methods]


def _check(operation: Any, session: requests.Session, cases: int) -> RouteReport:
    report = RouteReport(f"{operation.method.upper()} {operation.path}")
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.query:  # elsewhere there is nothing to get wrong
        modes.append(GenerationMode.NEGATIVE)
    for mode in modes:
        _ask(operation, mode, session, -(-cases // len(modes)), report)
    return report


def _ask(
    operation: Any, mode: GenerationMode, session: requests.Session, cases: int, report: RouteReport
) -> None:
    wanted = report.cases + cases

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if case.media_type == "application/json" and report.cases % 4:
            case.query = {}  # they belong to the raw form: beside an envelope nothing else would be tried
        _answer(case, session, report)

    ask()
    while report.cases < wanted:  # a route without parameters has one case
        _answer(operation.Case(), session, report)


def _answer(case: Any, session: requests.Session, report: RouteReport) -> None:
    answer = case.call(session=session)
    report.cases += 1
    report.statuses[answer.status_code] += 1
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as group:
        for failure in group.exceptions:
            report.failures.setdefault(f"{type(failure).__name__} {answer.status_code}", str(failure)[:1000])
