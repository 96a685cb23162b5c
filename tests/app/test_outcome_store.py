"""What the outcome store promises beneath the routes: tables, indices, secrecy, several processes, an end in order."""

import asyncio
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from app.errors import InvalidOutcome
from app.main import create_app
from app.metrics import Metrics
from app.outcomes import InvalidDatabaseUrl, OtherVersion
from app.outcomes.database import Database, check_version
from app.outcomes.history import settled_age
from app.outcomes.identity import Digests
from app.outcomes.report import Report
from app.outcomes.store import OutcomeStore
from app.outcomes.urls import parsed_url
from app.outcomes.writer import Answered, PredictionWriter
from app.settings import Settings
from app.startup import ConfigurationError, check_database
from loadtest.reliability.running import running_service
from model.jobs import read
from model.jobs.job import Outcome
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running, tiny_read
from tests.app.outcomes import (
    TestDatabase,
    counted,
    database,
    past_runs,
    postgres,
    predict,
    report,
    sqlite_database,
)
from tests.app.series import value_of

__all__ = ["database", "postgres"]
pytestmark = pytest.mark.anyio

SECRET = "a-long-enough-cache-secret-4711"


async def test_two_processes_share_one_database(database: TestDatabase) -> None:
    def process() -> FastAPI:
        return create_app(
            Settings(**database.settings()),
            checkpoint=TinyCheckpoint(),
            engine=WatchedEngine(),
            read=tiny_read,
        )

    first, second = process(), process()
    async with running(first) as here, running(second) as there:
        known = {"request_id": (await predict(here, ask()))["request_id"], "idempotency_key": "run-1"}
        assert await report(here, {**known, "runtime_seconds": 5}) == ["accepted"]
        assert await report(there, {**known, "runtime_seconds": 5}) == ["duplicate"]
        assert past_runs(await predict(there, ask())) == [1]
        # Told of the same prediction at once, one of them counts it.
        outcome = {"request_id": (await predict(here, ask("other")))["request_id"], "cpu_cores": 1}
        await report(here, {**outcome, "status": "killed"})  # so that it is written
        await asyncio.gather(
            *(report(each, {**outcome, "cpu_cores": n}) for each in (here, there) for n in (1, 2))
        )
        compared = [
            await counted(each, "jobcast_coverage_outcomes_total", target="cpu_cores")
            for each in (here, there)
        ]
        assert sum(compared) == 1


async def test_tables_are_made_once_however_many_start_at_once(database: TestDatabase) -> None:
    url = parsed_url(database.url)
    started = [Database(url, lambda _: None, connections=1) for _ in range(6)]
    await asyncio.gather(*(each.start() for each in started))
    assert all(each.up for each in started)
    await asyncio.gather(*(each.close() for each in started))
    assert database.rows("SELECT version FROM jobcast_schema") == [(1,)]


async def test_tables_of_another_release_are_left_alone(database: TestDatabase, make_app: MakeApp) -> None:
    url = parsed_url(database.url)
    await check_version(url)
    if database.server is not None:
        database.server.ask("UPDATE jobcast_schema SET version = 7")
    else:
        assert database.path is not None
        with sqlite3.connect(database.path) as connection:
            connection.execute("UPDATE jobcast_schema SET version = 7")
    with pytest.raises(OtherVersion, match=r"version 7.* needs 1"):
        await check_version(url)
    with pytest.raises(ConfigurationError, match=r"^JOBCAST_DATABASE_URL: its tables have version 7"):
        await asyncio.to_thread(check_database, Settings(**database.settings()))
    async with running(make_app(**database.settings())) as client:
        assert await counted(client, "jobcast_database_up") == 0
        assert past_runs(await predict(client, ask())) == [0]
        assert (await client.post("/outcomes", json={"outcomes": []})).status_code == 503


