"""What an answer from the cache costs, and that equal questions are computed once."""

import asyncio
import time

import numpy as np

from loadtest.redis_server import redis_server
from loadtest.reliability.bodies import reordered, workflow_request
from loadtest.reliability.client import Client, client, stay_on
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_ASKED, _CLIENTS, _SECONDS = 2000, 16, 10.0
_AT_ONCE = 50


def run() -> bool:
    """Latency and throughput of cached answers, in process and through Redis; engine calls of equal questions."""
    stay_on(1)
    return asyncio.run(_run())


async def _run() -> bool:
    body = workflow_request(1)
    more: dict[str, float] = {"body, bytes": float(len(body))}
    with running_service(core=0) as service:
        async with client(service.url) as asking:
            p50, p99 = await _latency(asking, body)
            throughput = await _throughput(asking, [body])
            # A new order of the keys is new bytes: parsed again, hashed, and found by its content.
            variants = [reordered(workflow_request(1, deadline_ms=1000 + place)) for place in range(50_000)]
            parsed_again = await _throughput(asking, variants)
            calls = await _calls_of_equal_questions([service])
    with redis_server() as redis:
        settings = {"redis_url": redis.url, "cache_entries": 0}
        with running_service(settings, core=0) as first, running_service(settings, core=0) as second:
            async with client(first.url) as asking:
                through_redis, redis_p99 = await _latency(asking, body)
            both = await _calls_of_equal_questions([first, second])
    more |= {
        "p99 in process, ms": p99,
        "p99 through Redis, ms": redis_p99,
        "requests a second with other bytes of the same content, parsed again": parsed_again,
    }
    return save(
        "cache",
        f"One workflow of {len(body)} bytes, asked again and again over kept connections; the service on one core, its "
        f"clients on the other. Throughput with {_CLIENTS} clients. Through Redis: no memory of its own. Equal "
        f"questions: {_AT_ONCE} at once that nobody has asked before.",
        [
            Bound("cached answer in process, p50", p50, at_most=1.5, unit="ms"),
            Bound("cached answer through Redis, p50", through_redis, at_most=3.0, unit="ms"),
            Bound("repeated equal bodies on one core", throughput, at_least=1000, unit="requests/s"),
            Bound("engine calls of 50 equal requests, one process", calls, at_most=1),
            Bound("engine calls of 50 equal requests, two processes with Redis", both, at_most=1),
        ],
        more,
    )


async def _latency(asking: Client, body: bytes) -> tuple[float, float]:
    """p50 and p99 in milliseconds, one after another."""
    taken = []
    for number in range(_ASKED + 200):
        answer, _ = await asking.post(body)
        assert answer.status == 200
        if number >= 200:
            taken.append(1000 * answer.seconds)
    return float(np.median(taken)), float(np.quantile(taken, 0.99))


async def _throughput(asking: Client, bodies: list[bytes]) -> float:
    answers = await asking.closed_loop(lambda number: bodies[number % len(bodies)], _CLIENTS, _SECONDS)
    assert answers.by_status().keys() == {200}
    return len(answers) / _SECONDS


async def _calls_of_equal_questions(services: list[RunningService]) -> float:
    before = sum(_calls(service) for service in services)
    body = workflow_request(time.time_ns())
    async with client(services[0].url) as first, client(services[-1].url) as last:
        turns = [first, last] * (_AT_ONCE // 2)
        answers = await asyncio.gather(*(asking.post(body) for asking in turns))
    assert {answer.status for answer, _ in answers} == {200}
    return sum(_calls(service) for service in services) - before


def _calls(service: RunningService) -> float:
    return service.metric("jobcast_batch_size_count")
