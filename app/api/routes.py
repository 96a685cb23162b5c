"""The routes of api.md."""

import asyncio
from dataclasses import replace
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from app.api.disconnect import unless_disconnected
from app.api.openapi import (
    ANSWERS,
    BATCH_BODY,
    KEYLESS,
    OUTCOMES_BODY,
    PREDICT_BODY,
    RAW_QUERY,
    REFUSALS,
    REPORTED,
    UNAUTHORIZED,
)
from app.api.outcome_schemas import OutcomeReport, OutcomesRequest, OutcomesResponse
from app.api.requests import caller_of, client_of, read_items, read_predict_request
from app.api.schemas import BatchRequest, BatchResponse, PredictRequest, PredictResponse, validated
from app.ask import Ask
from app.docs_page import docs_page
from app.errors import problem
from app.json import JsonResponse
from app.metrics import Metrics
from app.outcomes.report import Report
from app.service import Service
from app.settings import Settings
from model.errors import EngineUnavailable, JobcastError
from model.jobs import KINDS

log = structlog.get_logger()
router = APIRouter()
#: Apart, since /metrics may have a listener of its own.
metrics_router = APIRouter()

DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


@router.post(
    "/predict",
    summary="Predict what one configuration will need",
    responses={200: {"model": PredictResponse}, **ANSWERS},
    openapi_extra={"requestBody": PREDICT_BODY, "parameters": RAW_QUERY},
    tags=["predict"],
)
async def predict(request: Request) -> Response:
    """Send the JSON envelope, or the file itself (`application/yaml`, `text/plain`) with `?kind=`.

    Every job of the config gets the quantiles asked for, where they came from, and how far to trust them.
    """
    settings, service = _parts(request)
    raw = await read_predict_request(request, settings.max_body_bytes, settings.body_seconds)
    fingerprint = service.fingerprint(*raw.parts)

    async def whole() -> Ask:
        return replace((await raw.parsed()).ask(), fingerprint=fingerprint)

    recalled = service.recall(fingerprint)
    ask = replace(recalled, whole=whole) if recalled else await whole()
    state = request.state
    answer = service.predict(
        ask,
        request_id=state.request_id,
        arrived=state.arrived,
        caller=caller_of(request),
        client=client_of(request),
    )
    return JsonResponse(await unless_disconnected(request, answer))


@router.post(
    "/predict/batch",
    summary="Predict for several configurations",
    responses={200: {"model": BatchResponse}, **ANSWERS},
    openapi_extra={"requestBody": BATCH_BODY},
    tags=["predict"],
)
async def predict_batch(request: Request) -> Response:
    """Answers come in the order of the requests; a bad one becomes a problem object and fails alone.

    Each answer's `request_id` is that of the call with a dot and its place.
    """
    settings, service = _parts(request)
    items = await read_items(request, settings, "requests", BatchRequest)
    arrived: float = request.state.arrived
    caller, client = caller_of(request), client_of(request)

    async def answer(place: int, item: object) -> dict[str, Any]:
        request_id = f"{request.state.request_id}.{place}"
        try:
            ask = validated(PredictRequest, item).ask()
            return await service.predict(
                ask, request_id=request_id, arrived=arrived, caller=caller, client=client
            )
        except JobcastError as error:
            return problem(error, request_id)
        except Exception as error:
            log.error("internal_error", request_id=request_id, exc_info=error)
            return problem(error, request_id)

    async def answers() -> list[dict[str, Any]]:
        return await asyncio.gather(*(answer(place, item) for place, item in enumerate(items)))

    responses = await unless_disconnected(request, answers())
    series: Metrics = request.app.state.metrics
    for one in responses:
        series.prediction(one.get("status", 200))
    return JsonResponse({"responses": responses})


@router.post(
    "/outcomes",
    summary="Report what jobs took",
    responses={200: {"model": OutcomesResponse}, **REPORTED},
    openapi_extra={"requestBody": OUTCOMES_BODY},
    tags=["outcomes"],
)
async def report_outcomes(request: Request) -> Response:
    """Predictions of the same jobs take them into account, and metrics tell whether the quantiles hold.

    Verdicts come in the order of the outcomes; a bad one becomes a problem object and fails alone.
    """
    settings, service = _parts(request)
    service.check_keeps_outcomes()
    items = await read_items(request, settings, "outcomes", OutcomesRequest)
    state = request.state

    def report(item: object) -> Report | JobcastError:
        try:
            return validated(OutcomeReport, item).report()
        except JobcastError as error:
            return error

    taken = service.report(
        [report(item) for item in items],
        arrived=state.arrived,
        caller=caller_of(request),
        client=client_of(request),
    )
    verdicts = [
        {"status": one} if isinstance(one, str) else problem(one, f"{state.request_id}.{place}")
        for place, one in enumerate(await unless_disconnected(request, taken))
    ]
    return JsonResponse({"outcomes": verdicts})


@router.get("/models", summary="The checkpoint that answers", responses=REFUSALS, tags=["about"])
async def models(request: Request) -> Response:
    """Its targets with their units, the kinds it accepts, where it came from and how well it did."""
    _, service = _parts(request)
    checkpoint = service.checkpoint
    named = {
        "name": checkpoint.name,
        "version": checkpoint.version,
        "ready": service.ready(),
        "token_budget": checkpoint.token_budget,
        "targets": checkpoint.targets,
    }
    return JsonResponse({"kinds": KINDS, **checkpoint.summary, **named})


@router.get("/health/live", summary="The process runs", openapi_extra=KEYLESS, tags=["health"])
async def live() -> Response:
    """200 as long as the process answers at all."""
    return JsonResponse({"status": "live"})


@router.get(
    "/health/ready",
    summary="Requests can be sent here",
    responses={503: ANSWERS[503]},
    openapi_extra=KEYLESS,
    tags=["health"],
)
async def ready(request: Request) -> Response:
    """200 while the engine can answer; 503 while it starts, after it died and while the service drains."""
    _, service = _parts(request)
    if not service.ready():
        raise EngineUnavailable("not ready: the engine is starting, dead or draining")
    return JsonResponse({"status": "ready"})


@metrics_router.get(
    "/metrics",
    summary="Prometheus series",
    responses=UNAUTHORIZED,
    tags=["health"],
    response_class=PlainTextResponse,
)
async def metrics(request: Request) -> Response:
    """The text exposition format, or OpenMetrics where it is accepted."""
    series: Metrics = request.app.state.metrics
    told = await series.exposition(request.headers.get("accept", ""))
    return Response(told.body, headers={"Content-Type": told.content_type})


@router.get("/", summary="Where things are", responses=REFUSALS, tags=["about"])
async def index(request: Request) -> Response:
    """Name, version and links."""
    links = ["/docs", "/openapi.json", "/models", "/health/live", "/health/ready"]
    if request.app.state.settings.metrics_port is None:
        links.append("/metrics")
    return JsonResponse({"name": request.app.title, "version": request.app.version, "links": links})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The OpenAPI document as a page without scripts or outside resources."""
    return HTMLResponse(docs_page(request.app.openapi()), headers={"Content-Security-Policy": DOCS_POLICY})


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JsonResponse(request.app.openapi())


def _parts(request: Request) -> tuple[Settings, Service]:
    state = request.app.state
    return state.settings, state.service
