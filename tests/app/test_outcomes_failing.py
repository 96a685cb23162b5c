"""A PostgreSQL that is killed, frozen, restarted or away: predictions go on, and it is used again once it answers."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from app.outcomes.database import Database
from app.outcomes.urls import parsed_url
from loadtest.postgres_server import MISSING, PostgresServer, postgres_server
from tests.app.fakes import MakeApp, ask, running, until, until_metric
from tests.app.outcomes import PATIENCE_MS, counted, past_runs, predict, report

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

WARNING = "past runs could not be looked up: this answer knows none"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that only these tests break."""
    with postgres_server() as made:
        yield made


def settings(server: PostgresServer, **more: Any) -> dict[str, Any]:
    return {"database_url": server.url, "database_timeout_ms": PATIENCE_MS, **more}


async def unavailable(client: httpx.AsyncClient) -> bool:
    response = await client.post("/outcomes", json={"outcomes": [{**ask("away"), "runtime_seconds": 5}]})
    if response.status_code == 200:
        return False
    assert (response.status_code, response.json()["code"]) == (503, "outcomes_unavailable")
    assert response.headers["Retry-After"] == "2" and response.json()["retry_after_seconds"] == 2
    return True


FAULTS: dict[str, tuple[Callable[[PostgresServer], None], Callable[[PostgresServer], None]]] = {
    "killed": (PostgresServer.kill, PostgresServer.start),
    "frozen": (PostgresServer.freeze, PostgresServer.thaw),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_predictions_go_on_without_it_and_with_it_again(
    make_app: MakeApp, server: PostgresServer, fault: str
) -> None:
    begin, end = FAULTS[fault]
    job = ask(f"make {fault}")
    # A time-out that a frozen server is sure to exceed, and that does not make the test wait.
    async with running(make_app(**settings(server, database_timeout_ms=300))) as client:
        await until_metric(client, "jobcast_database_up 1.0")
        first = await predict(client, job)
        outcome = {"request_id": first["request_id"], "runtime_seconds": 5, "idempotency_key": fault}
        assert await report(client, outcome) == ["accepted"]
        await asyncio.to_thread(begin, server)
        try:
            answers = await asyncio.gather(*(predict(client, job) for _ in range(20)))
            assert [past_runs(answer) for answer in answers] == [[0]] * 20
            assert all(answer["predictions"][0]["warnings"][0] == WARNING for answer in answers)
            assert await unavailable(client)
            during = await predict(client, ask(f"during {fault}"))
            assert (await client.get("/health/ready")).status_code == 200
            assert await counted(client, "jobcast_database_up") == 0
            assert await counted(client, "jobcast_history_total", result="error") == 21
        finally:
            await asyncio.to_thread(end, server)
        await until_metric(client, "jobcast_database_up 1.0")
        await until(lambda: _knows(client, job, 1), 10)
        # What was asked meanwhile was remembered, and nothing that was kept is lost.
        await until(lambda: _accepted(client, {"request_id": during["request_id"], "cpu_cores": 1}), 10)
        assert await report(client, outcome) == ["duplicate"]
        assert await counted(client, "jobcast_predictions_unrecorded_total") == 0


async def test_a_restart_costs_no_answer(make_app: MakeApp, server: PostgresServer) -> None:
    async with running(make_app(**settings(server))) as client:
        job = ask("make restarted")
        await report(client, {**job, "runtime_seconds": 5})
        asking = asyncio.create_task(_ask_until_stopped(client, job, stop := asyncio.Event()))
        await asyncio.to_thread(server.restart)
        await until_metric(client, "jobcast_database_up 1.0")
        await until(lambda: _knows(client, job, 1), 10)
        stop.set()
        assert await asking > 0


@pytest.mark.parametrize("when", ["while it is asked for", "while it is opened", "while it is used"])
async def test_no_connection_is_left_after_a_failure(server: PostgresServer, when: str) -> None:
    database = Database(parsed_url(server.url), lambda _: None, connections=3)
    used: list[Any] = []

    def fail(*_: object) -> None:
        database._failed(TimeoutError())

    async def work(connection: AsyncConnection) -> None:
        used.append((await connection.get_raw_connection()).driver_connection)
        if when == "while it is used":
            fail()

    await database.start()
    if when == "while it is opened":
        await database._engine.dispose()
        event.listen(database._engine.sync_engine, "do_connect", fail)
    asking = asyncio.create_task(database.run(work, 5))
    if when == "while it is asked for":  # by a task that has not begun
        await asyncio.sleep(0)
        fail()
    await asking
    if when == "while it is opened":
        event.remove(database._engine.sync_engine, "do_connect", fail)
    await until(lambda: database.up, 10)
    await database.close()
    assert used[0].closed


async def test_a_service_starts_without_its_database(make_app: MakeApp, server: PostgresServer) -> None:
    server.kill()
    try:
        async with running(make_app(**settings(server))) as client:
            assert past_runs(await predict(client, ask("early"))) == [0]
            assert await unavailable(client)
            await asyncio.to_thread(server.start)
            await until_metric(client, "jobcast_database_up 1.0")
            await until(lambda: _accepted(client, {**ask("early"), "runtime_seconds": 5}), 10)
            assert past_runs(await predict(client, ask("early"))) == [1]
    finally:
        await asyncio.to_thread(server.restart)


async def test_a_service_ends_while_its_database_hangs(make_app: MakeApp, server: PostgresServer) -> None:
    try:
        async with (
            asyncio.timeout(30),
            running(make_app(**settings(server, database_timeout_ms=100))) as client,
        ):
            await predict(client, ask())
            server.freeze()
            assert past_runs(await predict(client, ask("frozen"))) == [0]
            await until_metric(client, "jobcast_database_up 0.0")
    finally:
        server.thaw()


async def test_a_login_that_is_refused_is_no_reason_to_fail(
    make_app: MakeApp, server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url.replace("correct-horse", "wrong-horse")
    async with running(make_app(**settings(server, database_url=url))) as client:
        assert past_runs(await predict(client, ask())) == [0]
        assert await counted(client, "jobcast_database_up") == 0
    written = capsys.readouterr()
    assert "database_unavailable" in written.out
    assert "horse" not in written.out + written.err


async def test_a_user_who_may_not_make_tables_can_use_those_that_are_there(server: PostgresServer) -> None:
    owner = Database(parsed_url(server.url), lambda _: None, connections=1)
    await owner.start()
    await owner.close()
    for statement in (
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN PASSWORD 'reads'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reader",
    ):
        server.ask(statement)
    url = f"postgresql://reader:reads@127.0.0.1:{server.port}/jobcast"
    guest = Database(parsed_url(url), lambda _: None, connections=1)
    await guest.start()
    assert guest.up
    await guest.close()
    server.ask("DROP OWNED BY reader")


async def _knows(client: httpx.AsyncClient, job: dict[str, object], runs: int) -> bool:
    return past_runs(await predict(client, job)) == [runs]


async def _accepted(client: httpx.AsyncClient, outcome: dict[str, object]) -> bool:
    response = await client.post("/outcomes", json={"outcomes": [outcome]})
    return response.status_code == 200 and response.json()["outcomes"][0]["status"] in (
        "accepted",
        "duplicate",
    )


async def _ask_until_stopped(client: httpx.AsyncClient, job: dict[str, object], stop: asyncio.Event) -> int:
    answered = 0
    while not stop.is_set():
        await predict(client, job)  # which fails where the answer is not 200
        answered += 1
        await asyncio.sleep(0.01)
    return answered
