"""Redis that is killed, frozen, flushed and started again while requests come in."""

import asyncio
import time
from collections.abc import Callable

from loadtest.redis_server import RedisServer, redis_server
from loadtest.reliability.bodies import text_request
from loadtest.reliability.client import Answers, client, stay_on
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_PER_SECOND, _BEFORE, _DURING, _AFTER = 50.0, 20.0, 20.0, 10.0
#: A fault is met within this; afterwards nobody should notice it.
_FIRST_SECONDS = 1.0


def run() -> bool:
    """Per fault: failures, latency added at first and then, time until Redis is used again."""
    stay_on(1)
    faults: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
        "killed": (RedisServer.kill, RedisServer.start),
        "frozen": (RedisServer.freeze, RedisServer.thaw),
        "flushed": (RedisServer.flush, lambda _: None),
        "restarted": (RedisServer.restart, lambda _: None),
    }
    bounds: list[Bound] = []
    more: dict[str, float] = {}
    for name, (begin, end) in faults.items():
        with redis_server() as redis:
            # What one process remembers would hide what Redis does.
            settings = {"redis_url": redis.url, "cache_entries": 0, "engine": "fake"}
            with running_service(settings, core=0) as service:
                answers, moments, back = asyncio.run(_under_load(service, redis, begin, end))
        started, ended = moments
        before = answers.quantile(0.99, until=started)
        first = answers.quantile(0.99, since=started, until=started + _FIRST_SECONDS)
        then = answers.quantile(0.99, since=started + _FIRST_SECONDS, until=ended)
        bounds += [
            Bound(f"{name}: failed requests", answers.failed(also=(429,)), at_most=0),
            Bound(f"{name}: p99 added in the first second", 1000 * (first - before), at_most=60, unit="ms"),
            Bound(f"{name}: p99 added after it", 1000 * (then - before), at_most=1, unit="ms"),
            Bound(f"{name}: back in use after", back, at_most=5, unit="s"),
        ]
        more |= {
            f"{name}: requests": float(len(answers)),
            f"{name}: p50 before, ms": 1000 * answers.quantile(0.5, until=started),
            f"{name}: p50 during, ms": 1000
            * answers.quantile(0.5, since=started + _FIRST_SECONDS, until=ended),
            f"{name}: p99 before, ms": 1000 * before,
        }
    return save(
        "redis",
        f"{_PER_SECOND:.0f} requests a second at random moments, short scripts, half of them new, half asked "
        "before, no cache in the process and an engine without weights, so that what Redis does shows; "
        f"{_BEFORE:.0f} s before the fault, "
        f"{_DURING:.0f} s of it, {_AFTER:.0f} s after it. The first second of a fault is counted apart.",
        bounds,
        more,
    )


async def _under_load(
    service: RunningService,
    redis: RedisServer,
    begin: Callable[[RedisServer], None],
    end: Callable[[RedisServer], None],
) -> tuple[Answers, tuple[float, float], float]:
    def body(number: int) -> bytes:
        shown = number if number % 2 else number % 40
        return text_request(shown, targets=["runtime_seconds"], quantiles=[0.5])

    async with client(service.url) as asking:
        for number in range(60):  # warm
            await asking.post(body(number))
        load = asyncio.create_task(asking.open_loop(body, _PER_SECOND, _BEFORE + _DURING + _AFTER))
        await asyncio.sleep(_BEFORE)
        started = time.perf_counter()
        await asyncio.to_thread(begin, redis)
        await asyncio.sleep(_DURING)
        ended = time.perf_counter()
        await asyncio.to_thread(end, redis)
        back = await asyncio.to_thread(_until_used, service)
        return await load, (started, ended), back


def _until_used(service: RunningService) -> float:
    began = time.perf_counter()
    while service.metric("jobcast_shared_cache_up") != 1.0:
        if time.perf_counter() - began > 30:
            break
        time.sleep(0.05)
    return time.perf_counter() - began
