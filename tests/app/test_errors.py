"""The whole error table: each code provoked, each a problem document that holds nothing of the input."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.errors import ERROR_TABLE, HttpError
from app.startup import ConfigurationError
from model.errors import CheckpointError, JobcastError, ValueOutOfRange
from tests.app import fakes
from tests.app.fakes import CANARY, MakeApp, WatchedEngine, ask, running, until

pytestmark = pytest.mark.anyio

FLOW = {"kind": "flow", "config": f"{CANARY}: ruff\nbuild: make"}


def history(**rest: object) -> dict[str, object]:
    return {"runtime_seconds": 1, "age_seconds": 1, "status": CANARY, **rest}


PREDICT_PROBLEMS: list[tuple[str, object]] = [
    ("malformed_body", {"kind": "text"}),
    ("malformed_body", ["kind"]),
    ("malformed_body", ask([CANARY])),
    ("malformed_body", ask(**{CANARY: 1})),
    ("malformed_body", ask(quantiles=[CANARY])),
    ("malformed_body", ask(quantiles=[True])),
    ("malformed_body", ask(given={CANARY: CANARY})),
    ("malformed_body", ask(targets=[])),
    ("malformed_body", ask(deadline_ms=9)),
    ("malformed_body", ask(deadline_ms=60_001)),
    ("malformed_body", ask(history=[history(runtime_seconds=CANARY)])),
    ("malformed_body", ask(history=[{"runtime_seconds": 1}])),
    ("invalid_config", ask(f"{CANARY} !bad")),
    ("config_too_deep", ask(f"{CANARY} !deep")),
    ("config_too_large", ask(f"{CANARY} !large")),
    ("unknown_kind", {"kind": CANARY, "config": ""}),
    ("unknown_job", FLOW | {"job": f"{CANARY}!"}),
    ("unknown_target", ask(targets=[CANARY])),
    ("invalid_quantile", ask(quantiles=[])),
    ("invalid_quantile", ask(quantiles=[0])),
    ("invalid_quantile", ask(quantiles=[1])),
    ("invalid_quantile", ask(quantiles=[0.99999999])),
    ("invalid_quantile", ask(quantiles=[0.5, 0.5000000001])),
    ("invalid_quantile", ask(quantiles=[place / 40 for place in range(1, 34)])),
    ("invalid_history", ask(history=[history()] * 21)),
    ("invalid_history", ask(history=[history(age_seconds=2), history()])),
    ("invalid_history", ask(history=[history(age_seconds=-1)])),
    ("invalid_history", ask(history=[history(runtime_seconds=-1)])),
    ("invalid_history", ask(history=[history(runtime_seconds=None)])),
    ("invalid_history", ask(history=[history(**{CANARY: 3})])),
    ("invalid_history", ask(history=[history(job=CANARY)])),
    ("invalid_given", ask(given={CANARY: 3})),
    ("invalid_given", ask(given={"cpu_cores": -3})),
    ("invalid_given", ask(given={"cpu_cores": 3}, targets=["cpu_cores"])),
    ("invalid_given", FLOW | {"given": {"cpu_cores": 1}}),
    ("internal", ask(f"{CANARY} !bug")),
]
STATUS = {entry.code: entry.status for entry in ERROR_TABLE}


def check(response: httpx.Response, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (STATUS[code], code, STATUS[code])
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["request_id"] == response.headers["X-Request-Id"]
    assert {"type", "title", "detail"} <= problem.keys()
    assert CANARY not in response.text
    return problem


@pytest.mark.parametrize(("code", "body"), PREDICT_PROBLEMS)
async def test_a_wrong_request_is_told_which_way(client: httpx.AsyncClient, code: str, body: object) -> None:
    check(await client.post("/predict", json=body), code)


async def test_a_deeply_nested_object_is_no_defect(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recurse(value: object) -> object:
        return recurse(value)

    monkeypatch.setattr(fakes, "repr", recurse, raising=False)
    async with running(make_app()) as client:
        check(await client.post("/predict", json=ask({"a": 1})), "config_too_deep")


async def test_an_invalid_config_says_where(client: httpx.AsyncClient) -> None:
    problem = check(await client.post("/predict", json=ask("!bad")), "invalid_config")
    assert (problem["line"], problem["column"]) == (2, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"kind": "text", "config": NaN}',
        b'{"kind": "text", "config": "", "quantiles": [1e999]}',
        b"\xff",
    ],
)
async def test_what_is_not_json_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    check(await client.post("/predict", content=body, headers=headers), "malformed_body")
    check(await client.post("/predict/batch", content=body, headers=headers), "malformed_body")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?kind=text&quantiles=x",
        "?kind=text&quantiles=nan",
        "?kind=text&deadline_ms=1.5",
        f"?kind=text&{CANARY}=1",
        "?kind=text&job=a&job=b",
    ],
)
async def test_wrong_query_parameters_are_malformed(client: httpx.AsyncClient, query: str) -> None:
    headers = {"Content-Type": "application/yaml"}
    check(await client.post(f"/predict{query}", content="a: b", headers=headers), "malformed_body")


async def test_a_raw_file_must_be_utf8(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/yaml"}
    check(await client.post("/predict?kind=text", content=b"a: \xff", headers=headers), "malformed_body")


async def test_query_parameters_beside_a_json_envelope_are_refused(client: httpx.AsyncClient) -> None:
    check(await client.post("/predict?kind=text", json=ask()), "malformed_body")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/predict", {}),
        ("/predict", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("/predict", {"Content-Type": "text/plain"}),
        ("/predict", {"Content-Type": f"text/{CANARY}"}),
        ("/predict", {"Content-Type": "application/json; a=" + ";" * 300}),
        ("/predict?kind=text", {"Content-Type": "text/plain; charset=utf-16"}),
        ("/predict", {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
        ("/predict/batch", {"Content-Type": "application/yaml"}),
    ],
)
async def test_other_media_types_are_refused(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    check(await client.post(path, content=b"{}", headers=headers), "unsupported_media_type")


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    check(await client.get(f"/{CANARY}"), "not_found")
    response = await client.get("/predict")
    check(response, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1024


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10"}])
async def test_a_body_is_bounded_while_it_streams(make_app: MakeApp, headers: dict[str, str]) -> None:
    async with running(make_app(max_body_bytes=4096)) as client:
        for path in ("/predict", "/predict/batch"):
            response = await client.post(
                path, content=chunks(1000), headers={"Content-Type": "application/json", **headers}
            )
            check(response, "body_too_large")
            assert response.headers["Connection"] == "close"


async def test_a_declared_length_over_the_limit_is_refused_unread(make_app: MakeApp) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"Content-Type": "application/json", "Content-Length": "99999999999999999999999999"}
    async with running(make_app()) as client:
        check(await client.post("/predict", content=unread(), headers=headers), "body_too_large")


async def test_a_value_the_engine_cannot_write_is_the_clients_error(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    engine.failure = ValueOutOfRange("a given value is too large")
    check(await client.post("/predict", json=ask(given={"cpu_cores": 1e300})), "value_out_of_range")


async def test_a_failing_engine_is_unavailable_and_recovers(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    engine.failure = RuntimeError(CANARY)
    check(await client.post("/predict", json=ask()), "engine_unavailable")
    engine.failure = None
    assert (await client.post("/predict", json=ask())).status_code == 200


async def test_a_late_answer_is_a_timeout(client: httpx.AsyncClient, engine: WatchedEngine) -> None:
    engine.gate.clear()
    check(await client.post("/predict", json=ask(deadline_ms=30)), "deadline_exceeded")
    engine.gate.set()


async def test_a_full_queue_sheds_with_retry_after(make_app: MakeApp, engine: WatchedEngine) -> None:
    async with running(make_app(max_queue_tokens=1)) as client:
        engine.gate.clear()
        running_now = asyncio.create_task(client.post("/predict", json=ask("runs")))
        await until(lambda: bool(engine.batches))
        response = await client.post("/predict", json=ask("one too many"))
        problem = check(response, "overloaded")
        assert int(response.headers["Retry-After"]) >= 1
        assert problem["retry_after_seconds"] >= 0
        scraped = (await client.get("/metrics")).text
        assert 'jobcast_shed_total{reason="queue_full"} 1.0' in scraped
        engine.gate.set()
        assert (await running_now).status_code == 200


def test_the_error_table_has_every_error_that_a_client_can_meet() -> None:
    def below(error: type[JobcastError]) -> set[type[JobcastError]]:
        return {error}.union(*(below(child) for child in error.__subclasses__()))

    met = below(JobcastError) - {HttpError, CheckpointError, ConfigurationError}
    assert {(error.status, error.code) for error in met} == {(one.status, one.code) for one in ERROR_TABLE}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"kind": "text"}, "config is required"),
        (ask(7), "config must be text or an object"),
        (ask(quantiles=[0.5, "x"]), "quantiles[1] must be a number"),
        (ask(deadline_ms=5), "deadline_ms is too small (limit 10)"),
        (ask(history=[history(same_config="yes")]), "history[0].same_config must be true or false"),
        (ask(given={CANARY: "x"}), "given must be a number"),
        (ask(history=[0, "", history()]), "history[0] must be an object"),
        (ask(**{f"{CANARY} {place}": 1 for place in range(2000)}), "more than 1000 faults"),
        ([], "the body must be an object"),
    ],
)
async def test_a_malformed_body_is_told_what_and_where(
    client: httpx.AsyncClient, body: object, sentence: str
) -> None:
    assert check(await client.post("/predict", json=body), "malformed_body")["detail"] == sentence