async def test_every_look_up_goes_by_an_index(make_app: MakeApp, database: TestDatabase) -> None:
    """What the service really asks is explained by the database that it asks."""
    app = make_app(**database.settings(database_connections=1))
    asked: dict[str, tuple[str, Any]] = {}
    async with running(app) as client:
        outcomes = app.state.service._outcomes
        engine = outcomes._database._engine

        def watch(_: object, __: object, statement: str, parameters: Any, *rest: object) -> None:
            asked.setdefault(statement, (statement, parameters))

        event.listen(engine.sync_engine, "before_cursor_execute", watch)
        answer = await predict(client, ask())
        await report(client, {"request_id": answer["request_id"], "runtime_seconds": 5})
        await outcomes.prune()
        event.remove(engine.sync_engine, "before_cursor_execute", watch)
        looks = ("WITH", "SELECT", "DELETE", "UPDATE jobcast_predictions")
        plans: list[str] = []
        async with engine.connect() as connection:
            if not database.sqlite:  # three rows are read faster without any index
                await connection.exec_driver_sql("SET enable_seqscan = off")
            explain = "EXPLAIN QUERY PLAN" if database.sqlite else "EXPLAIN"
            for statement, parameters in asked.values():
                if statement.startswith(looks) and "jobcast_" in statement:
                    told = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
                    plans.append("\n".join(str(row[-1]) for row in told))
    assert len(plans) == 5, asked
    assert not [plan for plan in plans if "SCAN jobcast" in plan or "Seq Scan on jobcast" in plan]
    for index in ("outcomes_series", "predictions_request", "predictions_made_at", "outcomes_finished_at"):
        assert any(f"jobcast_{index}" in plan for plan in plans), plans


async def test_nothing_of_a_job_can_be_read_in_the_database(database: TestDatabase) -> None:
    """Neither names and configs, nor what a client calls its runs, nor what is around them."""
    words = {
        name: f"zebra-{name}-quartz"
        for name in ("config", "repository", "path", "job", "series", "request", "key", "status", "secret")
    }
    workflow = {
        "name": words["config"],
        "on": "push",
        "jobs": {
            words["job"]: {
                "runs-on": "x",
                "env": {"DB_PASSWORD": words["secret"]},
                "steps": [{"run": "make"}],
            }
        },
    }
    context = {"repository": words["repository"], "workflow_path": words["path"]}
    flow: dict[str, object] = {"kind": "github-actions", "config": workflow, "context": context}
    app = create_app(
        Settings(**database.settings(cache_secret=SECRET)),
        checkpoint=TinyCheckpoint(),
        engine=WatchedEngine(),
    )
    async with running(app) as client:
        for body in (flow, {**flow, "series": words["series"]}):
            await predict(client, body, **{"X-Request-Id": words["request"]})
            more = {"job": words["job"], "idempotency_key": words["key"], "status": words["status"]}
            outcomes = [
                {"request_id": words["request"], "runtime_seconds": 5},
                {**body, **more, "cpu_cores": 1},
            ]
            assert "accepted" in await report(client, *outcomes)
        assert past_runs(await predict(client, flow)) == [1, 1]
    contents = database.contents()
    assert len(database.rows("SELECT * FROM jobcast_predictions")) == 6
    for word in (*words.values(), "zebra", "quartz", SECRET):
        assert word.encode() not in contents
        assert word.encode().hex().encode() not in contents
    assert b"github-actions" in contents  # and it was looked at


def test_without_the_secret_nobody_can_check_a_guess() -> None:
    (job,) = read("eda.openroad", "flow: x\nplatform: asap7\ndesign: gcd\nstage: cts\n", {}).jobs
    made = [Digests(secret).identity(job, "text") for secret in (b"", b"one", b"two")]
    assert len({identity.series for identity in made}) == len({identity.text for identity in made}) == 3
    assert {len(identity.series) for identity in made} == {16}


@given(
    st.lists(st.text(max_size=3), min_size=2, max_size=2),
    st.lists(st.text(max_size=3), min_size=2, max_size=2),
)
def test_digests_of_different_parts_differ(one: list[str], other: list[str]) -> None:
    digests = Digests(b"x")
    assert (digests.request(*one) == digests.request(*other)) == (one == other)
    assert digests.request(*one) != digests.idempotency(*one)


@given(st.floats(0, 1e9))
def test_an_age_keeps_its_step_and_its_days(seconds: float) -> None:
    settled = settled_age(seconds)
    assert settled <= seconds
    assert Outcome({}, settled).age_step == Outcome({}, seconds).age_step
    assert settled // 86400 == seconds // 86400
    assert settled_age(settled) == settled


