"""The OpenAPI document: FastAPI's own, plus the bodies that we read ourselves and the error table."""

from copy import copy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from app.api.outcome_schemas import OutcomeReport, OutcomesRequest
from app.api.requests import RAW_PARAMETERS
from app.api.schemas import BatchRequest, PredictRequest, Problem
from app.body import PLAIN_TYPES, RAW_TYPES
from app.errors import ERROR_TABLE, PROBLEM_JSON
from model.jobs import KINDS

_REFERENCE = "#/components/schemas/{model}"
EXAMPLE = {
    "kind": "github-actions",
    "config": (
        "name: CI\non: [push]\njobs:\n  test:\n    runs-on: ubuntu-latest\n"
        "    steps:\n      - run: make test\n"
    ),
    "context": {"repository": "octo/app", "event": "push"},
    "quantiles": [0.1, 0.5, 0.9],
}
YAML_EXAMPLE = str(EXAMPLE["config"])


def _reference(model: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": _reference(PredictRequest), "example": EXAMPLE},
        **{
            media: {"schema": {"type": "string"}, "example": YAML_EXAMPLE}
            for media in (*RAW_TYPES, *PLAIN_TYPES)
        },
    },
}
BATCH_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": _reference(BatchRequest), "example": {"requests": [EXAMPLE]}}},
}
OUTCOMES_EXAMPLE = {
    **{name: EXAMPLE[name] for name in ("kind", "config", "context")},
    "runtime_seconds": 318.0,
    "finished_at": "2026-11-29T08:15:00Z",
    "idempotency_key": "run-4711",
}
OUTCOMES_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _reference(OutcomesRequest),
            "example": {"outcomes": [{"request_id": "0f3c", "runtime_seconds": 318.0}, OUTCOMES_EXAMPLE]},
        }
    },
}
#: Only with the file itself as the body.
RAW_QUERY: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": text,
        "schema": {"type": "string", **({"enum": list(KINDS)} if name == "kind" else {})},
    }
    for name, text in RAW_PARAMETERS.items()
]


#: Of POST /outcomes alone.
OUTCOME_CODES = {"outcomes_disabled", "unknown_request", "invalid_outcome", "outcomes_unavailable"}


def _problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Status -> its answer, of these codes; of all that a route can meet where none is named."""
    named: dict[int, list[str]] = {}
    for entry in ERROR_TABLE:
        predicting = entry.status not in (404, 405) and entry.code not in OUTCOME_CODES
        if entry.code in codes or (not codes and predicting):
            named.setdefault(entry.status, []).append(entry.code)
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code in names),
            "content": {PROBLEM_JSON: {"schema": _reference(Problem)}},
        }
        for status, names in named.items()
    }


#: Every problem that a prediction can end in.
ANSWERS = _problems()
#: What a request can meet before its route.
REFUSALS = _problems("unauthorized", "rate_limited")
#: What the outcomes of a call can meet together; each of them has the problems of its own.
REPORTED = _problems(
    *("malformed_body", "unauthorized", "outcomes_disabled", "request_timeout", "body_too_large"),
    *("unsupported_media_type", "rate_limited", "head_too_large", "internal", "outcomes_unavailable"),
)
UNAUTHORIZED = _problems("unauthorized")
#: Bodies that we read ourselves.
REQUESTS = (PredictRequest, BatchRequest, OutcomeReport, OutcomesRequest)
KEYLESS: dict[str, Any] = {"security": []}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer` with an API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def use_openapi(app: FastAPI, *, keyed: bool) -> None:
    """Let the app serve the whole document; it is made once, at the first request for it.

    keyed: requests need a key.
    """

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=[_without_head(route) for route in app.routes],
            )
            components = made.setdefault("components", {})
            components["securitySchemes"] = SECURITY_SCHEMES
            made["security"] = [{name: []} for name in SECURITY_SCHEMES] if keyed else []
            schemas = components.setdefault("schemas", {})
            _, ours = models_json_schema(
                [(model, "validation") for model in (*REQUESTS, Problem)],
                ref_template=_REFERENCE,
            )
            schemas.update(ours["$defs"])
            made["x-errors"] = [
                {"status": entry.status, "code": entry.code, "when": entry.when} for entry in ERROR_TABLE
            ]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _without_head(route: BaseRoute) -> BaseRoute:
    """HEAD goes without saying where there is GET, and would share its operation id."""
    if not isinstance(route, APIRoute) or "HEAD" not in route.methods:
        return route
    told = copy(route)
    told.methods = route.methods - {"HEAD"}
    return told
