"""What others build on: routes, metric names, health, the docs page, clean logs."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.errors import ERROR_TABLE
from app.settings import Settings
from model.engines.base import Engine
from tests.app.fakes import CANARY, MakeApp, TinyCheckpoint, WatchedEngine, ask, running, until, until_metric
from tests.app.series import REQUEST_BUCKETS, SERIES, labels_of, value_of
from tests.app.serving import served

pytestmark = pytest.mark.anyio


async def test_the_openapi_document_has_these_routes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    routes = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {
        ("post", "/predict"),
        ("post", "/predict/batch"),
        ("post", "/outcomes"),
        ("get", "/models"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
        ("get", "/metrics"),
        ("get", "/"),
    }
    schemas = document["components"]["schemas"]
    assert set(schemas["PredictRequest"]["required"]) == {"kind", "config"}
    for reference in re.findall(r"#/components/schemas/(\w+)", json.dumps(document)):
        assert reference in schemas
    documented = {int(status) for status in document["paths"]["/predict"]["post"]["responses"]}
    assert documented == {200} | {entry.status for entry in ERROR_TABLE} - {404, 405}
    assert "outcomes" not in json.dumps(document["paths"]["/predict"])
    reported = document["paths"]["/outcomes"]["post"]["responses"]
    assert {int(status) for status in reported} == {200, 400, 401, 404, 408, 413, 415, 429, 431, 500, 503}
    assert "outcomes_disabled" in reported["404"]["description"]
    assert "outcomes_unavailable" in reported["503"]["description"]


async def test_with_a_store_there_is_one_series_more(make_app: MakeApp, tmp_path: Path) -> None:
    async with running(make_app(database_url=f"sqlite:///{tmp_path}/outcomes.db")) as client:
        await client.post("/predict", json=ask())
        scraped = (await client.get("/metrics")).text
    assert labels_of(scraped) == SERIES | {"jobcast_database_up": set()}
    assert 'stage="history"' in scraped


async def test_the_metric_series_are_these(client: httpx.AsyncClient) -> None:
    await client.post("/predict", json=ask())
    await client.get(f"/{CANARY}")
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert labels_of(response.text) == SERIES
    buckets = re.findall(
        r'jobcast_request_duration_seconds_bucket\{le="([^"]+)",route="/predict"', response.text
    )
    assert buckets == REQUEST_BUCKETS
    stages = set(re.findall(r'stage="(\w+)"', response.text))
    assert stages == {"read", "serialize", "tokenize", "cache", "queue", "prefill", "decode", "calibrate"}
    assert 'jobcast_requests_total{code="404",method="GET",route="unmatched"} 1.0' in response.text
    assert 'jobcast_model_info{name="tiny",version="sha256:tiny"} 1.0' in response.text
    assert "jobcast_engine_up 1.0" in response.text
    # There before the first fault: a rate does not see the value that a series begins with.
    assert 'jobcast_predictions_total{code="503"} 0.0' in response.text
    assert CANARY not in response.text


async def test_whoever_may_get_may_look_whether_it_is_there(make_app: MakeApp) -> None:
    async with served(make_app()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in ("/", "/models", "/metrics", "/health/live", "/health/ready", "/docs", "/openapi.json"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head("/predict")).status_code == 405
        document = (await client.get("/openapi.json")).json()
    assert not [path for path, operations in document["paths"].items() if "head" in operations]


async def test_made_up_methods_share_one_label(client: httpx.AsyncClient) -> None:
    await client.request("BREW", "/predict")
    scraped = (await client.get("/metrics")).text
    assert 'jobcast_requests_total{code="405",method="other",route="/predict"} 1.0' in scraped
    assert value_of(scraped, "jobcast_predictions_total") == 0


async def test_predictions_are_counted_one_by_one_wherever_they_are_asked_for(
    client: httpx.AsyncClient,
) -> None:
    """A fault within a batch is one: the batch as a whole is answered 200."""
    await client.post("/predict", json=ask())
    await client.post("/predict", json=ask(targets=["gpu"]))
    await client.post("/predict/batch", json={"requests": [ask("a"), ask("!bug"), 7]})
    await client.post("/predict/batch", content=b"no JSON", headers={"Content-Type": "application/json"})
    scraped = (await client.get("/metrics")).text
    counted = {
        code: value_of(scraped, "jobcast_predictions_total", code=code)
        for code in ("200", "400", "422", "500")
    }
    assert counted == {"200": 2, "400": 2, "422": 1, "500": 1}


async def test_models_tells_what_answers(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/models")).json()
    assert answer["name"] == "tiny"
    assert "github-actions" in answer["kinds"]
    assert [target["unit"] for target in answer["targets"]] == ["s", "B", "cores"]
    assert answer["provenance"] == {"records": 3}
    assert answer["token_budget"] == 64


async def test_the_index_links_to_what_exists(client: httpx.AsyncClient) -> None:
    for link in (await client.get("/")).json()["links"]:
        assert (await client.get(link)).status_code == 200


async def test_the_docs_page_needs_nothing_from_outside(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    page = response.text
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page)
    for entry in ERROR_TABLE:
        assert f'id="{entry.code}"' in page
    assert "curl --data-binary @ci.yml" in page
    assert re.findall(r'href="#([^"]+)"', page)
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page


async def test_ready_follows_the_engine_and_live_does_not(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    engine.alive = False
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "engine_unavailable")
    response = await client.post("/predict", json=ask())
    assert (response.status_code, response.json()["code"]) == (503, "engine_unavailable")
    assert (await client.get("/health/live")).status_code == 200
    assert "jobcast_engine_up 0.0" in (await client.get("/metrics")).text


async def test_live_answers_while_the_engine_starts(make_app: MakeApp, engine: WatchedEngine) -> None:
    def start() -> None:
        assert engine.gate.wait(5)
        engine.alive = True

    engine.start = start  # type: ignore[method-assign]
    engine.gate.clear()
    app = make_app()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://jobcast") as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503
            assert "starting" in (await client.post("/predict", json=ask())).json()["detail"]
            engine.gate.set()
            await app.state.service.started()
            assert (await client.get("/health/ready")).status_code == 200


async def test_an_engine_that_cannot_start_is_never_ready(make_app: MakeApp, engine: WatchedEngine) -> None:
    def start() -> None:
        raise RuntimeError(CANARY)

    engine.start = start  # type: ignore[method-assign]
    async with running(make_app()) as client:
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.post("/predict", json=ask())).json()["code"] == "engine_unavailable"


async def test_a_draining_service_is_not_ready_and_still_answers(make_app: MakeApp) -> None:
    app = make_app()
    async with running(app) as client:
        app.state.service.drain()
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.post("/predict", json=ask())).status_code == 200


async def test_the_engine_is_closed_with_the_app(make_app: MakeApp, engine: WatchedEngine) -> None:
    async with running(make_app()):
        assert engine.alive
    assert engine.closed


async def test_two_apps_do_not_share_their_counts(make_app: MakeApp) -> None:
    async with running(make_app()) as first, running(make_app()) as second:
        await first.post("/predict", json=ask())
        assert 'route="/predict"' not in (await second.get("/metrics")).text


async def test_logs_are_json_lines_without_input(
    client: httpx.AsyncClient, engine: WatchedEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.post("/predict", json=ask(CANARY, context={"repository": CANARY}, job=CANARY))
    await client.post("/predict", json=ask(f"{CANARY} !bug"))
    await client.post("/predict/batch", json={"requests": [ask(f"{CANARY} !bug")]})
    await client.get(f"/{CANARY}?{CANARY}={CANARY}")
    engine.failure = RuntimeError(CANARY)
    await client.post("/predict", json=ask(CANARY))
    written = capsys.readouterr().out
    assert CANARY not in written
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in lines].count("request") == 5
    access = next(line for line in lines if line["event"] == "request")
    assert {"request_id", "method", "route", "status", "duration_ms", "timestamp", "level"} <= access.keys()
    defects = [line for line in lines if line["event"] == "internal_error"]
    assert [line["exception"]["type"] for line in defects] == ["ValueError", "ValueError"]
    assert any("fakes.py" in frame for frame in defects[0]["exception"]["frames"])


async def asgi_request(app: FastAPI, body: dict[str, Any], hang_up: asyncio.Event) -> list[Any]:
    """POST /predict as a client that leaves when `hang_up` is set."""
    sent: list[Any] = []
    first = True

    async def receive() -> dict[str, Any]:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "headers": headers,
    }
    await app(scope | {"query_string": b"", "http_version": "1.1", "scheme": "http"}, receive, send)
    return sent


async def test_the_work_for_a_client_that_hangs_up_is_dropped(
    make_app: MakeApp, engine: WatchedEngine
) -> None:
    app = make_app()
    async with running(app) as client:
        engine.gate.clear()
        running_now = asyncio.create_task(client.post("/predict", json=ask("first")))
        await until(lambda: bool(engine.batches))
        hang_up = asyncio.Event()
        leaving = asyncio.create_task(asgi_request(app, ask("second"), hang_up))
        await until_metric(client, "jobcast_queue_depth 1.0")
        hang_up.set()
        assert await leaving == []
        await until_metric(client, "jobcast_queue_depth 0.0")
        assert 'code="499"' in (await client.get("/metrics")).text
        engine.gate.set()
        assert (await running_now).status_code == 200
    assert [len(batch) for batch in engine.batches] == [1]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCAST_PORT", "9999")
    monkeypatch.setenv("JOBCAST_ENGINE", "fake")
    assert (Settings().port, Settings().engine) == (9999, "fake")


def test_the_fakes_keep_the_protocols(engine: WatchedEngine, checkpoint: TinyCheckpoint) -> None:
    from app.contracts import Checkpoint

    kept: tuple[Engine, Checkpoint] = (engine, checkpoint)
    assert kept