def test_ages_a_minute_apart_are_nearly_always_one() -> None:
    ages = {settled_age(3600 * 5 + 60 * minute) for minute in range(120)}
    assert ages == {4 * 3600}
    assert settled_age(-200) == settled_age(0) == settled_age(3599) == 0


TIMES = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())


@given(st.none() | st.floats(), st.none() | st.text(max_size=30) | TIMES)
def test_a_report_is_taken_or_refused_in_words(value: float | None, finished_at: str | None) -> None:
    now = time.time()
    made = Report({"runtime_seconds": value}, request_id="a", finished_at=finished_at)
    try:
        finished = made.checked(now, 180)
    except InvalidOutcome as refused:
        assert finished_at is None or len(finished_at) < 6 or finished_at not in refused.message
    else:
        assert value is not None and 0 <= value < 1e15
        assert now - 180 * 86400 <= finished <= now + 300


def test_workers_share_a_file(tmp_path: Path) -> None:
    """Two processes, started as a user starts them: whoever is asked knows what the other one was told."""
    settings = sqlite_database(tmp_path).settings(engine="fake", workers=2)
    jobs = [{"kind": "text", "config": f"make {number}"} for number in range(12)]
    with running_service(settings) as service:
        until = time.monotonic() + 60
        while service.logged().count("engine_ready") < 2 and time.monotonic() < until:
            time.sleep(0.05)

        def post(path: str, body: object) -> Any:  # a connection of its own, so that any worker may take it
            response = httpx.post(service.url + path, json=body, timeout=20)
            assert response.status_code == 200, response.text
            return response.json()

        waiting = {post("/predict", job)["request_id"] for job in jobs}
        while waiting and time.monotonic() < until:
            named = sorted(waiting)
            outcomes = [{"request_id": one, "runtime_seconds": 5, "idempotency_key": one} for one in named]
            told = post("/outcomes", {"outcomes": outcomes})["outcomes"]
            waiting -= {one for one, verdict in zip(named, told, strict=True) if "code" not in verdict}
        assert not waiting
        time.sleep(1.1)  # for so long a worker may remember that there was nothing
        assert [past_runs(post("/predict", job)) for job in jobs] == [[1]] * 12
        scraped = httpx.get(f"{service.url}/metrics").text
    assert value_of(scraped, "jobcast_outcomes_total", result="accepted") == 12
    assert value_of(scraped, "jobcast_coverage_outcomes_total", target="runtime_seconds") == 12
    assert value_of(scraped, "jobcast_database_up") == 1
    assert sqlite_database(tmp_path).rows("SELECT count(*) FROM jobcast_predictions") == [(24,)]


