"""OpenTelemetry spans: one per request, below it one per stage. Made at the end of a request, from its timings.

Exported only where an endpoint is set. A span holds route, status and sizes, never content.
"""

import time
from collections.abc import Mapping
from typing import Protocol

from app.timings import Timings


class Traces(Protocol):
    """Where finished requests are told to."""

    def finished(
        self, headers: Mapping[str, str], route: str, method: str, status: int, began: float, timings: Timings
    ) -> str | None:
        """A request ended now; began: its `time.perf_counter()`. The id of its trace, if that was recorded."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class NoTraces:
    """Nobody wants them."""

    def finished(
        self, headers: Mapping[str, str], route: str, method: str, status: int, began: float, timings: Timings
    ) -> None:
        """No trace."""

    def close(self) -> None:
        """Nothing."""


class OtlpTraces:
    """Sends spans over OTLP/HTTP in the background; what cannot be sent is dropped. Raises ImportError."""

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "jobcast"}),
            sampler=ParentBasedTraceIdRatio(sample_ratio),
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("jobcast")
        self._propagator = TraceContextTextMapPropagator()

    def finished(
        self, headers: Mapping[str, str], route: str, method: str, status: int, began: float, timings: Timings
    ) -> str | None:
        """A span for the request, in the caller's trace where there is one, and its stages below it."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context

        offset = time.time_ns() - time.perf_counter_ns()
        parent = self._propagator.extract({"traceparent": headers.get("traceparent", "")})
        span = self._tracer.start_span(
            f"{method} {route}",
            parent,
            SpanKind.SERVER,
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "http.request.body.size": timings.body_bytes,
                "jobcast.prompts": timings.prompts,
                "jobcast.tokens": timings.tokens,
            },
            start_time=_nanoseconds(began, offset),
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        recorded = span.is_recording()
        if recorded:
            inside = set_span_in_context(span)
            for timed in timings.stages:
                stage = self._tracer.start_span(
                    timed.stage, inside, start_time=_nanoseconds(timed.began, offset)
                )
                stage.end(_nanoseconds(timed.began + timed.seconds, offset))
        span.end()
        return format_trace_id(span.get_span_context().trace_id) if recorded else None

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _nanoseconds(moment: float, offset: int) -> int:
    return int(moment * 1e9) + offset
