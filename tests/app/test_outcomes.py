"""POST /outcomes on both databases: kept once, given back as history, held against predictions."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cachetools import TTLCache

from model.errors import ValueOutOfRange
from model.evidence.history import SHOWN
from model.jobs.job import Job
from model.prompt import Prompt
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running
from tests.app.outcomes import TestDatabase, counted, database, past_runs, postgres, predict, report

__all__ = ["database", "postgres"]
pytestmark = pytest.mark.anyio

FLOW: dict[str, object] = {"kind": "flow", "config": "lint: ruff\ntest: pytest"}


def ago(**passed: float) -> str:
    return (datetime.now(UTC) - timedelta(**passed)).isoformat()


async def test_outcomes_become_the_history_of_the_next_prediction(
    make_app: MakeApp, database: TestDatabase, checkpoint: TinyCheckpoint
) -> None:
    async with running(make_app(**database.settings())) as client:
        first = await predict(client, ask())
        assert past_runs(first) == [0]
        known = {"request_id": first["request_id"]}
        outcomes = [
            {**known, "runtime_seconds": 300, "finished_at": ago(hours=5)},
            {**known, "runtime_seconds": 320.5, "cpu_cores": 2, "finished_at": ago(days=3)},
            {**known, "peak_memory_bytes": 1e9, "status": "killed", "finished_at": ago(minutes=3)},
        ]
        assert await report(client, *outcomes) == ["accepted"] * 3
        assert past_runs(await predict(client, ask())) == [3]
        runs = checkpoint.prompted[-1].history
        assert [dict(run.values) for run in runs] == [
            {"peak_memory_bytes": 1e9},
            {"runtime_seconds": 300.0},
            {"cpu_cores": 2.0, "runtime_seconds": 320.5},
        ]
        assert [run.age_seconds for run in runs] == [0, 4 * 3600, 3 * 86400]
        assert [run.complete for run in runs] == [False, True, True]
        assert [run.same_config for run in runs] == [True] * 3
        assert past_runs(await predict(client, ask("make all"))) == [0]
        assert await counted(client, "jobcast_outcomes_total", result="accepted") == 3
        assert await counted(client, "jobcast_history_total", result="found") == 1
        assert await counted(client, "jobcast_history_total", result="none") == 2
        assert await counted(client, "jobcast_database_up") == 1


async def test_what_a_client_says_of_past_runs_counts_alone(
    make_app: MakeApp, database: TestDatabase
) -> None:
    async with running(make_app(**database.settings())) as client:
        await report(client, {**ask(), "runtime_seconds": 5})
        run = {"runtime_seconds": 1, "age_seconds": 1}
        assert past_runs(await predict(client, ask(history=[]))) == [0]
        assert past_runs(await predict(client, ask(history=[run, run]))) == [2]
        assert await counted(client, "jobcast_history_total") == 0
        assert past_runs(await predict(client, ask())) == [1]


async def test_a_recurring_job_has_the_clients_name_and_keeps_it_when_it_changes(
    make_app: MakeApp, database: TestDatabase, checkpoint: TinyCheckpoint
) -> None:
    async with running(make_app(**database.settings())) as client:
        first = await predict(client, ask("one", series="nightly"))
        await report(client, {"request_id": first["request_id"], "runtime_seconds": 5})
        assert await report(client, {**ask("two", series="nightly"), "runtime_seconds": 6}) == ["accepted"]
        assert past_runs(await predict(client, ask("three", series="nightly"))) == [2]
        assert [run.same_config for run in checkpoint.prompted[-1].history] == [False, False]
        assert past_runs(await predict(client, ask("one"))) == [0]
        assert past_runs(await predict(client, {**FLOW, "series": "nightly"})) == [0, 0, 0]


async def test_several_jobs_of_one_config(make_app: MakeApp, database: TestDatabase) -> None:
    flow = {**FLOW, "series": "ci"}
    async with running(make_app(**database.settings())) as client:
        known = {"request_id": (await predict(client, flow))["request_id"], "runtime_seconds": 1}
        assert await report(client, {**known, "job": "test"}, known, {**known, "job": "nobody"}) == [
            "accepted",
            "accepted",
            "unknown_job",
        ]
        by_config = {**flow, "runtime_seconds": 2}
        assert await report(client, {**by_config, "job": "test"}, {**by_config, "job": "nobody"}) == [
            "accepted",
            "unknown_job",
        ]
        assert past_runs(await predict(client, flow)) == [1, 0, 2]
        assert past_runs(await predict(client, {**flow, "job": "test"})) == [2]


async def test_each_outcome_counts_once(make_app: MakeApp, database: TestDatabase) -> None:
    at = ago(hours=1)
    one = {**ask(), "runtime_seconds": 5, "finished_at": at}
    async with running(make_app(**database.settings())) as client:
        assert await report(client, one, one, {**one, "runtime_seconds": 6}) == [
            "accepted",
            "duplicate",
            "accepted",
        ]
        assert await report(client, one) == ["duplicate"]
        # The same moment, written in another zone.
        there = datetime.fromisoformat(at).astimezone(tz=None).isoformat()
        assert await report(client, {**one, "finished_at": there}) == ["duplicate"]
        keyed = {**ask(), "idempotency_key": "run-1", "runtime_seconds": 7}
        assert await report(client, keyed, {**keyed, "runtime_seconds": 8}) == ["accepted", "duplicate"]
        assert await report(client, keyed) == ["duplicate"]
        assert past_runs(await predict(client, ask())) == [3]
        answers = await asyncio.gather(
            *(report(client, {**keyed, "idempotency_key": "run-2"}) for _ in range(5))
        )
        assert sorted(status for (status,) in answers) == ["accepted", *["duplicate"] * 4]


BY_CONFIG = {**ask(), "runtime_seconds": 5}
BAD: dict[str, tuple[object, str]] = {
    "no object": (7, "malformed_body"),
    "unknown field": ({**BY_CONFIG, "runtime": 5}, "malformed_body"),
    "text for a number": ({**BY_CONFIG, "runtime_seconds": "5"}, "malformed_body"),
    "a number for text": ({**BY_CONFIG, "finished_at": 5}, "malformed_body"),
    "an empty key": ({**BY_CONFIG, "idempotency_key": ""}, "malformed_body"),
    "no value": (ask(), "invalid_outcome"),
    "null alone": ({**ask(), "runtime_seconds": None}, "invalid_outcome"),
    "negative": ({**BY_CONFIG, "cpu_cores": -1}, "invalid_outcome"),
    "too much": ({**BY_CONFIG, "runtime_seconds": 1e15}, "invalid_outcome"),
    "no job": ({"runtime_seconds": 5}, "invalid_outcome"),
    "kind alone": ({"kind": "text", "runtime_seconds": 5}, "invalid_outcome"),
    "twice a job": ({**BY_CONFIG, "request_id": "a"}, "invalid_outcome"),
    "context of a request": ({"request_id": "a", "context": {}, "runtime_seconds": 5}, "invalid_outcome"),
    "in the future": ({**BY_CONFIG, "finished_at": ago(hours=-2)}, "invalid_outcome"),
    "too old": ({**BY_CONFIG, "finished_at": ago(days=181)}, "invalid_outcome"),
    "no zone": ({**BY_CONFIG, "finished_at": "2026-11-29T08:15:00"}, "invalid_outcome"),
    "a day": ({**BY_CONFIG, "finished_at": "2026-11-29"}, "invalid_outcome"),
    "no such day": ({**BY_CONFIG, "finished_at": "2026-02-30T08:15:00Z"}, "invalid_outcome"),
    "the year one": ({**BY_CONFIG, "finished_at": "0001-01-01T00:00:00+23:59"}, "invalid_outcome"),
    "unknown request": ({"request_id": "nobody", "runtime_seconds": 5}, "unknown_request"),
    "unknown kind": ({**BY_CONFIG, "kind": "make"}, "unknown_kind"),
    "broken config": ({**BY_CONFIG, "config": "!bad"}, "invalid_config"),
    "a defect of ours": ({**BY_CONFIG, "config": "!bug"}, "internal"),
}


async def test_a_bad_outcome_fails_alone(make_app: MakeApp, database: TestDatabase) -> None:
    async with running(make_app(**database.settings())) as client:
        told = await report(client, *(outcome for outcome, _ in BAD.values()), BY_CONFIG)
        assert dict(zip(BAD, told, strict=False)) == {name: code for name, (_, code) in BAD.items()}
        assert told[-1] == "accepted"
        assert await counted(client, "jobcast_outcomes_total", result="problem") == len(BAD)
        problem = (await client.post("/outcomes", json={"outcomes": [7]})).json()["outcomes"][0]
        assert problem["request_id"].endswith(".0") and problem["status"] == 400
        edges = [{**BY_CONFIG, "finished_at": when} for when in (ago(minutes=-4), ago(days=179))]
        assert await report(client, *edges) == ["accepted"] * 2


async def test_a_call_as_a_whole_is_checked_like_a_batch(make_app: MakeApp, database: TestDatabase) -> None:
    async with running(make_app(**database.settings(max_batch_items=3, max_body_bytes=2000))) as client:

        async def code(body: object, **headers: str) -> str:
            sent = {"Content-Type": "application/json", **headers}
            content = body if isinstance(body, bytes) else repr(body).replace("'", '"').encode()
            response = await client.post("/outcomes", content=content, headers=sent)
            return str(response.json().get("code", response.status_code))

        assert await code({"outcomes": []}) == "200"
        assert await code({"outcomes": [{}] * 4}) == "malformed_body"
        assert await code({"outcomes": {}}) == "malformed_body"
        assert await code(b'{"outcomes": [{"runtime_seconds": NaN}]}') == "malformed_body"
        assert await code({"outcomes": [], "more": 1}) == "malformed_body"
        assert await code(b" " * 2001) == "body_too_large"
        assert await code({}, **{"Content-Type": "application/yaml"}) == "unsupported_media_type"


async def test_without_a_database_nothing_changes(make_app: MakeApp) -> None:
    async with running(make_app()) as client:
        response = await client.post("/outcomes", json={"outcomes": []})
        assert (response.status_code, response.json()["code"]) == (404, "outcomes_disabled")
        assert past_runs(await predict(client, ask(series="x"))) == [0]
        assert await counted(client, "jobcast_history_total") == 0
        assert "jobcast_database_up" not in (await client.get("/metrics")).text


def key_line(name: str, key: str) -> str:
    return f"{name}:sha256:{sha256(key.encode()).hexdigest()}"


async def test_a_request_id_belongs_to_the_caller_who_chose_it(
    make_app: MakeApp, database: TestDatabase
) -> None:
    ours, theirs = "jc_ours_0123456789abcdef", "jc_theirs_0123456789abcdef"
    settings = database.settings(api_keys=f"{key_line('ours', ours)},{key_line('theirs', theirs)}")
    us, them = ({"X-API-Key": key} for key in (ours, theirs))
    async with running(make_app(**settings)) as client:
        shared = {"X-Request-Id": "build-7"}
        await predict(client, ask("ours"), **us, **shared)
        one = {"request_id": "build-7", "runtime_seconds": 5}
        assert await report(client, one, **them) == ["unknown_request"]
        await predict(client, ask("theirs"), **them, **shared)
        assert await report(client, one, **them) == ["accepted"]
        assert past_runs(await predict(client, ask("ours"), **us)) == [0]
        assert past_runs(await predict(client, ask("theirs"), **us)) == [1]
        # Of one caller the newest counts; idempotency keys are each caller's own.
        await predict(client, ask("newer"), **us, **shared)
        keyed = {**one, "idempotency_key": "k"}
        assert await report(client, keyed, **us) == ["accepted"]
        assert past_runs(await predict(client, ask("newer"), **us)) == [1]
        assert await report(client, keyed, **them) == ["accepted"]
        response = await client.post("/outcomes", json={"outcomes": []})
        assert response.status_code == 401


async def test_a_rate_counts_outcomes(make_app: MakeApp, database: TestDatabase) -> None:
    async with running(make_app(**database.settings(rate_limit="5/hour"))) as client:
        await report(client, *[7] * 3)
        response = await client.post("/outcomes", json={"outcomes": [7] * 3})
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")


async def test_coverage_counts_each_prediction_and_target_once(
    make_app: MakeApp, database: TestDatabase
) -> None:
    async with running(make_app(**database.settings())) as client:
        first = await predict(client, ask())
        runtime = first["predictions"][0]["runtime_seconds"]
        known = {"request_id": first["request_id"]}
        between = (runtime["0.1"] + runtime["0.5"]) / 2
        censored = {**known, "runtime_seconds": 1, "status": "timeout"}
        assert await report(client, censored) == ["accepted"]
        assert await counted(client, "jobcast_coverage_outcomes_total") == 0
        await report(client, {**known, "runtime_seconds": between})
        await report(client, {**known, "runtime_seconds": 0, "cpu_cores": runtime["0.9"]})
        expected = {
            ("runtime_seconds", "0.1"): 0,
            ("runtime_seconds", "0.5"): 1,
            ("runtime_seconds", "0.9"): 1,
            ("cpu_cores", "0.1"): 0,
            ("cpu_cores", "0.5"): 0,
            ("cpu_cores", "0.9"): 1,
        }
        for (target, quantile), count in expected.items():
            found = await counted(client, "jobcast_coverage_below_total", target=target, quantile=quantile)
            assert (target, quantile, found) == (target, quantile, count)
        assert await counted(client, "jobcast_coverage_outcomes_total", target="runtime_seconds") == 1
        assert await counted(client, "jobcast_coverage_outcomes_total", target="cpu_cores") == 1
        # Of several in one call, too.
        third = {"request_id": (await predict(client, ask("third")))["request_id"]}
        values = [{"peak_memory_bytes": 1e12}, {"runtime_seconds": 1}, {"peak_memory_bytes": 0}]
        await report(client, *({**third, **value} for value in values))
        assert await counted(client, "jobcast_coverage_outcomes_total") == 4
        target = "peak_memory_bytes"
        assert await counted(client, "jobcast_coverage_outcomes_total", target=target) == 1
        assert await counted(client, "jobcast_coverage_below_total", target=target) == 0
        # Without the default quantiles there is nothing to hold it against.
        other = await predict(client, ask("other", quantiles=[0.5]))
        await report(client, {"request_id": other["request_id"], "runtime_seconds": 5})
        await report(client, {**ask("other"), "runtime_seconds": 5})
        assert await counted(client, "jobcast_coverage_outcomes_total") == 4


async def test_items_of_a_batch_have_request_ids_of_their_own(
    make_app: MakeApp, database: TestDatabase
) -> None:
    async with running(make_app(**database.settings())) as client:
        body = {"requests": [ask(f"make {number}") for number in range(3)]}
        answers = (await client.post("/predict/batch", json=body)).json()["responses"]
        named = [{"request_id": answer["request_id"], "runtime_seconds": 5} for answer in answers]
        assert await report(client, *named) == ["accepted"] * 3
        again = (await client.post("/predict/batch", json=body)).json()["responses"]
        assert [past_runs(answer) for answer in again] == [[1]] * 3


async def test_a_batch_is_one_query_or_two(make_app: MakeApp, database: TestDatabase) -> None:
    app = make_app(**database.settings(database_connections=1))
    asked: list[int] = []
    async with running(app) as client:
        store = app.state.service._outcomes._store
        newest = store.newest

        async def watched(series: set[bytes], seconds: float) -> Any:
            asked.append(len(series))
            return await newest(series, seconds)

        store.newest = watched
        items = [ask(f"make {number}") for number in range(64)]
        await report(client, *({**item, "runtime_seconds": 5} for item in items))
        assert asked == []
        answers = (await client.post("/predict/batch", json={"requests": items})).json()["responses"]
        assert [past_runs(answer) for answer in answers] == [[1]] * 64
        assert sum(asked) == 64 and len(asked) == 1  # all of them are known to the memo: they ask at once
        assert await counted(client, "jobcast_history_total", result="found") == 64


async def test_a_look_up_is_remembered_until_there_is_something_new(
    make_app: MakeApp, database: TestDatabase
) -> None:
    app = make_app(**database.settings())
    asked: list[set[bytes]] = []
    async with running(app) as client:
        histories, store = app.state.service._outcomes.histories, app.state.service._outcomes._store
        newest, told = store.newest, asyncio.Event()

        async def watched(series: set[bytes], seconds: float) -> Any:
            asked.append(series)
            found = await newest(series, seconds)
            if told.is_set():  # an outcome comes while the answer is on its way
                told.clear()
                assert await report(client, {**ask(), "cpu_cores": 1}) == ["accepted"]
            return found

        store.newest = watched
        histories._recent = TTLCache(100, 3600)
        for _ in range(3):
            assert past_runs(await predict(client, ask())) == [0]
        assert len(asked) == 1
        assert await report(client, {**ask(), "runtime_seconds": 5}) == ["accepted"]
        told.set()
        assert past_runs(await predict(client, ask())) == [1]
        for _ in range(3):
            assert past_runs(await predict(client, ask())) == [2]
        assert len(asked) == 3
        assert await counted(client, "jobcast_history_total") == 7


async def test_many_reports_at_a_time_leave_look_ups_a_connection(
    make_app: MakeApp, database: TestDatabase
) -> None:
    """Those that find no turn in time are told to come back; the database is not taken for one that fails."""
    app = make_app(**database.settings(database_connections=3))
    async with running(app) as client:
        assert await report(client, {**ask(), "runtime_seconds": 5}) == ["accepted"]
        turns = app.state.service._outcomes._store._turns
        await turns.acquire()  # the only one beside those of look-ups
        waiting = asyncio.create_task(
            client.post("/outcomes", json={"outcomes": [{**ask(), "cpu_cores": 1}]})
        )
        assert past_runs(await predict(client, ask())) == [1]
        response = await waiting
        assert (response.status_code, response.json()["code"]) == (503, "outcomes_unavailable")
        assert await counted(client, "jobcast_database_up") == 1
        turns.release()
        assert await report(client, {**ask(), "cpu_cores": 1}) == ["accepted"]


async def test_a_body_is_read_once_and_again_only_for_new_runs(
    make_app: MakeApp, database: TestDatabase, checkpoint: TinyCheckpoint, engine: WatchedEngine
) -> None:
    app = make_app(**database.settings())
    async with running(app) as client:
        reads = 0
        read = app.state.service._units._read

        def watched(*parts: Any) -> Any:
            nonlocal reads
            reads += 1
            return read(*parts)

        app.state.service._units._read = watched
        await report(client, {**ask(), "runtime_seconds": 5})
        assert (reads, len(checkpoint.prompted)) == (1, 1)
        assert past_runs(await predict(client, ask())) == [1]  # known to the memo, but not with this run
        assert (reads, len(checkpoint.prompted)) == (2, 2)
        for _ in range(3):
            assert past_runs(await predict(client, ask())) == [1]
        assert (reads, len(checkpoint.prompted), len(engine.batches)) == (2, 2, 1)
        # Read for the first time, with runs: once.
        await report(client, {**ask("other", series="s"), "runtime_seconds": 5})
        assert past_runs(await predict(client, ask("new", series="s"))) == [1]
        assert reads == 4


async def test_predictions_are_written_when_the_service_ends(
    make_app: MakeApp, database: TestDatabase
) -> None:
    async with running(make_app(**database.settings())) as client:
        await asyncio.gather(*(predict(client, ask(f"make {number}")) for number in range(20)))
    assert database.rows("SELECT count(*) FROM jobcast_predictions") == [(20,)]


async def test_runs_that_the_checkpoint_cannot_write_are_no_reason_to_fail(
    make_app: MakeApp, database: TestDatabase, checkpoint: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = checkpoint.prompt

    def refusing(job: Job) -> Prompt:
        if job.history:
            raise ValueOutOfRange("a magnitude of 1e3 or more")
        return prompt(job)

    monkeypatch.setattr(checkpoint, "prompt", refusing)
    async with running(make_app(**database.settings())) as client:
        await report(client, {**ask(), "runtime_seconds": 5e3})
        assert past_runs(await predict(client, ask())) == [0]


async def test_only_the_newest_runs_are_looked_up(
    make_app: MakeApp, database: TestDatabase, checkpoint: TinyCheckpoint
) -> None:
    async with running(make_app(**database.settings())) as client:
        runs = [{**ask(), "runtime_seconds": n, "finished_at": ago(hours=n)} for n in range(1, 31)]
        assert await report(client, *runs) == ["accepted"] * 30
        assert past_runs(await predict(client, ask())) == [SHOWN]
        newest = [run.values["runtime_seconds"] for run in checkpoint.prompted[-1].history]
        assert newest == [float(n) for n in range(1, 21)]


async def test_what_is_old_is_deleted_by_one_process(make_app: MakeApp, database: TestDatabase) -> None:
    apps = [make_app(**database.settings(outcome_days=7)) for _ in range(2)]
    async with running(apps[0]) as client, running(apps[1]) as other:
        for each in (client, other):
            kept = {"request_id": (await predict(each, ask()))["request_id"], "runtime_seconds": 5}
            assert await report(each, kept) == ["accepted"]
        stores = [app.state.service._outcomes for app in apps]
        long_ago = time.time() - 8 * 86400
        old = "SET {} = {} WHERE id = (SELECT min(id) FROM {})"
        for table, column in (("jobcast_predictions", "made_at"), ("jobcast_outcomes", "finished_at")):
            _write(database, f"UPDATE {table} " + old.format(column, long_ago, table))
        await asyncio.gather(*(store.prune() for store in stores))
        for table in ("jobcast_predictions", "jobcast_outcomes"):
            assert database.rows(f"SELECT count(*) FROM {table}") == [(1,)]
        # Within the hour nobody looks again.
        _write(database, f"UPDATE jobcast_outcomes SET finished_at = {long_ago}")
        await stores[0].prune()
        assert database.rows("SELECT count(*) FROM jobcast_outcomes") == [(1,)]


def _write(database: TestDatabase, statement: str) -> None:
    if database.server is not None:
        database.server.ask(statement)
    else:
        import sqlite3

        assert database.path is not None
        with sqlite3.connect(database.path) as connection:
            connection.execute(statement)