async def test_a_file_is_for_its_owner_alone(make_app: MakeApp, tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    assert database.path is not None
    database.path.touch(0o644)
    async with running(make_app(**database.settings())) as client:
        await report(client, {**ask(), "runtime_seconds": 5})
        files = list(tmp_path.glob("outcomes.db*"))
        assert len(files) == 3  # with what is not in the file itself yet
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


WRONG = {
    "nothing": "",
    "no URL": "outcomes.db",
    "another database": "mysql://user:hunter22@host/jobs",
    "a driver of its own": "postgresql+asyncpg://user:hunter22@host/jobs",
    "no host": "postgresql:///jobs",
    "no database": "postgresql://user:hunter22@host",
    "a port that is none": "postgresql://user:hunter22@host:port/jobs",
    "memory": "sqlite://",
    "memory by name": "sqlite:///:memory:",
    "a host of a file": "sqlite://hunter22/outcomes.db",
    "options of a file": "sqlite:///outcomes.db?mode=hunter22",
    "no directory": "sqlite:////nowhere/hunter22/outcomes.db",
}


@pytest.mark.parametrize("url", WRONG.values(), ids=WRONG)
def test_a_wrong_url_stops_the_start_in_one_line_without_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        create_app(Settings(database_url=url), checkpoint=TinyCheckpoint(), engine=WatchedEngine())
    (line,) = told.value.lines
    assert line.startswith("JOBCAST_DATABASE_URL: ") and "\n" not in line
    assert "hunter22" not in line and "nowhere" not in line
    with pytest.raises(ConfigurationError, match=r"^JOBCAST_DATABASE_URL: "):
        check_database(Settings(database_url=url))


def test_a_file_that_is_something_else_is_neither_opened_nor_changed(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    for content in (b"mine, and none of a database's", b"S"):
        file.write_bytes(content)
        file.chmod(0o644)
        with pytest.raises(
            ConfigurationError, match=r"^JOBCAST_DATABASE_URL: the file is there and no database"
        ):
            check_database(Settings(database_url=f"sqlite:///{file}"))  # type: ignore[arg-type]
        assert (file.read_bytes(), file.stat().st_mode & 0o777) == (content, 0o644)
    file.write_bytes(b"")  # as `touch` makes it
    check_database(Settings(database_url=f"sqlite:///{file}"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be read: IsADirectoryError"):
        check_database(Settings(database_url=f"sqlite:///{tmp_path}"))  # type: ignore[arg-type]


def test_options_of_a_server_are_passed_on() -> None:
    url = parsed_url("postgresql://user:p%40ss@db.example.org:6432/jobs?sslmode=verify-full")
    assert (url.password, url.port, dict(url.query)) == ("p@ss", 6432, {"sslmode": "verify-full"})
    with pytest.raises(InvalidDatabaseUrl):
        parsed_url("postgres://user@host/jobs")


def answered(number: int, size: int) -> Answered:
    digest = number.to_bytes(16)
    names = ("request", "name", "series", "config")
    plain = {"made_at": 1.0, "kind": "text", "scope": "job", "written_name": None, "quantiles": "{}"}
    return Answered(digest, size, lambda: [{**dict.fromkeys(names, digest), **plain}] * size)


async def test_what_has_no_room_is_counted_and_nobody_waits(tmp_path: Path) -> None:
    database = Database(parsed_url(sqlite_database(tmp_path).url), lambda _: None, connections=2)
    metrics = Metrics()
    writer = PredictionWriter(OutcomeStore(database, connections=2), metrics, room=5)

    def unrecorded() -> float | None:
        return metrics.registry.get_sample_value("jobcast_predictions_unrecorded_total")

    await database.start()
    first, second, third = answered(1, 3), answered(2, 3), answered(3, 2)
    writer.remember(first)
    writer.remember(second)  # all of an answer or nothing of it
    assert unrecorded() == 3
    writer.remember(third)
    assert writer.holds({third.request}) and not writer.holds({second.request})
    writer.start()
    await writer.flush(10)
    assert not writer.holds({third.request})
    writer.remember(answered(4, 1))
    await writer.close(10)
    assert sqlite_database(tmp_path).rows("SELECT count(*) FROM jobcast_predictions") == [(6,)]
    assert unrecorded() == 3
    await database.close()


async def test_what_cannot_be_written_at_the_end_is_counted(tmp_path: Path) -> None:
    database = Database(parsed_url(sqlite_database(tmp_path).url), lambda _: None, connections=1)
    metrics = Metrics()
    writer = PredictionWriter(OutcomeStore(database, connections=2), metrics)
    writer.remember(answered(1, 2))
    await writer.close(0)
    assert metrics.registry.get_sample_value("jobcast_predictions_unrecorded_total") == 2
    await database.close()


async def test_a_file_that_another_program_holds_is_not_the_end(make_app: MakeApp, tmp_path: Path) -> None:
    """A database that answers and refuses is asked on: reads go on while nothing can be written."""
    database = sqlite_database(tmp_path)
    async with running(make_app(**database.settings())) as client:
        assert await report(client, {**ask(), "runtime_seconds": 5}) == ["accepted"]
        with sqlite3.connect(database.path or "", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert past_runs(await predict(client, ask())) == [1]
            response = await client.post("/outcomes", json={"outcomes": [{**ask("x"), "runtime_seconds": 5}]})
            assert (response.status_code, response.json()["code"]) == (503, "outcomes_unavailable")
            assert response.headers["Retry-After"] == "2"
            other.execute("ROLLBACK")
