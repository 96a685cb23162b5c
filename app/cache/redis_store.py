"""Forecasts in Redis, shared by all processes of a service, and who is computing which of them.

    <prefix>:f:<key>    a packed forecast, for the time to live, spread a little: a burst must not leave at once
    <prefix>:c:<key>    somebody computes it; renewed while that goes on, so that a process that dies is soon replaced

Every look-up of a request is one pipeline. A Redis that cannot be reached opens the breaker; one that refuses a command
(full, read-only, not permitted) answers fast and is asked on. Either way it is a miss: nothing here is worth failing a
request.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from redis.exceptions import ResponseError

from app.breaker import Breaker
from app.cache.codec import Codec, Values
from app.cache.redis_client import Client, close_client
from app.cache.stores import Claim
from app.metrics import Metrics
from model.engines.base import Query

log = structlog.get_logger()

#: A claim that is not renewed ends after this; its owner renews it three times in that time.
_CLAIM_MS = 1500
#: How often somebody who waits for another process looks.
_LOOK_SECONDS = 0.004


class RedisStore:
    """See `app.cache.stores.Store`. One per process and event loop."""

    def __init__(
        self,
        client: Client,
        codec: Codec,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        ttl_seconds: float,
        prefix: str,
    ) -> None:
        self._client, self._codec, self._metrics = client, codec, metrics
        self._timeout_seconds, self._ttl_seconds = timeout_seconds, ttl_seconds
        self._prefix = prefix.encode()
        self._breaker = Breaker(self._probe, metrics.shared_cache_up)
        #: Claims of this process, each with the task that renews it and those claimed with it.
        self._renewing: dict[bytes, asyncio.Task[None]] = {}

    async def get_many(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        kept = await self._piped(lambda pipe: [pipe.get(self._forecast(key)) for key in queries])
        return self._unpacked(queries, kept or [])

    async def put_many(self, queries: Mapping[bytes, Query], values: Mapping[bytes, Values]) -> None:
        own = self._forget(set(values))

        def put(pipe: Any) -> None:
            for key, found in values.items():
                lifetime = int(1000 * self._ttl_seconds * random.uniform(0.95, 1.05))
                pipe.set(self._forecast(key), self._codec.pack(key, queries[key], found), px=lifetime)
                if key in own:  # after the value: whoever can claim it next finds it
                    pipe.delete(self._claim(key))

        await self._piped(put)

    async def claim(self, queries: Mapping[bytes, Query]) -> Claim:
        def ask(pipe: Any) -> None:
            for key in queries:
                pipe.set(self._claim(key), b"1", nx=True, px=_CLAIM_MS)
                pipe.get(self._forecast(key))

        answers = await self._piped(ask)
        if answers is None:
            return Claim(set(queries))
        won = {key for key, taken in zip(queries, answers[::2], strict=True) if taken or _refused(taken)}
        found = self._unpacked(queries, answers[1::2])
        claimed = {key for key in won if key not in found}
        if won:
            renewing = asyncio.create_task(self._renew(frozenset(won)))
            self._renewing |= dict.fromkeys(won, renewing)
        await self.release(won - claimed)
        return Claim(claimed, found)

    async def await_others(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        found: dict[bytes, Values] = {}
        waiting = dict(queries)
        while waiting:
            asked = tuple(waiting)

            def look(pipe: Any, keys: tuple[bytes, ...] = asked) -> None:
                for key in keys:  # the claim before the value: neither there, it was given up
                    pipe.exists(self._claim(key))
                    pipe.get(self._forecast(key))

            answers = await self._piped(look)
            if answers is None:
                break
            found |= self._unpacked(waiting, answers[1::2])
            held = {key for key, claim in zip(asked, answers[::2], strict=True) if claim == 1}
            waiting = {key: queries[key] for key in asked if key in held and key not in found}
            if waiting:
                await asyncio.sleep(_LOOK_SECONDS)
        return found

    async def release(self, keys: set[bytes]) -> None:
        own = self._forget(keys)
        if own:
            await self._piped(lambda pipe: [pipe.delete(self._claim(key)) for key in own])

    async def close(self) -> None:
        await self.release(set(self._renewing))
        await self._breaker.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout_seconds):
                await close_client(self._client)

    async def _probe(self) -> None:
        async with asyncio.timeout(self._timeout_seconds):
            await self._client.get(self._forecast(b"probe"))

    async def _renew(self, keys: frozenset[bytes]) -> None:
        """Until cancelled, which the last of the keys to be forgotten does."""
        while True:
            await asyncio.sleep(_CLAIM_MS / 3000)
            mine = tuple(keys & self._renewing.keys())

            def renew(pipe: Any, own: tuple[bytes, ...] = mine) -> None:
                for key in own:
                    pipe.pexpire(self._claim(key), _CLAIM_MS)

            await self._piped(renew)

    def _forget(self, keys: set[bytes]) -> set[bytes]:
        """Stop renewing the claims among the keys, and say which they were."""
        own = keys & self._renewing.keys()
        ended = {self._renewing.pop(key) for key in own}
        for task in ended.difference(self._renewing.values()):
            task.cancel()
        return own

    async def _piped(self, fill: Callable[[Any], object]) -> list[Any] | None:
        """Answers to all commands that `fill` puts into a pipeline; None where Redis cannot be asked."""
        if not self._breaker.closed:
            return None
        pipe: Any = self._client.pipeline(transaction=False)
        try:
            fill(pipe)
            # redis-py bounds each read and each connect; here all of them together.
            async with asyncio.timeout(self._timeout_seconds):
                answers: list[Any] = await pipe.execute(raise_on_error=False)
        except Exception as error:
            self._failed(error)
            return None
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if not failures:
            return answers
        unreachable = next((failure for failure in failures if not _refused(failure)), None)
        if unreachable is not None:
            self._failed(unreachable)
            return None
        self._metrics.cache("error")
        log.warning("shared_cache_refused", error=type(failures[0]).__name__)
        return answers

    def _failed(self, error: Exception) -> None:
        self._metrics.cache("error")
        self._breaker.failed(error)

    def _unpacked(self, queries: Mapping[bytes, Query], kept: list[Any]) -> dict[bytes, Values]:
        found = {}
        for (key, query), content in zip(queries.items(), kept, strict=False):
            values = self._codec.unpack(key, query, content) if isinstance(content, bytes) else None
            if values is not None:
                found[key] = values
        return found

    def _forecast(self, key: bytes) -> bytes:
        return b"%b:f:%b" % (self._prefix, key)

    def _claim(self, key: bytes) -> bytes:
        return b"%b:c:%b" % (self._prefix, key)


def _refused(answer: object) -> bool:
    """Whether Redis was reached and did not want the command."""
    return isinstance(answer, ResponseError)
