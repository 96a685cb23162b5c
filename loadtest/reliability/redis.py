"""Redis that is killed, frozen, flushed and started again while requests come in."""

from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.redis_server import RedisServer, redis_server
from loadtest.reliability.bodies import half_new_request
from loadtest.reliability.client import stay_on
from loadtest.reliability.faults import HOW, ROUNDS, Fault, measured
from loadtest.reliability.results import save
from loadtest.reliability.running import RunningService, running_service

FAULTS = [
    Fault("killed", RedisServer.kill, RedisServer.start),
    Fault("frozen", RedisServer.freeze, RedisServer.thaw),
    Fault("flushed", RedisServer.flush, lambda _: None),
    Fault("restarted", RedisServer.restart, lambda _: None),
]


def run(rounds: int = ROUNDS) -> bool:
    """Per fault: failures, latency added at first and then, time until Redis is used again."""
    stay_on(1)
    bounds, more = measured(FAULTS, _running, half_new_request, "jobcast_shared_cache_up", rounds)
    return save(
        "redis",
        "Short scripts, half of them new, half asked before, no cache in the process and an engine without weights, "
        f"so that what Redis does shows. {HOW}",
        bounds,
        more,
    )


@contextmanager
def _running() -> Iterator[tuple[RedisServer, RunningService]]:
    with redis_server() as redis:
        # What one process remembers would hide what Redis does.
        settings = {"redis_url": redis.url, "cache_entries": 0, "engine": "fake"}
        with running_service(settings, core=0) as service:
            yield redis, service
