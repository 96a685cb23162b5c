"""The database of outcomes killed, frozen and started again while requests come in, and what a look-up in it costs."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.postgres_server import PostgresServer, postgres_server
from loadtest.reliability.bodies import KNOWN, half_new_request, text_request
from loadtest.reliability.client import Client, client, stay_on
from loadtest.reliability.faults import HOW, ROUNDS, Fault, measured
from loadtest.reliability.results import save
from loadtest.reliability.running import RunningService, running_service

FAULTS = [
    Fault("killed", PostgresServer.kill, PostgresServer.start),
    Fault("frozen", PostgresServer.freeze, PostgresServer.thaw),
    Fault("restarted", PostgresServer.restart, lambda _: None),
]
_ANSWERS = 2000


def run(rounds: int = ROUNDS, answers: int = _ANSWERS) -> bool:
    """Per fault: failures, latency added at first and then, time until it is used again; and what a look-up costs."""
    stay_on(1)
    unrecorded = {"predictions not remembered": "jobcast_predictions_unrecorded_total"}
    bounds, more = measured(FAULTS, _running, half_new_request, "jobcast_database_up", rounds, unrecorded)
    return save(
        "database",
        "Short scripts, half of them new, half with past runs in a PostgreSQL on the same machine, an engine without "
        f"weights, so that what the database does shows. {HOW} A look-up: p50 of {answers} answers from the cache, "
        "asked one after another, to a request that says nothing of past runs, less those to one that says that there "
        "are none.",
        bounds,
        more | _look_ups(answers),
    )


@contextmanager
def _running() -> Iterator[tuple[PostgresServer, RunningService]]:
    """A database of its own, and a service that has been told of some jobs."""
    with (
        postgres_server() as postgres,
        running_service({"database_url": postgres.url, "engine": "fake"}, core=0) as service,
    ):
        asyncio.run(_report(service.url))
        yield postgres, service


def _look_ups(answers: int) -> dict[str, float]:
    """What a look-up adds to the median of a cached answer, in ms."""
    with _running() as (_, service):
        medians = asyncio.run(_medians(service.url, answers))
    return {
        "cached answer without a look-up: p50, ms": medians[False],
        "added by a look-up: p50, ms": medians[True] - medians[False],
    }


async def _medians(url: str, answers: int) -> dict[bool, float]:
    bodies = {
        True: text_request(2, targets=["runtime_seconds"], quantiles=[0.5]),
        False: text_request(2, targets=["runtime_seconds"], quantiles=[0.5], history=[]),
    }
    taken: dict[bool, list[float]] = {True: [], False: []}
    async with client(url) as asking:
        for number in range(answers + 50):
            for looked_up, body in bodies.items():  # in turns: whatever else the machine does meets both
                began = time.perf_counter()
                answer, _ = await asking.post(body)
                if number >= 50 and answer.status == 200:
                    taken[looked_up].append(1000 * (time.perf_counter() - began))
    return {looked_up: statistics.median(seconds) for looked_up, seconds in taken.items()}


async def _report(url: str) -> None:
    """Three outcomes of each job that half of the requests are about."""
    async with client(url) as asking:
        for number in range(0, KNOWN, 2):
            await _outcomes(asking, number)


async def _outcomes(asking: Client, number: int) -> None:
    job = json.loads(text_request(number))
    outcomes = [
        {**job, "runtime_seconds": 300 + run, "idempotency_key": f"{number}-{run}"} for run in range(3)
    ]
    answer, content = await asking.post(json.dumps({"outcomes": outcomes}).encode(), path="/outcomes")
    if answer.status != 200 or b"code" in content:
        raise RuntimeError("the outcomes were not taken")
