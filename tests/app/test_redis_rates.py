"""Rates counted in a real Redis by several processes, and what a Redis that fails changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.auth.keys import digest_of, new_key
from app.auth.limiter import MemoryRateLimiter, RateLimiter
from app.auth.rates import Rate
from app.auth.redis_limiter import RedisRateLimiter
from app.cache.redis_client import redis_client
from loadtest.ports import free_port
from loadtest.redis_server import MISSING, RedisServer, redis_server, wait_for
from tests.app.fakes import MakeApp, ask, running, until

pytestmark = pytest.mark.anyio
needs_redis = pytest.mark.skipif(bool(MISSING), reason=MISSING)

#: Far more than the service's own: a slow machine must not look like a broken Redis.
PATIENCE = 1.0
PLENTY = Rate(1000, 60)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@contextlib.asynccontextmanager
async def limiter_at(url: str, seconds: float = PATIENCE) -> AsyncIterator[RedisRateLimiter]:
    limiter = RedisRateLimiter(redis_client(url, seconds), timeout_seconds=seconds, prefix="t")
    try:
        yield limiter
    finally:
        await limiter.close()


@needs_redis
async def test_two_processes_share_one_rate(redis: RedisServer) -> None:
    rate = Rate(10, 3600)
    async with limiter_at(redis.url) as one, limiter_at(redis.url) as other:
        found = [await limiter.take("ci", rate, 1) for _ in range(8) for limiter in (one, other)]
        assert [standing.allowed for standing in found] == [True] * 10 + [False] * 6
        assert (await one.take("ops", rate, 10)).allowed
        assert not (await other.take("ops", rate, 1)).allowed
        refused = found[-1]
        assert refused.remaining == 0
        assert 0 < refused.reset_seconds <= 3600
        assert 0 < refused.retry_seconds <= 7200
    assert all(key.startswith(b"t:rate:") for key in redis.contents())


@needs_redis
async def test_the_time_to_retry_is_enough(redis: RedisServer) -> None:
    rate = Rate(4, 1)
    async with limiter_at(redis.url) as limiter:
        for _ in range(4):
            assert (await limiter.take("ci", rate, 1)).allowed
        refused = await limiter.take("ci", rate, 2)
        assert not refused.allowed
        await asyncio.sleep(refused.retry_seconds + 0.05)
        assert (await limiter.take("ci", rate, 2)).allowed


@needs_redis
async def test_a_redis_that_dies_and_comes_back(redis: RedisServer) -> None:
    rate = Rate(3, 3600)
    async with limiter_at(redis.url) as limiter:
        for _ in range(3):
            assert (await limiter.take("ci", rate, 1)).allowed
        assert not (await limiter.take("ci", rate, 1)).allowed
        redis.kill()
        # This process begins to count by itself, with the whole rate.
        granted = [(await limiter.take("ci", rate, 1)).allowed for _ in range(5)]
        assert granted == [True, True, True, False, False]
        redis.start()

        async def shared_again() -> bool:
            return (await limiter.take("ci", rate, 1)).allowed

        await until(shared_again, 10)  # the new server is empty
        assert redis.contents()


@needs_redis
async def test_a_frozen_redis_costs_one_time_out_and_refuses_nobody(redis: RedisServer) -> None:
    async with limiter_at(redis.url, 0.05) as limiter:
        await limiter.take("ci", PLENTY, 1)
        redis.freeze()
        start = time.perf_counter()
        assert (await limiter.take("ci", PLENTY, 1)).allowed
        assert time.perf_counter() - start < 0.5
        start = time.perf_counter()
        for _ in range(100):
            assert (await limiter.take("ci", PLENTY, 1)).allowed
        assert time.perf_counter() - start < 0.25


@needs_redis
async def test_a_redis_that_takes_no_writes_refuses_nobody(redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", "1")
    async with limiter_at(redis.url) as limiter:
        granted = [(await limiter.take("ci", Rate(3, 3600), 1)).allowed for _ in range(4)]
    assert granted == [True, True, True, False]


@needs_redis
async def test_a_cluster_counts_too() -> None:
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for("cluster_state:ok", client)
        url = f"redis+cluster://127.0.0.1:{node.port}"
        async with limiter_at(url) as one, limiter_at(url) as other:
            found = [await limiter.take("ci", Rate(4, 3600), 1) for _ in range(3) for limiter in (one, other)]
        assert [standing.allowed for standing in found] == [True] * 4 + [False] * 2
        assert any(key.startswith(b"t:rate:") for key in node.contents())


@needs_redis
async def test_the_service_counts_there(make_app: MakeApp, redis: RedisServer) -> None:
    key = new_key()
    line = f"ci:sha256:{digest_of(key).hex()}:rate=4/hour"
    settings = {"api_keys": line, "redis_url": redis.url, "redis_timeout_ms": 1000}
    async with running(make_app(**settings)) as one, running(make_app(**settings)) as other:
        answers = [
            await client.post("/predict", json=ask(), headers={"X-API-Key": key})
            for client in (one, other, one, other, one, other)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    for name in redis.contents():
        assert key.encode() not in name
        assert digest_of(key).hex().encode() not in name


@pytest.mark.parametrize("answer", [None, b"-LOADING not now\r\n" * 8, b"\0\xffnonsense\r\n"])
async def test_what_is_no_redis_delays_one_request_a_little_and_refuses_none(answer: bytes | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                if answer is not None:
                    writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, limiter_at(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", 0.05) as limiter:
        start = time.perf_counter()
        assert (await limiter.take("ci", PLENTY, 1)).allowed
        assert time.perf_counter() - start < 0.5
        start = time.perf_counter()
        for _ in range(50):
            assert (await limiter.take("ci", PLENTY, 1)).allowed
        assert time.perf_counter() - start < 0.25


async def test_while_redis_was_never_there_the_process_counts_by_itself() -> None:
    async with limiter_at(f"redis://127.0.0.1:{free_port()}") as limiter:
        granted = [(await limiter.take("ci", Rate(3, 3600), 1)).allowed for _ in range(5)]
    assert granted == [True, True, True, False, False]


async def test_both_limiters_keep_the_protocol() -> None:
    async with limiter_at("redis://127.0.0.1:1") as shared:
        limiters: list[RateLimiter] = [MemoryRateLimiter(), shared]
        for limiter in limiters:
            assert (await limiter.take("ci", PLENTY, 1)).remaining == 999
            looked = await limiter.look("ci", PLENTY)
            assert (looked.allowed, looked.remaining) == (True, 999)
