"""Rate limits counted in Redis, for all processes of a service together.

A Redis that is dead, hung, slow or unwilling refuses nobody: the breaker opens, and until a probe in the background has
had an answer this process counts by itself. Whoever meets the failure waits for one time-out; nobody else waits at all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge

from app.auth.limiter import MemoryRateLimiter, Standing, Windows
from app.auth.rates import Rate
from app.breaker import Breaker
from app.cache.redis_client import Client, close_client


class _ClientStorage(RedisStorage):
    """The storage of `limits` over a client of ours: a server, Sentinels or a cluster, with our time-outs."""

    STORAGE_SCHEME = ["async+redis-client"]  # noqa: RUF012 - as the base class has it

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        super().__init__("async+redis://", implementation="redispy", key_prefix=prefix)

    def configure_bridge(self) -> None:
        bridge = cast(RedispyBridge, self.bridge)
        bridge.connection_getter = lambda _: self._client  # type: ignore[assignment,return-value]


class RedisRateLimiter:
    """See `app.auth.limiter.RateLimiter`. One per process and event loop."""

    def __init__(self, client: Client, *, timeout_seconds: float, prefix: str) -> None:
        self._client, self._timeout_seconds, self._prefix = client, timeout_seconds, prefix
        self._windows = Windows(_ClientStorage(client, f"{prefix}:rate"))
        self._alone = MemoryRateLimiter()
        self._breaker = Breaker(self._probe, lambda _: None, what="shared_rates")

    async def take(self, client: str, rate: Rate, cost: int) -> Standing:
        return await self._shared_or(
            lambda: self._take(client, rate, cost), lambda: self._alone.take(client, rate, cost)
        )

    async def look(self, client: str, rate: Rate) -> Standing:
        return await self._shared_or(
            lambda: self._windows.look(client, rate), lambda: self._alone.look(client, rate)
        )

    async def _take(self, client: str, rate: Rate, cost: int) -> Standing:
        # Both at once, one round trip; what is left may be told as it was just before.
        allowed, found = await asyncio.gather(
            self._windows.hit(client, rate, cost), self._windows.standing(client, rate, cost, True)
        )
        return found if allowed else await self._windows.standing(client, rate, cost, False)

    async def _shared_or(
        self, shared: Callable[[], Awaitable[Standing]], alone: Callable[[], Awaitable[Standing]]
    ) -> Standing:
        """What Redis says in time, or else this process."""
        if not self._breaker.closed:
            return await alone()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await shared()
        except Exception as error:
            self._breaker.failed(error)
            return await alone()

    async def close(self) -> None:
        await self._breaker.close()
        await close_client(self._client)

    async def _probe(self) -> None:
        async with asyncio.timeout(self._timeout_seconds):
            await self._client.get(f"{self._prefix}:rate:probe")
