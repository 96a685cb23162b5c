"""Around every request, pure ASGI: its id, its metrics, its log line, and the answer to a defect of ours."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import problem_response
from app.metrics import Metrics
from app.timings import begin
from app.tracing import Traces
from model.redact import looks_secret

log = structlog.get_logger()

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
#: The status that stands for "the client hung up" in logs and metrics; nobody receives it.
CLIENT_CLOSED_REQUEST = 499
#: What a path and a method are called that are none of ours.
UNMATCHED, OTHER = "unmatched", "other"
#: Routes that machines poll; their log lines are for debugging only.
PROBES = {"/health/live", "/health/ready", "/metrics"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class RequestMiddleware:
    """Gives `request.state` a request_id and `arrived` (perf_counter seconds), and the request its timings."""

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces) -> None:
        self._app = app
        self._metrics, self._traces = metrics, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = time.perf_counter()
        headers = Headers(scope=scope)
        taken = headers.get("x-request-id", "")
        usable = _REQUEST_ID.fullmatch(taken) and not looks_secret(taken)
        request_id = taken if usable else uuid.uuid4().hex
        trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        timings = begin()
        scope.setdefault("state", {}).update(request_id=request_id, arrived=arrived)
        status: int | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                added["X-Request-Id"] = request_id
                if trace:
                    added["traceparent"] = trace.group()
                if _route(scope).startswith("/predict"):
                    added["X-Queue-Time-Ms"] = f"{timings.queue_seconds * 1000:.2f}"
                    added["X-Inference-Time-Ms"] = f"{timings.inference_seconds * 1000:.2f}"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED_REQUEST
        except Exception as error:
            log.error("internal_error", request_id=request_id, route=_route(scope), exc_info=error)
            if status is None:
                await problem_response(error, request_id)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - arrived
            route, method = _route(scope), _method(scope)
            code = status or CLIENT_CLOSED_REQUEST
            recorded = None
            if route not in PROBES:
                recorded = self._traces.finished(headers, route, method, code, arrived, timings)
            self._metrics.answered(route, method, code, seconds, recorded)
            write = log.debug if route in PROBES else log.info
            write(
                "request",
                request_id=request_id,
                **({"trace_id": trace.group(1)} if trace else {}),
                **({"client": scope["state"]["client_name"]} if "client_name" in scope["state"] else {}),
                method=method,
                route=route,
                status=code,
                duration_ms=round(seconds * 1000, 2),
                queue_ms=round(timings.queue_seconds * 1000, 2),
                inference_ms=round(timings.inference_seconds * 1000, 2),
                stages_ms=timings.milliseconds(),
                body_bytes=timings.body_bytes,
                prompts=timings.prompts,
                tokens=timings.tokens,
            )


def _route(scope: Scope) -> str:
    """The route's template, never the raw path."""
    return getattr(scope.get("route"), "path", UNMATCHED)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else OTHER
