"""Faults of a server beside the service, while requests come in: who fails, how much slower it gets, when it is used
again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from loadtest.pace import Pace, watched_pace
from loadtest.reliability.client import Answers, client
from loadtest.reliability.results import Bound
from loadtest.reliability.running import RunningService

_Server = TypeVar("_Server")

PER_SECOND, BEFORE, DURING, AFTER = 50.0, 20.0, 20.0, 10.0
#: A fault is met within this; afterwards nobody should notice it.
FIRST_SECONDS = 1.0
#: The p99 of a phase is its tenth-slowest request: single rounds differ by milliseconds.
ROUNDS = 3
HOW = (
    f"{PER_SECOND:.0f} requests a second at random moments; {BEFORE:.0f} s before the fault, {DURING:.0f} s of it, "
    f"{AFTER:.0f} s after it. The first second of a fault is counted apart. {ROUNDS} rounds, each with a service and a "
    "server of its own: failures are those of all, the time until it is used again is the longest, latencies are "
    "medians over the rounds. Requests that were due while the machine itself was slow, as a probe beside them saw, "
    "count as requests but not in the latencies."
)


@dataclass(frozen=True)
class Fault(Generic[_Server]):
    """What happens to the server, and what ends it."""

    name: str
    begin: Callable[[_Server], None]
    end: Callable[[_Server], None]


@dataclass(frozen=True)
class _Round:
    """Latencies in ms."""

    requests: int
    failed: int
    left_out: int
    p50_before: float
    p99_before: float
    p50_during: float
    p99_first: float
    p99_then: float
    back_seconds: float


def measured(
    faults: Sequence[Fault[_Server]],
    running: Callable[[], AbstractContextManager[tuple[_Server, RunningService]]],
    body: Callable[[int], bytes],
    up: str,
    rounds: int = ROUNDS,
    counted: Mapping[str, str] | None = None,
) -> tuple[list[Bound], dict[str, float]]:
    """Bounds and further figures of every fault.

    running: a server and a service that uses it; body: the request of a number; up: the gauge that says whether the
    service uses the server; counted: further counters of the service, by what the page calls them.
    """
    bounds: list[Bound] = []
    more: dict[str, float] = {}
    for fault in faults:
        name = fault.name
        found = []
        for number in range(rounds):
            with running() as (server, service):
                found.append(asyncio.run(_under_load(service, server, fault, body, up, number)))
                for what, metric in (counted or {}).items():
                    more[f"{name}: {what}"] = more.get(f"{name}: {what}", 0.0) + service.metric(metric)
        first = [one.p99_first - one.p99_before for one in found]
        then = [one.p99_then - one.p99_before for one in found]
        bounds += [
            Bound(f"{name}: failed requests", sum(one.failed for one in found), at_most=0),
            Bound(f"{name}: p99 added in the first second", median(first), at_most=60, unit="ms"),
            Bound(f"{name}: p99 added after it", median(then), at_most=1, unit="ms"),
            Bound(f"{name}: back in use after", max(one.back_seconds for one in found), at_most=5, unit="s"),
        ]
        more |= {
            f"{name}: requests": sum(one.requests for one in found),
            f"{name}: due while the machine was slow": sum(one.left_out for one in found),
            f"{name}: p50 before, ms": median(one.p50_before for one in found),
            f"{name}: p50 during, ms": median(one.p50_during for one in found),
            f"{name}: p99 before, ms": median(one.p99_before for one in found),
            f"{name}: p99 added after the first second, least, ms": min(then),
            f"{name}: p99 added after the first second, most, ms": max(then),
        }
    return bounds, more


async def _under_load(
    service: RunningService,
    server: _Server,
    fault: Fault[_Server],
    body: Callable[[int], bytes],
    up: str,
    seed: int,
) -> _Round:
    async with client(service.url) as asking:
        for number in range(60):  # warm
            await asking.post(body(number))
        with watched_pace() as pace:
            load = asyncio.create_task(asking.open_loop(body, PER_SECOND, BEFORE + DURING + AFTER, seed=seed))
            await asyncio.sleep(BEFORE)
            started = time.perf_counter()
            await asyncio.to_thread(fault.begin, server)
            await asyncio.sleep(DURING)
            ended = time.perf_counter()
            await asyncio.to_thread(fault.end, server)
            back = await asyncio.to_thread(_until_used, service, up)
            answers = await load
    return _round(answers, pace, started, ended, back)


def _round(answers: Answers, pace: Pace, started: float, ended: float, back: float) -> _Round:
    # By the moments at which they were due alone: how long an answer took must not decide whether it counts.
    steady = Answers([answer for answer in answers.answers if not pace.was_slow(answer.due)])

    def ms(tau: float, since: float, until: float) -> float:
        return 1000 * steady.quantile(tau, since=since, until=until)

    first = started + FIRST_SECONDS
    return _Round(
        requests=len(answers),
        failed=answers.failed(also=(429,)),
        left_out=len(answers) - len(steady),
        p50_before=ms(0.5, 0.0, started),
        p99_before=ms(0.99, 0.0, started),
        p50_during=ms(0.5, first, ended),
        p99_first=ms(0.99, started, first),
        p99_then=ms(0.99, first, ended),
        back_seconds=back,
    )


def _until_used(service: RunningService, up: str) -> float:
    began = time.perf_counter()
    while service.metric(up) != 1.0 and time.perf_counter() - began < 30:
        time.sleep(0.05)
    return time.perf_counter() - began
