"""Redis that is killed, frozen, flushed and started again while requests come in."""

import asyncio
from collections.abc import Callable
from functools import partial

from loadtest.redis_server import RedisServer, redis_server
from loadtest.reliability.bodies import text_request
from loadtest.reliability.client import stay_on
from loadtest.reliability.faults import PER_SECOND, Phases, under_load
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import running_service

_FAULTS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
    "flushed": (RedisServer.flush, lambda _: None),
    "restarted": (RedisServer.restart, lambda _: None),
}


def run(phases: Phases = Phases()) -> bool:  # noqa: B008
    """Per fault: failures, latency added at first and then, time until Redis is used again."""
    stay_on(1)
    bounds: list[Bound] = []
    more: dict[str, float] = {}
    for name, (begin, end) in _FAULTS.items():
        with redis_server() as redis:
            # What one process remembers would hide what Redis does.
            settings = {"redis_url": redis.url, "cache_entries": 0, "engine": "fake"}
            with running_service(settings, core=0) as service:
                fault = under_load(
                    service,
                    _body,
                    partial(begin, redis),
                    partial(end, redis),
                    "jobcast_shared_cache_up",
                    phases,
                )
                found = asyncio.run(fault)
        bounds += found.bounds(name)
        more |= found.more(name)
    return save(
        "redis",
        f"{PER_SECOND:.0f} requests a second at random moments, short scripts, half of them new, half asked "
        "before, no cache in the process and an engine without weights, so that what Redis does shows; "
        f"{phases.before:.0f} s before the fault, "
        f"{phases.during:.0f} s of it, {phases.after:.0f} s after it. The first second of a fault is counted apart.",
        bounds,
        more,
    )


def _body(number: int) -> bytes:
    shown = number if number % 2 else number % 40
    return text_request(shown, targets=["runtime_seconds"], quantiles=[0.5])
