"""The database of outcomes killed, frozen and started again while requests come in, and what a look-up in it costs."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from loadtest.postgres_server import PostgresServer, postgres_server
from loadtest.reliability.bodies import text_request
from loadtest.reliability.client import Client, client, stay_on
from loadtest.reliability.faults import PER_SECOND, Phases, under_load
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_FAULTS: dict[str, tuple[Callable[[PostgresServer], None], Callable[[PostgresServer], None]]] = {
    "killed": (PostgresServer.kill, PostgresServer.start),
    "frozen": (PostgresServer.freeze, PostgresServer.thaw),
    "restarted": (PostgresServer.restart, lambda _: None),
}
#: Jobs that were reported before, so that half of the requests find past runs.
_KNOWN = 40
_ANSWERS = 2000


def run(phases: Phases = Phases(), answers: int = _ANSWERS) -> bool:  # noqa: B008
    """Per fault: failures, latency added at first and then, time until it is used again; and what a look-up costs."""
    stay_on(1)
    bounds: list[Bound] = []
    more: dict[str, float] = {}
    for name, (begin, end) in _FAULTS.items():
        with _with_store() as (postgres, service):
            faulty = under_load(
                service,
                _body,
                partial(begin, postgres),
                partial(end, postgres),
                "jobcast_database_up",
                phases,
            )
            found = asyncio.run(faulty)
            unrecorded = service.metric("jobcast_predictions_unrecorded_total")
        bounds += found.bounds(name)
        more |= found.more(name) | {f"{name}: predictions not remembered": unrecorded}
    more |= _look_ups(answers)
    return save(
        "database",
        f"{PER_SECOND:.0f} requests a second at random moments, short scripts, half of them new, half with past runs "
        "in a PostgreSQL on the same machine, an engine without weights, so that what the database does shows; "
        f"{phases.before:.0f} s before the fault, {phases.during:.0f} s of it, {phases.after:.0f} s after it. "
        f"The first second of a fault is counted apart. A look-up: p50 of {answers} answers from the cache, asked one "
        "after another, to a request that says nothing of past runs, less those to one that says that there are none.",
        bounds,
        more,
    )


@contextmanager
def _with_store() -> Iterator[tuple[PostgresServer, RunningService]]:
    """A database of its own, and a service that has been told of some jobs."""
    with (
        postgres_server() as postgres,
        running_service({"database_url": postgres.url, "engine": "fake"}, core=0) as service,
    ):
        asyncio.run(_report(service.url))
        yield postgres, service


def _look_ups(answers: int) -> dict[str, float]:
    """What a look-up adds to the median of a cached answer, in ms."""
    with _with_store() as (_, service):
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


def _body(number: int) -> bytes:
    shown = number if number % 2 else number % _KNOWN
    return text_request(shown, targets=["runtime_seconds"], quantiles=[0.5])


async def _report(url: str) -> None:
    """Three outcomes of each job that half of the requests are about."""
    async with client(url) as asking:
        for number in range(0, _KNOWN, 2):
            await _outcomes(asking, number)


async def _outcomes(asking: Client, number: int) -> None:
    job = json.loads(text_request(number))
    outcomes = [
        {**job, "runtime_seconds": 300 + run, "idempotency_key": f"{number}-{run}"} for run in range(3)
    ]
    answer, content = await asking.post(json.dumps({"outcomes": outcomes}).encode(), path="/outcomes")
    if answer.status != 200 or b"code" in content:
        raise RuntimeError("the outcomes were not taken")
