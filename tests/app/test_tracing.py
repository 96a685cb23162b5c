"""Spans as a collector receives them, and the log line of a request: stages and sizes, never content."""

import json
from collections.abc import Iterator

import pytest

from tests.app.collector import Collector, running_collector
from tests.app.fakes import CANARY, MakeApp, ask, running

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as made:
        yield made


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


@pytest.mark.parametrize(
    ("sampled", "accept"),
    [("01", "application/openmetrics-text"), ("00", "application/openmetrics-text"), ("01", "text/plain")],
)
async def test_a_recorded_trace_is_an_exemplar_of_its_duration_where_the_format_has_them(
    make_app: MakeApp, collector: Collector, sampled: str, accept: str
) -> None:
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        await client.post("/predict", json=ask(), headers={"traceparent": f"00-{TRACE}-{PARENT}-{sampled}"})
        scraped = await client.get("/metrics", headers={"Accept": f"{accept};version=1.0.0,*/*;q=0.1"})
    assert scraped.headers["Content-Type"].startswith(accept)
    shown = [line for line in scraped.text.splitlines() if TRACE in line]
    if (sampled, accept) == ("01", "application/openmetrics-text"):
        (line,) = shown
        assert line.startswith("jobcast_request_duration_seconds_bucket{")
        assert f'# {{trace_id="{TRACE}"}}' in line
        assert scraped.text.endswith("# EOF\n")
    else:
        assert shown == []


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
