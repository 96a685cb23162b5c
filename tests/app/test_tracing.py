"""Spans as a collector receives them, and the log line of a request: stages and sizes, never content."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.app.fakes import CANARY, MakeApp, ask, running

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """Receives OTLP over HTTP on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            raise AssertionError("compressed without being asked to")
        self.server.bodies.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_a_request_is_a_span_of_its_callers_trace_and_its_stages_lie_below_it(
    make_app: MakeApp, collector: Collector
) -> None:
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        answer = await client.post("/predict", json=ask(f"make {CANARY}"), headers=headers)
        assert answer.headers["traceparent"] == headers["traceparent"]
        await client.post("/predict", json=ask("!bad"))
        await client.get("/health/live")  # probes are not traced
    spans = {span.span_id: span for span in collector.spans()}
    requests = [span for span in spans.values() if span.name == "POST /predict"]
    assert len(requests) == 2
    (span,) = [span for span in requests if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == PARENT
    below = [one for one in spans.values() if one.parent_span_id == span.span_id]
    assert {one.name for one in below} == {
        *("read", "serialize", "tokenize", "cache", "queue", "prefill", "decode", "calibrate")
    }
    for one in below:
        assert span.start_time_unix_nano - 1e6 <= one.start_time_unix_nano
        assert one.start_time_unix_nano <= one.end_time_unix_nano <= span.end_time_unix_nano + 5e6
    told = {item.key: item.value for item in span.attributes}
    assert told["http.response.status_code"].int_value == 200
    assert told["jobcast.prompts"].int_value == 1
    assert told["http.request.body.size"].int_value > 10
    assert CANARY.encode() not in b"".join(collector.bodies)


async def test_a_trace_that_its_caller_does_not_sample_is_not_sent(
    make_app: MakeApp, collector: Collector
) -> None:
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        await client.post("/predict", json=ask(), headers=headers)
    assert collector.spans() == []


async def test_the_log_line_has_stages_and_sizes(
    make_app: MakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(make_app()) as client:
        await client.post("/predict", json=ask("make test"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["event"] == "request"]
    assert set(line["stages_ms"]) == {
        *("read", "serialize", "tokenize", "cache", "queue", "prefill", "decode", "calibrate")
    }
    assert (line["prompts"], line["tokens"] > 0, line["body_bytes"] > 10) == (1, True, True)
